/* Bytes become lines; see lines.h. */
#include "stream/lines.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

enum {
	READ = 1 << 16, /* bytes asked for at once */
	KEEP = 1 << 17, /* memory kept after a long line */
};

struct lines {
	size_t max;
	struct buf bytes;
	size_t start;     /* of the line in hand, in bytes */
	size_t next;      /* of the one after it, while peeked */
	size_t scanned;   /* bytes after start known to hold no newline */
	int64_t number;   /* lines begun */
	int64_t offset;   /* in the input, of the first of bytes */
	bool peeked, discarding, ended;
	bool cutting;     /* what is held is to be cut, however long it is */
	struct line line; /* while peeked */
};

struct lines *
lines_new(size_t max)
{
	struct lines *l = calloc(1, sizeof *l);

	if (l != NULL)
		l->max = max;
	return l;
}

void
lines_start_at(struct lines *l, const struct place *p)
{
	l->offset = p->offset;
	l->number = p->line;
	l->discarding = p->within;
}

void
lines_free(struct lines *l)
{
	if (l == NULL)
		return;
	buf_fini(&l->bytes);
	free(l);
}

/* Drop what was given out, and the memory that a long line took. */
static void
shrink(struct lines *l)
{
	buf_consume(&l->bytes, l->start);
	l->offset += (int64_t)l->start;
	l->start = 0;
	if (l->bytes.cap > KEEP && l->bytes.len <= KEEP - READ)
		buf_trim(&l->bytes, KEEP);
}

char *
lines_reserve(struct lines *l, size_t *n)
{
	assert(!l->peeked && !l->ended);
	shrink(l);
	*n = READ;
	return buf_reserve(&l->bytes, READ);
}

void
lines_commit(struct lines *l, size_t n)
{
	assert(n <= READ);
	l->bytes.len += n;
}

bool
lines_add(struct lines *l, const char *bytes, size_t n)
{
	assert(!l->peeked && !l->ended);
	shrink(l);
	buf_add(&l->bytes, bytes, n);
	return !l->bytes.failed;
}

size_t
lines_trim(struct lines *l)
{
	if (l->peeked)
		return l->bytes.len;
	shrink(l);
	if (l->bytes.len == 0)
		buf_fini(&l->bytes);
	else if (l->bytes.cap > l->bytes.len + l->bytes.len / 2)
		buf_trim(&l->bytes, l->bytes.len);
	return l->bytes.len;
}

void
lines_cut(struct lines *l)
{
	l->cutting = l->bytes.len > l->start;
}

void
lines_end(struct lines *l)
{
	l->ended = true;
}

bool
lines_have_ended(const struct lines *l)
{
	return l->ended;
}

static const struct line *
give(struct lines *l, size_t len, size_t next)
{
	bool cut = len > l->max || l->cutting;

	l->line = (struct line){
		.data = l->bytes.data + l->start,
		.len = len > l->max ? l->max : len,
		.number = ++l->number,
		.cut = cut,
		.after = {l->offset + (int64_t)next, l->number, l->discarding},
	};
	l->cutting = false;
	l->next = next;
	l->peeked = true;
	return &l->line;
}

/* The rest of a line that was reported as too long; returns true when its end has come. */
static bool
discard(struct lines *l)
{
	const char *from, *newline;

	if (l->bytes.len == l->start)
		return false;
	from = l->bytes.data + l->start;
	newline = memchr(from, '\n', l->bytes.len - l->start);
	l->start = newline == NULL ? l->bytes.len : l->start + (size_t)(newline - from) + 1;
	l->discarding = newline == NULL;
	return newline != NULL;
}

const struct line *
lines_peek(struct lines *l)
{
	const char *from, *newline = NULL;
	size_t len;

	if (l->peeked)
		return &l->line;
	if (l->discarding && !discard(l))
		return NULL;
	len = l->bytes.len - l->start;
	if (len == 0)
		return NULL;
	from = l->bytes.data + l->start;
	if (len > l->scanned)
		newline = memchr(from + l->scanned, '\n', len - l->scanned);
	if (newline != NULL)
		return give(l, (size_t)(newline - from), l->start + (size_t)(newline - from) + 1);
	l->scanned = len;
	if (len > l->max || l->cutting) {
		l->discarding = true;
		return give(l, len, l->bytes.len);
	}
	if (l->ended)
		return give(l, len, l->bytes.len);
	return NULL;
}

void
lines_pop(struct lines *l)
{
	assert(l->peeked);
	l->peeked = false;
	l->start = l->next;
	l->scanned = 0;
	if (l->start == l->bytes.len)
		shrink(l);
}
