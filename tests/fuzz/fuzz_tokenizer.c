/*
 * Fuzz target: two bytes choose a vocabulary, one the flags, the rest is a
 * text. It is encoded as the slow plain way does, and decoding gives it back
 * where the tokenizer promises that.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/tokenizer.h"
#include "plain_tokenizer.h"

enum { SEEDS = 16, TEXT = 400 };

static struct made {
	struct plain *plain;
	struct tokenizer *tokenizer;
} all[PLAIN_KINDS][SEEDS];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct made *
make(unsigned kind, unsigned seed)
{
	struct made *m = &all[kind][seed];

	if (m->plain == NULL) {
		m->plain = plain_new((int)kind, seed);
		m->tokenizer = tokenizer_new_gguf(m->plain->gguf, NULL);
		assert(m->tokenizer != NULL);
	}
	return m;
}

/* Append what each token stands for, as the tokenizer and as the plain way say. */
static void
decode(const struct made *m, const int32_t *ids, size_t n, struct buf *out)
{
	char text[PLAIN_TEXT];

	for (size_t i = 0; i < n; i++) {
		size_t len, want = plain_decode(m->plain, ids[i], text);
		const char *bytes = tokenizer_decode(m->tokenizer, ids[i], true, false, &len);

		assert(len == want && memcmp(bytes, text, len) == 0);
		bytes = tokenizer_decode(m->tokenizer, ids[i], true, i == 0, &len);
		buf_add(out, bytes, len);
	}
	assert(!out->failed);
}

/* The text with U+2581 as a space. */
static size_t
make_expected(const char *text, size_t len, char *to)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		if (len - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0) {
			to[n++] = ' ';
			i += 2;
		} else
			to[n++] = text[i];
	return n;
}

static void
check_decoded(const struct plain *p, const char *text, size_t len, bool special, const struct buf *out)
{
	char expected[TEXT];
	size_t n;

	/* Behind a control token kind llama puts a space that no text had. */
	if (p->lossy || (special && p->space_prefix))
		return;
	if (p->bpe) {
		assert(out->len == len && memcmp(out->data, text, len) == 0);
		return;
	}
	/* In a control token's text U+2581 stays: none has any. */
	n = make_expected(text, len, expected);
	assert(out->len == n && memcmp(out->data, expected, n) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int32_t want[2 * TEXT + 1];
	struct buf out = { 0 };
	struct err e = { 0 };
	const int32_t *ids;
	struct made *m;
	bool special;
	char *text;
	size_t n;

	if (size <= 3 || size > TEXT)
		return 0;
	m = make(data[0] % PLAIN_KINDS, data[1] % SEEDS);
	special = (data[2] & 1) != 0;
	size -= 3;
	text = malloc(size); /* of its own, so that reading beyond is seen */
	assert(text != NULL);
	memcpy(text, data + 3, size);
	n = plain_encode(m->plain, text, size, special, want);
	assert(tokenizer_encode(m->tokenizer, text, size, special ? TOKENIZER_PARSE_SPECIAL : 0, &ids,
	    &e) == (int64_t)n);
	assert(n <= 2 * size + 1 && (n == 0 || memcmp(ids, want, n * sizeof *ids) == 0));
	decode(m, want, n, &out);
	check_decoded(m->plain, text, size, special, &out);
	buf_fini(&out);
	free(text);
	return 0;
}
