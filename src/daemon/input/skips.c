/* Events that were left out; see skips.h. */
#include "daemon/input/skips.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "stream/json_write.h"
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
	static const char reason[] = "more events than can be read";
	int64_t others = s->count;

	envelope_begin(out, key, "skipped", NULL);
	json_write_int(out, "from", s->from);
	json_write_int(out, "to", s->to);
	json_write_int(out, "count", s->count);
	json_write_string(out, "reason", reason, strlen(reason));
	json_write_raw(out, "sources", "{", 1);
	for (int i = 0; i < s->n; i++) {
		text_add_json(out, s->sources[i].name, strlen(s->sources[i].name));
		buf_printf(out, ":%" PRId64 "%s", s->sources[i].count, i + 1 < s->n ? "," : "");
		others -= s->sources[i].count;
	}
	buf_add(out, "}", 1);
	if (others > 0)
		json_write_int(out, "others", others);
	envelope_end(out);
	*s = (struct skips){0};
}
