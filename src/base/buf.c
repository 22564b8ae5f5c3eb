/* A growing run of bytes; see buf.h. */
#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 256 };

static bool
resize_buf(struct buf *b, size_t cap)
{
	char *p = realloc(b->data, cap);

	if (p == NULL)
		return false;
	b->data = p;
	b->cap = cap;
	return true;
}

void
buf_fini(struct buf *b)
{
	free(b->data);
	memset(b, 0, sizeof *b);
}

void
buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

void
buf_trim(struct buf *b, size_t keep)
{
	if (keep < b->len)
		keep = b->len;
	if (keep == 0)
		buf_fini(b);
	else if (b->cap > keep)
		resize_buf(b, keep); /* a failure leaves what was there */
}

char *
buf_reserve(struct buf *b, size_t n)
{
	size_t cap = b->cap < SMALLEST ? SMALLEST : b->cap, want;

	if (b->failed || __builtin_add_overflow(b->len, n, &want)) {
		b->failed = true;
		return NULL;
	}
	while (cap < want)
		cap = cap > SIZE_MAX / 2 ? want : cap * 2;
	if (cap > b->cap && !resize_buf(b, cap)) {
		b->failed = true;
		return NULL;
	}
	return b->data + b->len;
}

void
buf_add(struct buf *b, const void *bytes, size_t n)
{
	char *p;

	if (n == 0 || (p = buf_reserve(b, n)) == NULL)
		return;
	memcpy(p, bytes, n);
	b->len += n;
}

void
buf_add_text(struct buf *b, const char *text)
{
	buf_add(b, text, strlen(text));
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
	char *p = buf_reserve(b, SMALLEST);
	va_list ap;
	int n;

	if (p == NULL)
		return;
	va_start(ap, fmt);
	n = vsnprintf(p, b->cap - b->len, fmt, ap);
	va_end(ap);
	assert(n >= 0);
	if ((size_t)n >= b->cap - b->len) {
		if ((p = buf_reserve(b, (size_t)n + 1)) == NULL)
			return;
		va_start(ap, fmt);
		vsnprintf(p, (size_t)n + 1, fmt, ap);
		va_end(ap);
	}
	b->len += (size_t)n;
}

void
buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->len);
	b->len -= n;
	if (b->len > 0)
		memmove(b->data, b->data + n, b->len);
}
