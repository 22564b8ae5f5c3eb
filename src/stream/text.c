/* Text on its way out; see text.h. */
#include "stream/text.h"

#include <string.h>

#include "base/utf8.h"

void
text_add_clean(struct buf *b, const char *bytes, size_t len)
{
	struct utf8 u;
	char *p = buf_reserve(b, 3 * (len + 2));

	if (p == NULL)
		return;
	utf8_init(&u);
	b->len += utf8_feed(&u, bytes, len, p);
	b->len += utf8_flush(&u, b->data + b->len);
}

static void
add_escaped(struct buf *b, unsigned c)
{
	switch (c) {
	case '"':
		buf_add(b, "\\\"", 2);
		break;
	case '\\':
		buf_add(b, "\\\\", 2);
		break;
	case '\n':
		buf_add(b, "\\n", 2);
		break;
	case '\r':
		buf_add(b, "\\r", 2);
		break;
	case '\t':
		buf_add(b, "\\t", 2);
		break;
	default:
		buf_printf(b, "\\u%04x", c);
	}
}

void
text_add_json(struct buf *b, const char *text, size_t len)
{
	size_t plain = 0, i = 0; /* [plain, i): to be copied as it is */

	buf_add(b, "\"", 1);
	while (i < len) {
		unsigned char c = (unsigned char)text[i];
		/* U+0080 to U+009F are c2 80 to c2 9f. */
		bool c1 = c == 0xc2 && i + 1 < len && (unsigned char)text[i + 1] < 0xa0;

		if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f && !c1) {
			i++;
			continue;
		}
		buf_add(b, text + plain, i - plain);
		add_escaped(b, c1 ? (unsigned char)text[i + 1] : c);
		i += c1 ? 2 : 1;
		plain = i;
	}
	buf_add(b, text + plain, i - plain);
	buf_add(b, "\"", 1);
}

void
text_drop_cut(char *s)
{
	size_t n = strlen(s);

	while (n > 0 && !utf8_is_valid(s, n))
		s[--n] = '\0';
}
