/*
 * The tokenizer of engine.h: finds control tokens in a text and gives what is
 * between them to one of the two kinds, bpe.c or spm.c.
 */
#include "engine/tokenizer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bpe.h"
#include "engine/specials.h"
#include "engine/spm.h"
#include "engine/vocab.h"

enum kind { KIND_BPE, KIND_SPM };

enum { MAX_TEXT = INT32_MAX / 4 }; /* bytes; what symbols can count, U+2581 included */

struct tokenizer {
	enum kind kind;
	struct vocab vocab;
	struct specials specials;
	union {
		struct bpe bpe;
		struct spm spm;
	};
	int32_t *ids;   /* what tokenizer_encode gave */
	size_t n, room;
	char *bytes;    /* what tokenizer_decode gave, vocab.max_len */
};

static int
init(struct tokenizer *t, const struct gguf *g, struct err *e)
{
	struct gguf_string model;

	if (!gguf_get_string(g, "tokenizer.ggml.model", &model))
		return err_set(e, EX_DATAERR, "%s: no tokenizer (tokenizer.ggml.model)", gguf_get_path(g));
	if (model.len == 4 && memcmp(model.data, "gpt2", 4) == 0)
		t->kind = KIND_BPE;
	else if (model.len == 5 && memcmp(model.data, "llama", 5) == 0)
		t->kind = KIND_SPM;
	else
		return err_set(e, EX_DATAERR, "%s: tokenizer.ggml.model is '%.*s', which is not supported",
		    gguf_get_path(g), (int)(model.len < 64 ? model.len : 64), model.data);
	if (vocab_init(&t->vocab, g, e) != 0 || specials_init(&t->specials, &t->vocab, t->kind == KIND_SPM, e) != 0)
		return -1;
	t->bytes = malloc(t->vocab.max_len + 1);
	if (t->bytes == NULL)
		return err_set(e, EX_OSERR, "%s: no memory for a tokenizer", gguf_get_path(g));
	if (t->kind == KIND_BPE)
		return bpe_init(&t->bpe, &t->vocab, &t->specials, g, e);
	return spm_init(&t->spm, &t->vocab, &t->specials, g, e);
}

struct tokenizer *
tokenizer_new_gguf(const struct gguf *g, struct err *e)
{
	struct tokenizer *t = calloc(1, sizeof *t);

	if (t == NULL) {
		err_set(e, EX_OSERR, "%s: no memory for a tokenizer", gguf_get_path(g));
		return NULL;
	}
	if (init(t, g, e) != 0) {
		tokenizer_free(t);
		return NULL;
	}
	return t;
}

void
tokenizer_free(struct tokenizer *t)
{
	if (t == NULL)
		return;
	if (t->kind == KIND_BPE)
		bpe_fini(&t->bpe);
	else
		spm_fini(&t->spm);
	free(t->bytes);
	free(t->ids);
	specials_fini(&t->specials);
	vocab_fini(&t->vocab);
	free(t);
}

/* Room for all tokens of len bytes: each special token and what follows it may bring one more than it has bytes. */
static int
reserve(struct tokenizer *t, size_t len, struct err *e)
{
	size_t max = 2 * len + 1;

	t->n = 0;
	if (max <= t->room)
		return 0;
	free(t->ids);
	t->room = max + max / 2;
	t->ids = malloc(t->room * sizeof *t->ids);
	if (t->ids != NULL)
		return 0;
	t->room = 0;
	return err_set(e, EX_OSERR, "no memory for the tokens of %zu bytes of text", len);
}

/* Encode at least one byte of text without control tokens. */
static int
encode_text(struct tokenizer *t, const char *text, size_t len, struct err *e)
{
	int64_t n;

	if (t->kind == KIND_BPE)
		n = bpe_encode(&t->bpe, text, len, t->ids + t->n, e);
	else
		n = spm_encode(&t->spm, text, len, t->ids + t->n, e);
	if (n < 0)
		return -1;
	t->n += (size_t)n;
	assert(t->n <= t->room);
	return 0;
}

int64_t
tokenizer_encode(struct tokenizer *t, const char *text, size_t len, unsigned flags, const int32_t **ids,
    struct err *e)
{
	unsigned kinds = (flags & TOKENIZER_PARSE_SPECIAL) != 0 ? SPECIALS_CONTROL : 0;
	size_t at = 0, start = 0, matched = 0;

	if (len > MAX_TEXT)
		return err_set(e, EX_DATAERR, "%zu bytes of text are too many to encode at once", len);
	if (reserve(t, len, e) != 0)
		return -1;
	while (start < len) {
		int32_t id = specials_next(&t->specials, text, len, kinds, &at, &matched);

		if (at > start && encode_text(t, text + start, at - start, e) != 0)
			return -1;
		if (id >= 0) {
			t->ids[t->n++] = id;
			at += matched;
		}
		start = at;
	}
	*ids = t->ids;
	return (int64_t)t->n;
}

/* What t->bytes hold without the space that encoding puts before a text. */
static const char *
drop_prefix(const struct tokenizer *t, size_t *len)
{
	if (t->kind != KIND_SPM || !t->spm.space_prefix || *len == 0 || t->bytes[0] != ' ')
		return t->bytes;
	--*len;
	return t->bytes + 1;
}

const char *
tokenizer_decode(struct tokenizer *t, int32_t id, bool special, bool first, size_t *len)
{
	struct gguf_string text;

	*len = 0;
	if (id < 0 || id >= t->vocab.n)
		return "";
	text = t->vocab.texts[id];
	switch ((enum vocab_type)t->vocab.types[id]) {
	case VOCAB_CONTROL:
	case VOCAB_UNKNOWN:
		*len = special ? text.len : 0;
		return text.data;
	case VOCAB_BYTE:
		t->bytes[0] = (char)vocab_parse_byte(text);
		*len = 1;
		return first ? drop_prefix(t, len) : t->bytes;
	case VOCAB_USER_DEFINED:
	case VOCAB_NORMAL:
	case VOCAB_UNUSED:
		break;
	}
	if (t->kind == KIND_BPE) {
		if (t->vocab.types[id] == VOCAB_USER_DEFINED) { /* written as it is, not in bytes */
			*len = text.len;
			return text.data;
		}
		*len = bpe_decode(text, t->bytes);
		return t->bytes;
	}
	*len = spm_decode(text, t->bytes);
	return first ? drop_prefix(t, len) : t->bytes;
}
