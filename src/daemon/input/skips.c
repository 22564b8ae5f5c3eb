/* Events that were left out; see skips.h. */
#include "daemon/input/skips.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "stream/text.h"

void
skips_add(struct skips *s, const struct record *r)
{
	char name[sizeof s->sources[0].name];
	int i, len = (int)(r->source_len < sizeof name ? r->source_len : sizeof name - 1);

	if (s->count++ == 0)
		s->from = r->seq;
	s->to = r->seq;
	snprintf(name, sizeof name, "%.*s", len, len == 0 ? "" : r->text);
	text_drop_cut(name);
	for (i = 0; i < s->n && strcmp(s->sources[i].name, name) != 0; i++)
		;
	if (i == SKIPS_SOURCES)
		return;
	if (i == s->n)
		memcpy(s->sources[s->n++].name, name, sizeof name);
	s->sources[i].count++;
}

void
skips_write(struct skips *s, struct buf *out, const char *key)
{
	int64_t others = s->count;

	buf_printf(out, "{%s:{\"type\":\"skipped\",\"from\":%" PRId64 ",\"to\":%" PRId64 ",\"count\":%" PRId64
	    ",\"reason\":\"more events than can be read\",\"sources\":{", key, s->from, s->to, s->count);
	for (int i = 0; i < s->n; i++) {
		text_add_json(out, s->sources[i].name, strlen(s->sources[i].name));
		buf_printf(out, ":%" PRId64 "%s", s->sources[i].count, i + 1 < s->n ? "," : "");
		others -= s->sources[i].count;
	}
	buf_printf(out, "}");
	if (others > 0)
		buf_printf(out, ",\"others\":%" PRId64, others);
	buf_add_text(out, "}}\n");
	*s = (struct skips){0};
}
