/* The vocabulary of a file; see vocab.h. */
#include "engine/vocab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEY "tokenizer.ggml."

static uint32_t
vocab_hash(const char *s, size_t len)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
	return (uint32_t)(h ^ h >> 32);
}

static bool
equals(struct gguf_string a, const char *text, size_t len)
{
	return a.len == len && memcmp(a.data, text, len) == 0;
}

/* The slot that holds the token of that text, or the free one where it belongs. */
static size_t
vocab_find_slot(const struct vocab *v, const char *text, size_t len)
{
	size_t i = vocab_hash(text, len) & v->mask;

	while (v->slots[i] != 0 && !equals(v->texts[v->slots[i] - 1], text, len))
		i = (i + 1) & v->mask;
	return i;
}

int32_t
vocab_find(const struct vocab *v, const char *text, size_t len)
{
	int32_t id;

	if (len == 0 || len > v->max_len)
		return -1;
	id = (int32_t)v->slots[vocab_find_slot(v, text, len)] - 1;
	if (id < 0 || v->types[id] == VOCAB_CONTROL || v->types[id] == VOCAB_UNKNOWN || v->types[id] == VOCAB_BYTE)
		return -1;
	return id;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int
vocab_parse_byte(struct gguf_string text)
{
	int high, low;

	if (text.len != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
		return -1;
	high = hex_digit(text.data[3]);
	low = hex_digit(text.data[4]);
	return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static int
load_texts(struct vocab *v, const struct gguf *g, struct err *e)
{
	for (int32_t id = 0; id < v->n; id++) {
		struct gguf_string *text = &v->texts[id];
		size_t slot;

		gguf_get_array_string(g, KEY "tokens", id, text);
		if (text->len == 0)
			continue; /* can neither be found nor be seen */
		slot = vocab_find_slot(v, text->data, text->len);
		if (v->slots[slot] != 0)
			return err_set(e, EX_DATAERR, "%s: tokens %lu and %ld have the same text", gguf_get_path(g),
			    (unsigned long)v->slots[slot] - 1, (long)id);
		v->slots[slot] = (uint32_t)id + 1;
		if (text->len > v->max_len)
			v->max_len = text->len;
	}
	return 0;
}

static int
load_types(struct vocab *v, const struct gguf *g, struct err *e)
{
	enum gguf_value_type type;
	int64_t n = gguf_get_array(g, KEY "token_type", &type);

	memset(v->types, VOCAB_NORMAL, (size_t)v->n);
	if (n != -1 && n != v->n)
		return err_set(e, EX_DATAERR, "%s: %ld tokens, but %lld token types", gguf_get_path(g), (long)v->n,
		    (long long)n);
	for (int32_t id = 0; id < n; id++) {
		int64_t t;

		if (!gguf_get_array_int(g, KEY "token_type", id, &t) || t < VOCAB_NORMAL || t > VOCAB_BYTE)
			return err_set(e, EX_DATAERR, "%s: the type of token %ld is unknown", gguf_get_path(g),
			    (long)id);
		if (t == VOCAB_BYTE && vocab_parse_byte(v->texts[id]) < 0)
			return err_set(e, EX_DATAERR, "%s: token %ld is a byte token whose text names no byte",
			    gguf_get_path(g), (long)id);
		v->types[id] = (unsigned char)t;
	}
	return 0;
}

static int
load_scores(struct vocab *v, const struct gguf *g, struct err *e)
{
	enum gguf_value_type type;
	int64_t n = gguf_get_array(g, KEY "scores", &type);

	if (n != -1 && n != v->n)
		return err_set(e, EX_DATAERR, "%s: %ld tokens, but %lld token scores", gguf_get_path(g), (long)v->n,
		    (long long)n);
	for (int32_t id = 0; id < n; id++) {
		double score;

		if (!gguf_get_array_float(g, KEY "scores", id, &score) || isnan(score))
			return err_set(e, EX_DATAERR, "%s: the score of token %ld is not a number", gguf_get_path(g),
			    (long)id);
		v->scores[id] = (float)score;
	}
	return 0;
}

static int
load_unknown(struct vocab *v, const struct gguf *g, struct err *e)
{
	int64_t id;

	v->unknown = -1;
	if (gguf_get_int(g, KEY "unknown_token_id", &id)) {
		if (id < 0 || id >= v->n)
			return err_set(e, EX_DATAERR, "%s: " KEY "unknown_token_id is %lld, outside the vocabulary",
			    gguf_get_path(g), (long long)id);
		v->unknown = (int32_t)id;
	}
	for (int32_t i = 0; i < v->n && v->unknown == -1; i++)
		if (v->types[i] == VOCAB_UNKNOWN)
			v->unknown = i;
	return 0;
}

int
vocab_init(struct vocab *v, const struct gguf *g, struct err *e)
{
	enum gguf_value_type type;
	int64_t n = gguf_get_array(g, KEY "tokens", &type);
	size_t slots = 16;

	memset(v, 0, sizeof *v);
	if (n < 1 || type != GGUF_STRING)
		return err_set(e, EX_DATAERR, "%s: no vocabulary (" KEY "tokens)", gguf_get_path(g));
	if (n > INT32_MAX / 4)
		return err_set(e, EX_DATAERR, "%s: too many tokens (%lld)", gguf_get_path(g), (long long)n);
	v->n = (int32_t)n;
	while (slots < (size_t)n * 2)
		slots *= 2;
	v->mask = slots - 1;
	v->slots = calloc(slots, sizeof *v->slots);
	v->texts = calloc((size_t)n, sizeof *v->texts);
	v->types = calloc((size_t)n, sizeof *v->types);
	v->scores = calloc((size_t)n, sizeof *v->scores);
	if (v->slots == NULL || v->texts == NULL || v->types == NULL || v->scores == NULL)
		return err_set(e, EX_OSERR, "%s: no memory for %lld tokens", gguf_get_path(g), (long long)n);
	if (load_texts(v, g, e) != 0 || load_types(v, g, e) != 0 || load_scores(v, g, e) != 0)
		return -1;
	return load_unknown(v, g, e);
}

void
vocab_fini(struct vocab *v)
{
	free(v->slots);
	free(v->texts);
	free(v->types);
	free(v->scores);
}
