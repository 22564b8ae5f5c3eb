/* Results and the lines of requests; see result.h. */
#include "daemon/result.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "stream/text.h"

void
result_drop(struct result *r)
{
	if (r->type == RESULT_LINE)
		free(r->line);
	if (r->type == RESULT_DONE)
		request_free(r->request);
}

void
result_begin(struct buf *out, const char *key, const struct request *q, const char *type)
{
	buf_printf(out, "{%s:{\"type\":\"%s\"", key, type);
	if (q != NULL && q->id != NULL) {
		buf_add_text(out, ",\"id\":");
		buf_add_text(out, q->id);
	}
}

static void
add_text(struct buf *out, const char *name, const char *text, size_t len)
{
	buf_printf(out, ",\"%s\":", name);
	text_add_json(out, text, len);
}

void
result_write_delta(struct buf *out, const char *key, const struct request *q, const char *text, size_t len)
{
	result_begin(out, key, q, "delta");
	add_text(out, "text", text, len);
	buf_add_text(out, "}}\n");
}

static void
add_view(struct buf *out, const struct memory_view *v)
{
	if (v->events > 0)
		buf_printf(out, ",\"view\":{\"events\":%" PRId64 ",\"from\":%" PRId64 ",\"to\":%" PRId64
		    ",\"from_time\":%.3f,\"to_time\":%.3f}", v->events, v->from, v->to, 1e-6 * (double)v->from_time,
		    1e-6 * (double)v->to_time);
}

void
result_write_reply(struct buf *out, const char *key, const struct request *q, const struct reply *r,
    double waited)
{
	result_begin(out, key, q, "reply");
	add_text(out, "text", r->text.data, r->text.len);
	if (q->reply.schema != NULL) {
		buf_add_text(out, ",\"json\":");
		buf_add(out, r->text.data, r->text.len);
	}
	add_view(out, &r->view);
	buf_printf(out, ",\"end\":\"%s\",\"asked\":%d,\"tokens\":%d,\"waited\":%.4f,\"first\":%.4f,\"seconds\":%.4f}}\n",
	    reply_end_names[r->end], r->asked, r->tokens, waited, r->first, r->seconds);
}

void
result_write_error(struct buf *out, const char *key, const struct request *q, const char *fault,
    const char *reason)
{
	result_begin(out, key, q, "error");
	add_text(out, "fault", fault, strlen(fault));
	add_text(out, "reason", reason, strlen(reason));
	buf_add_text(out, "}}\n");
}
