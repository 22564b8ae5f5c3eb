/*
 * Byte-level BPE. In the vocabulary a byte is written as a character: those
 * that print in Latin-1 as themselves, the others as U+0100, U+0101, ... in
 * order (GPT-2's alphabet).
 */
#include "engine/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define KEY "tokenizer.ggml."

/* A run of bpe_encode. */
struct run {
	struct bpe *b;
	const char *text;
	int32_t *ids;
	int64_t n;
	struct err *e;
};

/* The character that byte is written as. */
static int32_t
character_of(unsigned char byte)
{
	if (byte <= 0x20)
		return 0x100 + byte;
	if (byte >= 0x7f && byte <= 0xa0)
		return 0x121 + byte - 0x7f;
	return byte == 0xad ? 0x143 : byte;
}

/* The byte that character c means, or -1. */
static int
bpe_byte_of(int32_t c)
{
	if (c >= 0x100 && c <= 0x120)
		return c - 0x100;
	if (c >= 0x121 && c <= 0x142)
		return c - 0x121 + 0x7f;
	if (c == 0x143)
		return 0xad;
	return c >= 0 && c < 0x100 && character_of((unsigned char)c) == c ? c : -1;
}

/* Write byte as the vocabulary does. Returns 1 or 2, the bytes written. */
static size_t
write_byte(char *to, unsigned char byte)
{
	int32_t c = character_of(byte);

	if (c < 0x80) {
		to[0] = (char)c;
		return 1;
	}
	to[0] = (char)(0xc0 | c >> 6);
	to[1] = (char)(0x80 | (c & 0x3f));
	return 2;
}

size_t
bpe_decode(struct gguf_string text, char *to)
{
	size_t n = 0;

	for (size_t i = 0; i < text.len;) {
		int32_t c;
		int byte;

		i += utf8_decode(text.data + i, text.len - i, &c);
		byte = bpe_byte_of(c);
		if (byte < 0) { /* not written in that alphabet: it stands for itself */
			memcpy(to, text.data, text.len);
			return text.len;
		}
		to[n++] = (char)byte;
	}
	return n;
}

static size_t
bpe_hash(const struct bpe *b, int32_t left, int32_t right)
{
	uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;

	return (size_t)(h >> 32) & b->mask;
}

/* The slot that holds this pair, or the free one where it belongs. */
static struct bpe_pair *
bpe_find_slot(const struct bpe *b, int32_t left, int32_t right)
{
	size_t i = bpe_hash(b, left, right);

	while (b->pairs[i].left != -1 && (b->pairs[i].left != left || b->pairs[i].right != right))
		i = (i + 1) & b->mask;
	return &b->pairs[i];
}

/* Merge number i, written "left right". */
static int
add_merge(struct bpe *b, const struct gguf *g, int64_t i, struct gguf_string text, struct err *e)
{
	const struct vocab *v = b->vocab;
	const char *space = text.len > 1 ? memchr(text.data + 1, ' ', text.len - 1) : NULL;
	size_t left_len, right_len;
	int32_t left, right, joined = -1;
	struct bpe_pair *slot;

	if (space == NULL)
		return err_set(e, EX_DATAERR, "%s: " KEY "merges: merge %lld is not two tokens", gguf_get_path(g),
		    (long long)i);
	left_len = (size_t)(space - text.data);
	right_len = text.len - left_len - 1;
	left = vocab_find(v, text.data, left_len);
	right = vocab_find(v, space + 1, right_len);
	if (left_len + right_len <= v->max_len) {
		memcpy(b->word, text.data, left_len);
		memcpy(b->word + left_len, space + 1, right_len);
		joined = vocab_find(v, b->word, left_len + right_len);
	}
	if (left < 0 || right < 0 || joined < 0)
		return err_set(e, EX_DATAERR, "%s: " KEY "merges: merge %lld does not make a token of two others",
		    gguf_get_path(g), (long long)i);
	slot = bpe_find_slot(b, left, right);
	if (slot->left == -1) /* else it is listed again, and the first place counts */
		*slot = (struct bpe_pair){ left, right, (uint32_t)i, joined };
	return 0;
}

static int
load_merges(struct bpe *b, const struct gguf *g, struct err *e)
{
	enum gguf_value_type type = GGUF_STRING;
	int64_t n = gguf_get_array(g, KEY "merges", &type);
	size_t slots = 16;

	if (n < 0 || type != GGUF_STRING)
		return err_set(e, EX_DATAERR, "%s: no list of merges (" KEY "merges)", gguf_get_path(g));
	if (n > INT32_MAX / 4)
		return err_set(e, EX_DATAERR, "%s: too many merges (%lld)", gguf_get_path(g), (long long)n);
	while (slots < (size_t)n * 2)
		slots *= 2;
	b->mask = slots - 1;
	b->pairs = malloc(slots * sizeof *b->pairs);
	if (b->pairs == NULL)
		return err_set(e, EX_OSERR, "%s: no memory for %lld merges", gguf_get_path(g), (long long)n);
	memset(b->pairs, -1, slots * sizeof *b->pairs);
	for (int64_t i = 0; i < n; i++) {
		struct gguf_string text;

		gguf_get_array_string(g, KEY "merges", i, &text);
		if (add_merge(b, g, i, text, e) != 0)
			return -1;
	}
	return 0;
}

int
bpe_init(struct bpe *b, const struct vocab *v, const struct specials *specials, const struct gguf *g, struct err *e)
{
	struct gguf_string name = { "default", 7 };
	struct err why;

	memset(b, 0, sizeof *b);
	b->vocab = v;
	b->specials = specials;
	if (gguf_has_key(g, KEY "pre") && !gguf_get_string(g, KEY "pre", &name))
		return err_set(e, EX_DATAERR, "%s: " KEY "pre is not a string", gguf_get_path(g));
	b->presplit = presplit_new(name, &why);
	if (b->presplit == NULL)
		return err_set(e, why.code, "%s: %s", gguf_get_path(g), why.text);
	b->word = malloc(v->max_len + 2);
	if (b->word == NULL)
		return err_set(e, EX_OSERR, "%s: no memory for a tokenizer", gguf_get_path(g));
	for (int i = 0; i < 256; i++)
		b->byte_ids[i] = vocab_find(v, b->word, write_byte(b->word, (unsigned char)i));
	return load_merges(b, g, e);
}

void
bpe_fini(struct bpe *b)
{
	free(b->word);
	merge_fini(&b->merge);
	free(b->pairs);
	presplit_free(b->presplit);
}

static bool
bpe_find_pair(const void *arg, const struct merge_symbol *a, const struct merge_symbol *b, uint32_t *rank, int32_t *id)
{
	const struct bpe_pair *pair = bpe_find_slot(arg, a->id, b->id);

	if (pair->left == -1)
		return false;
	*rank = pair->rank;
	*id = pair->joined;
	return true;
}

/* The token of the whole piece, or -1. */
static int32_t
bpe_find_whole(struct bpe *b, const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (n >= b->vocab->max_len)
			return -1;
		n += write_byte(b->word + n, (unsigned char)text[i]);
	}
	return vocab_find(b->vocab, b->word, n);
}

static int
encode_piece(void *arg, size_t start, size_t len)
{
	struct run *r = arg;
	struct bpe *b = r->b;
	const char *text = r->text + start;

	if (presplit_takes_whole_pieces(b->presplit)) {
		int32_t id = bpe_find_whole(b, text, len);

		if (id >= 0) {
			r->ids[r->n++] = id;
			return 0;
		}
	}
	if (merge_start(&b->merge, len, r->e) != 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		int32_t id = b->byte_ids[(unsigned char)text[i]];

		if (id >= 0)
			merge_add(&b->merge, id, start + i, 1);
	}
	if (b->merge.n == 0)
		return 0;
	merge_run(&b->merge, bpe_find_pair, b);
	for (int32_t i = 0; i != -1; i = b->merge.symbols[i].next)
		r->ids[r->n++] = b->merge.symbols[i].id;
	return 0;
}

int64_t
bpe_encode(struct bpe *b, const char *text, size_t len, int32_t *ids, struct err *e)
{
	struct run r = { b, text, ids, 0, e };
	size_t at = 0, start = 0, matched = 0;

	while (start < len) {
		int32_t id = specials_next(b->specials, text, len, SPECIALS_USER, &at, &matched);

		r.text = text + start;
		if (at > start && presplit_run(b->presplit, r.text, at - start, encode_piece, &r, e) != 0)
			return -1;
		if (id >= 0) {
			ids[r.n++] = id;
			at += matched;
		}
		start = at;
	}
	return r.n;
}
