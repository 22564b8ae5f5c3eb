/* The line that a record becomes on output; see annotate.h. */
#include "stream/annotate.h"

#include <string.h>

#include "stream/fault.h"
#include "stream/json_write.h"

static void
add_score(struct buf *out, const struct record *r)
{
	const struct score *s = &r->score;
	const char *reason = r->reason[0] != '\0' ? r->reason : s->tokens > 0 ?
	    "the first token of a stream has no score" : "the model's vocabulary has no token for this text";

	json_write_int(out, "tokens", s->tokens);
	if (s->scored != s->tokens)
		json_write_int(out, "scored", s->scored);
	if (s->scored > 0) {
		json_write_number(out, "nll", s->nll);
		json_write_number(out, "surprise", score_get_surprise(s->nll, s->scored));
	} else
		json_write_string(out, "reason", reason, strlen(reason));
	if (s->peak_len > 0) {
		json_write_raw(out, "peak", "{", 1);
		json_write_string(out, "text", s->peak, s->peak_len);
		json_write_number(out, "nll", (double)s->peak_nll);
		buf_add(out, "}", 1);
	}
}

static void
add_event(struct buf *out, const struct record *r, const char *key)
{
	if (r->wrap) {
		buf_add(out, "{", 1);
		json_write_string(out, "text", r->raw, r->raw_len);
	} else
		buf_add(out, r->raw, r->raw_len);
	envelope_join(out, key, "event", r->bare);
	json_write_int(out, "seq", r->seq);
	add_score(out, r);
	buf_add(out, r->members.data, r->members.len);
	out->failed |= r->members.failed;
	envelope_end(out);
}

static void
add_error(struct buf *out, const struct record *r, const char *key)
{
	envelope_begin(out, key, "error", NULL);
	json_write_int(out, "seq", r->seq);
	if (r->input != NULL)
		json_write_string(out, "input", r->input, strlen(r->input));
	json_write_int(out, "line", r->line);
	fault_write(out, r->server_fault ? FAULT_SERVER : FAULT_INPUT, r->reason);
	json_write_string(out, "start", r->raw, r->raw_len);
	envelope_end(out);
}

void
annotate_write(struct buf *out, const struct record *r, const char *key)
{
	if (r->type == RECORD_ERROR)
		add_error(out, r, key);
	else
		add_event(out, r, key);
}
