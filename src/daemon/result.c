/* Results and the lines of requests; see result.h. */
#include "daemon/result.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "stream/json_write.h"

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
	envelope_begin(out, key, type, q == NULL ? NULL : q->id);
}

void
result_write_delta(struct buf *out, const char *key, const struct request *q, const char *text, size_t len)
{
	result_begin(out, key, q, "delta");
	json_write_string(out, "text", text, len);
	envelope_end(out);
}

static void
result_add_view(struct buf *out, const struct memory_view *v)
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
	json_write_string(out, "text", r->text.data, r->text.len);
	if (q->reply.schema != NULL)
		json_write_raw(out, "json", r->text.data, r->text.len);
	result_add_view(out, &r->view);
	json_write_string(out, "end", reply_end_names[r->end], strlen(reply_end_names[r->end]));
	json_write_int(out, "asked", r->asked);
	json_write_int(out, "tokens", r->tokens);
	buf_printf(out, ",\"waited\":%.4f,\"first\":%.4f,\"seconds\":%.4f", waited, r->first, r->seconds);
	envelope_end(out);
}

void
result_write_error(struct buf *out, const char *key, const struct request *q, enum fault fault,
    const char *reason)
{
	result_begin(out, key, q, "error");
	fault_write(out, fault, reason);
	envelope_end(out);
}
