/* What the model reads for an event; see render.h. */
#include "stream/render.h"

#include <stdbool.h>

static bool
is_blank(const char *text, size_t len)
{
	while (len > 0 && (text[len - 1] == ' ' || (text[len - 1] >= '\t' && text[len - 1] <= '\r')))
		len--;
	return len == 0;
}

void
render_event(struct buf *out, const char *source, size_t source_len, const char *text, size_t text_len)
{
	while (text_len > 0 && (text[text_len - 1] == '\n' || text[text_len - 1] == '\r'))
		text_len--;
	if (is_blank(text, text_len))
		return;
	if (source_len > 0) {
		buf_add(out, source, source_len);
		buf_add(out, ": ", 2);
	}
	buf_add(out, text, text_len);
	buf_add(out, "\n", 1);
}
