/*
 * Byte-level BPE, tokenizer.ggml.model "gpt2": bytes become symbols, and pairs
 * of symbols are joined in the order of tokenizer.ggml.merges.
 */
#ifndef SINKD_ENGINE_BPE_H
#define SINKD_ENGINE_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/gguf.h"
#include "engine/merge.h"
#include "engine/presplit.h"
#include "engine/specials.h"
#include "engine/vocab.h"

struct bpe_pair {
	int32_t left, right; /* left -1: free slot */
	uint32_t rank;       /* place in the list of merges */
	int32_t joined;
};

struct bpe {
	const struct vocab *vocab;
	const struct specials *specials;
	struct presplit *presplit;
	int32_t byte_ids[256];  /* or -1 */
	struct bpe_pair *pairs; /* hash table */
	size_t mask;            /* its slots - 1 */
	struct merge merge;
	char *word;             /* a piece as the vocabulary writes it, vocab->max_len bytes */
};

/*
 * Load the merges of g. v and its specials must outlive b. Returns 0, or -1
 * with *e set (EX_DATAERR, EX_OSERR); b is to be given to bpe_fini in any case.
 */
int bpe_init(struct bpe *b, const struct vocab *v, const struct specials *specials, const struct gguf *g,
    struct err *e);
void bpe_fini(struct bpe *b);

/*
 * Write the tokens of len bytes of text, user-defined ones included, at most
 * len of them, to ids. Returns their number, or -1 with *e set (EX_OSERR).
 */
int64_t bpe_encode(struct bpe *b, const char *text, size_t len, int32_t *ids, struct err *e);

/* The bytes that a normal token's text stands for; to has room for text.len. Returns their number. */
size_t bpe_decode(struct gguf_string text, char *to);

#endif
