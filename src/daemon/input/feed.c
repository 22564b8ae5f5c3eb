/* What inputs have in common; see feed.h. */
#include "daemon/input/feed.h"

#include <string.h>

#include "stream/text.h"

void
feed_save_place(json_t *object, const struct place *p, enum reader_format format)
{
	json_object_set_new(object, "offset", json_integer(p->offset));
	json_object_set_new(object, "line", json_integer(p->line));
	json_object_set_new(object, "within", json_boolean(p->within));
	json_object_set_new(object, "format", json_string(reader_format_names[format]));
}

bool
feed_load_place(const json_t *object, struct place *p, enum reader_format *format)
{
	const json_t *offset = json_object_get(object, "offset"), *line = json_object_get(object, "line");
	const char *name = json_string_value(json_object_get(object, "format"));

	if (!json_is_integer(offset) || !json_is_integer(line) || name == NULL)
		return false;
	p->offset = json_integer_value(offset);
	p->line = json_integer_value(line);
	p->within = json_is_true(json_object_get(object, "within"));
	if (p->offset < 0 || p->offset > FEED_COUNT_MAX || p->line < 0 || p->line > FEED_COUNT_MAX)
		return false;
	for (int i = 0; reader_format_names[i] != NULL; i++)
		if (strcmp(reader_format_names[i], name) == 0) {
			*format = (enum reader_format)i;
			return true;
		}
	return false;
}

bool
feed_give_lines(const struct feed_callbacks *callbacks, void *arg, struct origin *from, struct lines *lines,
    struct place *place, const bool *stopped)
{
	const struct line *line;

	while (!*stopped && (line = lines_peek(lines)) != NULL) {
		if (!callbacks->line(arg, from, line))
			return false;
		*place = line->after;
		lines_pop(lines);
	}
	return !*stopped;
}

char *
feed_make_name(const char *name)
{
	struct buf b = {0};

	text_add_clean(&b, name, strlen(name));
	buf_add(&b, "", 1);
	if (b.failed)
		buf_fini(&b);
	return b.data;
}
