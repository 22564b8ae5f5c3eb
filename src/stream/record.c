/* A record's bytes; see record.h. */
#include "stream/record.h"

#include <stdio.h>
#include <string.h>

#include "stream/stage.h"
#include "stream/text.h"

void
record_fini(struct record *r)
{
	buf_fini(&r->members);
}

size_t
record_get_size(const struct record *r)
{
	return r->raw_len + r->text_len;
}

void
record_keep(struct record *r, char *memory)
{
	if (r->raw_len > 0)
		r->raw = memcpy(memory, r->raw, r->raw_len);
	if (r->text_len > 0)
		r->text = memcpy(memory + r->raw_len, r->text, r->text_len);
}

void
record_fail(struct record *r, const char *reason)
{
	r->type = RECORD_ERROR;
	r->server_fault = true;
	snprintf(r->reason, sizeof r->reason, "%s", reason);
	text_drop_cut(r->reason);
	if (r->raw_len > RECORD_START)
		for (r->raw_len = RECORD_START; (r->raw[r->raw_len] & 0xc0) == 0x80; r->raw_len--)
			;
}

/* ---- the stage: events that the loop no longer wants to have computed - */

static void
skip_marked(void *state, struct record *r)
{
	(void)state;
	if (atomic_load(&r->skip))
		r->type = RECORD_SKIPPED;
}

const struct stage skip_stage = {
	.before = skip_marked,
};
