/* SentencePiece's BPE by scores; see spm.h. */
#include "engine/spm.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define KEY "tokenizer.ggml."

static const char space[3] = { '\xe2', '\x96', '\x81' }; /* U+2581 */

static bool
spm_is_space(const char *s, size_t len)
{
	return len >= sizeof space && memcmp(s, space, sizeof space) == 0;
}

int
spm_init(struct spm *s, const struct vocab *v, const struct specials *specials, const struct gguf *g, struct err *e)
{
	memset(s, 0, sizeof *s);
	memset(s->byte_ids, -1, sizeof s->byte_ids);
	s->vocab = v;
	s->specials = specials;
	s->space_prefix = true;
	if (gguf_has_key(g, KEY "add_space_prefix") && !gguf_get_bool(g, KEY "add_space_prefix", &s->space_prefix))
		return err_set(e, EX_DATAERR, "%s: " KEY "add_space_prefix is not a truth value", gguf_get_path(g));
	for (int32_t id = 0; id < v->n; id++)
		if (v->types[id] == VOCAB_BYTE)
			s->byte_ids[vocab_parse_byte(v->texts[id])] = id;
	return 0;
}

void
spm_fini(struct spm *s)
{
	merge_fini(&s->merge);
	free(s->text);
}

/* Write the text as the vocabulary does to s->text. Returns its length, or -1 with *e set. */
static int64_t
write_text(struct spm *s, const char *text, size_t len, struct err *e)
{
	size_t max = sizeof space * (len + 1), n = 0;

	if (max > s->room) {
		free(s->text);
		s->text = malloc(max + max / 2);
		s->room = s->text != NULL ? max + max / 2 : 0;
		if (s->text == NULL)
			return err_set(e, EX_OSERR, "no memory to find the tokens of %zu bytes of text", len);
	}
	if (s->space_prefix) {
		memcpy(s->text, space, sizeof space);
		n = sizeof space;
	}
	for (size_t i = 0; i < len; i++) {
		if (text[i] == ' ') {
			memcpy(s->text + n, space, sizeof space);
			n += sizeof space;
		} else {
			s->text[n++] = text[i];
		}
	}
	return (int64_t)n;
}

/* Higher scores first. */
static uint32_t
spm_rank_of(float score)
{
	uint32_t bits;
	float f = score + 0.0f; /* -0 is 0 */

	memcpy(&bits, &f, sizeof bits);
	return bits >> 31 ? bits : ~(bits | UINT32_C(1) << 31);
}

static bool
spm_find_pair(const void *arg, const struct merge_symbol *a, const struct merge_symbol *b, uint32_t *rank, int32_t *id)
{
	const struct spm *s = arg;
	int32_t joined = vocab_find(s->vocab, s->text + a->start, (size_t)a->len + b->len);

	if (joined < 0)
		return false;
	*rank = spm_rank_of(s->vocab->scores[joined]);
	*id = joined;
	return true;
}

/* Write the tokens of a symbol that is none. unknown: the last token written is the unknown one. */
static size_t
write_bytes(const struct spm *s, const struct merge_symbol *sym, int32_t *ids, bool *unknown)
{
	const char *text = s->text + sym->start;
	size_t len = sym->len, n = 0;

	/* A vocabulary that lacks U+2581 may have the byte that it stands for. */
	if (spm_is_space(text, len)) {
		text = " ";
		len = 1;
	}
	for (size_t i = 0; i < len; i++) {
		int32_t id = s->byte_ids[(unsigned char)text[i]];

		if (id >= 0)
			ids[n++] = id;
		else if (!*unknown && s->vocab->unknown >= 0)
			ids[n++] = s->vocab->unknown;
		*unknown = id < 0;
	}
	return n;
}

/* Write the tokens of s->text[start..end), which has no user-defined ones. Returns their number, or -1 with *e set. */
static int64_t
write_tokens(struct spm *s, size_t start, size_t end, int32_t *ids, bool *unknown, struct err *e)
{
	size_t n = 0;

	if (merge_start(&s->merge, end - start, e) != 0)
		return -1;
	for (size_t i = start, k; i < end; i += k) {
		int32_t c;

		k = utf8_decode(s->text + i, end - i, &c);
		if (c < 0)
			k = 1;
		merge_add(&s->merge, vocab_find(s->vocab, s->text + i, k), i, k);
	}
	merge_run(&s->merge, spm_find_pair, s);
	for (int32_t i = 0; i != -1; i = s->merge.symbols[i].next) {
		const struct merge_symbol *sym = &s->merge.symbols[i];

		if (sym->id < 0) {
			n += write_bytes(s, sym, ids + n, unknown);
		} else {
			ids[n++] = sym->id;
			*unknown = false;
		}
	}
	return (int64_t)n;
}

int64_t
spm_encode(struct spm *s, const char *text, size_t len, int32_t *ids, struct err *e)
{
	int64_t end = write_text(s, text, len, e), n = 0, k;
	size_t at = 0, start = 0, matched = 0;
	bool unknown = false;

	if (end < 0)
		return -1;
	while (start < (size_t)end) {
		int32_t id = specials_next(s->specials, s->text, (size_t)end, SPECIALS_USER, &at, &matched);

		if (at > start) {
			k = write_tokens(s, start, at, ids + n, &unknown, e);
			if (k < 0)
				return -1;
			n += k;
		}
		if (id >= 0) {
			ids[n++] = id;
			unknown = false;
			at += matched;
		}
		start = at;
	}
	return n;
}

size_t
spm_decode(struct gguf_string text, char *to)
{
	size_t n = 0;

	for (size_t i = 0; i < text.len;) {
		bool is = spm_is_space(text.data + i, text.len - i);

		to[n++] = is ? ' ' : text.data[i];
		i += is ? sizeof space : 1;
	}
	return n;
}
