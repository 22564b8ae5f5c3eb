/* The line that a record becomes on output; see annotate.h. */
#include "stream/annotate.h"

#include <inttypes.h>
#include <string.h>

#include "stream/text.h"

/*
 * Six digits are more than the float32 logits carry, and printf is not told
 * of any locale, so the point is a point.
 */
static void
add_number(struct buf *out, const char *name, double v)
{
	buf_printf(out, ",\"%s\":%.6g", name, v);
}

static void
add_reason(struct buf *out, const char *reason)
{
	buf_add_text(out, ",\"reason\":");
	text_add_json(out, reason, strlen(reason));
}

static void
add_score(struct buf *out, const struct record *r)
{
	const struct score *s = &r->score;

	buf_printf(out, ",\"tokens\":%" PRId64, s->tokens);
	if (s->scored != s->tokens)
		buf_printf(out, ",\"scored\":%" PRId64, s->scored);
	if (s->scored > 0) {
		add_number(out, "nll", s->nll);
		add_number(out, "surprise", s->nll / (double)s->scored);
	} else if (r->reason[0] != '\0')
		add_reason(out, r->reason);
	else if (s->tokens > 0)
		add_reason(out, "the first token of a stream has no score");
	else
		add_reason(out, "the model's vocabulary has no token for this text");
	if (s->peak_len > 0) {
		buf_add_text(out, ",\"peak\":{\"text\":");
		text_add_json(out, s->peak, s->peak_len);
		add_number(out, "nll", (double)s->peak_nll);
		buf_add_text(out, "}");
	}
}

static void
add_event(struct buf *out, const struct record *r, const char *key)
{
	if (r->wrap) {
		buf_add_text(out, "{\"text\":");
		text_add_json(out, r->raw, r->raw_len);
	} else
		buf_add(out, r->raw, r->raw_len);
	buf_printf(out, "%s%s:{\"type\":\"event\",\"seq\":%" PRId64, r->bare ? "" : ",", key, r->seq);
	add_score(out, r);
	buf_add(out, r->members.data, r->members.len);
	out->failed |= r->members.failed;
	buf_add_text(out, "}}\n");
}

static void
add_error(struct buf *out, const struct record *r, const char *key)
{
	buf_printf(out, "{%s:{\"type\":\"error\",\"seq\":%" PRId64, key, r->seq);
	if (r->input != NULL) {
		buf_add_text(out, ",\"input\":");
		text_add_json(out, r->input, strlen(r->input));
	}
	buf_printf(out, ",\"line\":%" PRId64 ",\"fault\":\"%s\"", r->line, r->server_fault ? "server" : "input");
	add_reason(out, r->reason);
	buf_add_text(out, ",\"start\":");
	text_add_json(out, r->raw, r->raw_len);
	buf_add_text(out, "}}\n");
}

void
annotate_write(struct buf *out, const struct record *r, const char *key)
{
	if (r->type == RECORD_ERROR)
		add_error(out, r, key);
	else
		add_event(out, r, key);
}
