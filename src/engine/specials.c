/* Special tokens in a text; see specials.h. */
#include "engine/specials.h"

#include <stdlib.h>
#include <string.h>

static bool
is_special(const struct vocab *v, int32_t id)
{
	return v->texts[id].len > 0 && (v->types[id] == VOCAB_CONTROL || v->types[id] == VOCAB_UNKNOWN
	    || v->types[id] == VOCAB_USER_DEFINED);
}

static int
specials_compare(const void *a, const void *b)
{
	const struct special *x = a, *y = b;
	int c = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);

	if (c != 0)
		return c;
	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* Copy text to to, which has room for three times its length, with U+2581 for spaces. Returns the length. */
static size_t
copy_escaped(char *to, struct gguf_string text)
{
	size_t n = 0;

	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] == ' ') {
			memcpy(to + n, "\xe2\x96\x81", 3);
			n += 3;
		} else {
			to[n++] = text.data[i];
		}
	}
	return n;
}

int
specials_init(struct specials *s, const struct vocab *v, bool escape, struct err *e)
{
	size_t n = 0, bytes = 0;
	char *p;

	memset(s, 0, sizeof *s);
	for (int32_t id = 0; id < v->n; id++)
		if (is_special(v, id)) {
			n++;
			bytes += v->texts[id].len;
		}
	s->list = calloc(n + 1, sizeof *s->list);
	s->store = malloc(3 * bytes + 1);
	if (s->list == NULL || s->store == NULL)
		return err_set(e, EX_OSERR, "no memory for %zu special tokens", n);
	p = s->store;
	for (int32_t id = 0; id < v->n; id++) {
		struct special *sp = &s->list[s->n];

		if (!is_special(v, id))
			continue;
		sp->id = id;
		sp->kind = v->types[id] == VOCAB_USER_DEFINED ? SPECIALS_USER : SPECIALS_CONTROL;
		sp->text = v->texts[id].data;
		sp->len = v->texts[id].len;
		if (sp->kind == SPECIALS_USER && escape) {
			sp->text = p;
			sp->len = copy_escaped(p, v->texts[id]);
			p += sp->len;
		}
		s->n++;
		s->kinds |= sp->kind;
	}
	qsort(s->list, s->n, sizeof *s->list, specials_compare);
	for (size_t i = 0, c = 0; c <= 256; c++) {
		while (i < s->n && (unsigned char)s->list[i].text[0] < c)
			i++;
		s->first[c] = i;
	}
	return 0;
}

void
specials_fini(struct specials *s)
{
	free(s->list);
	free(s->store);
}

/* The first of list[low..high) whose byte at depth is >= c. */
static size_t
narrow(const struct specials *s, size_t low, size_t high, size_t depth, unsigned c)
{
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if ((unsigned char)s->list[mid].text[depth] < c)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The longest one at the start of the len >= 1 bytes at text, or -1. */
static int32_t
specials_match(const struct specials *s, const char *text, size_t len, unsigned kinds, size_t *matched)
{
	unsigned c = (unsigned char)text[0];
	size_t low = s->first[c], high = s->first[c + 1];
	int32_t found = -1;

	/* list[low..high) are those that start with the depth bytes at text. */
	for (size_t depth = 1; low < high; depth++) {
		for (; low < high && s->list[low].len == depth; low++)
			if ((s->list[low].kind & kinds) != 0) {
				found = s->list[low].id;
				*matched = depth;
			}
		if (depth == len)
			break;
		c = (unsigned char)text[depth];
		low = narrow(s, low, high, depth, c);
		high = narrow(s, low, high, depth, c + 1);
	}
	return found;
}

int32_t
specials_next(const struct specials *s, const char *text, size_t len, unsigned kinds, size_t *at, size_t *matched)
{
	if ((s->kinds & kinds) != 0)
		for (; *at < len; ++*at) {
			int32_t id = specials_match(s, text + *at, len - *at, kinds, matched);

			if (id >= 0)
				return id;
		}
	*at = len;
	return -1;
}
