/* Errors that travel by value; see err.h. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Replace what a terminal or a JSON reader could stumble over. */
static void
make_harmless(char *text)
{
	int32_t c;

	for (size_t n, len = strlen(text); len > 0; text += n, len -= n) {
		n = utf8_decode(text, len, &c);
		if (c < 0x20 || (c >= 0x7f && c < 0xa0))
			memset(text, '?', n);
	}
}

void
err_fill(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (e == NULL)
		return;
	e->code = code;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
	make_harmless(e->text);
}
