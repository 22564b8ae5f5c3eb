/* A set of words; see words.h. */
#include "stream/words.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

struct word {
	size_t at;      /* in bytes */
	const char *text; /* set by words_sort */
	unsigned len;
};

struct words {
	struct buf bytes, list; /* list: of struct word */
};

struct words *
words_new(void)
{
	return calloc(1, sizeof(struct words));
}

void
words_free(struct words *w)
{
	if (w == NULL)
		return;
	buf_fini(&w->bytes);
	buf_fini(&w->list);
	free(w);
}

void
words_add(struct words *w, const char *word, size_t len)
{
	struct word entry = {.at = w->bytes.len, .len = (unsigned)len};

	buf_add(&w->bytes, word, len);
	buf_add(&w->list, &entry, sizeof entry);
}

static int
compare_words(const void *a, const void *b)
{
	const struct word *x = a, *y = b;
	int c = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);

	return c != 0 ? c : (x->len > y->len) - (x->len < y->len);
}

bool
words_sort(struct words *w)
{
	struct word *list = (struct word *)w->list.data;
	size_t n = w->list.len / sizeof *list;

	if (w->bytes.failed || w->list.failed)
		return false;
	for (size_t i = 0; i < n; i++)
		list[i].text = w->bytes.data + list[i].at;
	if (n > 0)
		qsort(list, n, sizeof *list, compare_words);
	return true;
}

/* The first word that is not less than the given one, or NULL. */
static const struct word *
find_word(const struct words *w, const char *text, size_t len)
{
	const struct word *list = (const struct word *)w->list.data, key = {.text = text, .len = (unsigned)len};
	size_t low = 0, high = w->list.len / sizeof *list;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_words(&list[middle], &key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < w->list.len / sizeof *list ? &list[low] : NULL;
}

bool
words_have(const struct words *w, const char *word, size_t len)
{
	const struct word *f = find_word(w, word, len);

	return f != NULL && f->len == len && memcmp(f->text, word, len) == 0;
}

bool
words_have_prefix(const struct words *w, const char *prefix, size_t len)
{
	const struct word *f = find_word(w, prefix, len);

	return f != NULL && f->len >= len && memcmp(f->text, prefix, len) == 0;
}
