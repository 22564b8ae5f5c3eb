/*
 * Small vocabularies made from a number, as GGUF files and in plain form, and
 * the slowest way to encode with them: every pair of neighbours is looked at
 * again after each join. The tokenizer's fuzz target compares with it.
 */
#ifndef SINKD_TESTS_PLAIN_TOKENIZER_H
#define SINKD_TESTS_PLAIN_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/gguf.h"
#include "engine/presplit.h"

enum { PLAIN_TOKENS = 400, PLAIN_TEXT = 32, PLAIN_MERGES = 96, PLAIN_KINDS = 18 };

struct plain_token {
	char text[PLAIN_TEXT];
	size_t len;
	unsigned char type; /* enum vocab_type */
	float score;
};

struct plain {
	bool bpe, space_prefix;
	const char *pre;      /* bpe: name of the patterns */
	int n, n_merges, unknown;
	struct plain_token tokens[PLAIN_TOKENS];
	struct { int left, right, joined; } merges[PLAIN_MERGES];
	bool lossy;           /* some bytes have no token */
	struct presplit *presplit;
	struct gguf *gguf;
	void *file;           /* its bytes */
};

/* Vocabulary number seed of a kind, 0 .. PLAIN_KINDS-1: BPE by each list of patterns, then SPM. Heap. */
struct plain *plain_new(int kind, uint32_t seed);
void plain_free(struct plain *p);

/* Encode as tokenizer_encode does; ids has room for 2 * len + 1. Returns their number. */
size_t plain_encode(const struct plain *p, const char *text, size_t len, bool special, int32_t *ids);

/* What a token of it stands for; to has room for PLAIN_TEXT. Returns the length. */
size_t plain_decode(const struct plain *p, int32_t id, char *to);

#endif
