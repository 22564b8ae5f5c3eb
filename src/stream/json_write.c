/* JSON on its way out; see json_write.h. */
#include "stream/json_write.h"

#include <inttypes.h>
#include <string.h>

#include "stream/text.h"

void
json_write_name(struct buf *b, const char *name)
{
	if (b->len > 0 && b->data[b->len - 1] != '{')
		buf_add(b, ",", 1);
	buf_add(b, "\"", 1);
	buf_add_text(b, name);
	buf_add(b, "\":", 2);
}

void
json_write_string(struct buf *b, const char *name, const char *text, size_t len)
{
	json_write_name(b, name);
	text_add_json(b, text, len);
}

void
json_write_int(struct buf *b, const char *name, int64_t v)
{
	json_write_name(b, name);
	buf_printf(b, "%" PRId64, v);
}

/* printf is not told of any locale, so the point is a point. */
void
json_write_number(struct buf *b, const char *name, double v)
{
	json_write_name(b, name);
	buf_printf(b, "%.6g", v);
}

void
json_write_raw(struct buf *b, const char *name, const char *json, size_t len)
{
	json_write_name(b, name);
	buf_add(b, json, len);
}

void
envelope_join(struct buf *b, const char *key, const char *type, bool first)
{
	buf_printf(b, "%s%s:{\"type\":\"%s\"", first ? "" : ",", key, type);
}

void
envelope_begin(struct buf *b, const char *key, const char *type, const char *id)
{
	buf_add(b, "{", 1);
	envelope_join(b, key, type, true);
	if (id != NULL)
		json_write_raw(b, "id", id, strlen(id));
}

void
envelope_end(struct buf *b)
{
	buf_add_text(b, "}}\n");
}
