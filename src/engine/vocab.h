/*
 * The vocabulary of a file: texts, types and scores of its tokens, and the way
 * from a text to its token. Checked on loading; read-only afterwards.
 */
#ifndef SINKD_ENGINE_VOCAB_H
#define SINKD_ENGINE_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/gguf.h"

/* The numbers are the file format's. */
enum vocab_type {
	VOCAB_NORMAL = 1, VOCAB_UNKNOWN, VOCAB_CONTROL, VOCAB_USER_DEFINED, VOCAB_UNUSED, VOCAB_BYTE,
};

struct vocab {
	int32_t n;                 /* tokens */
	struct gguf_string *texts; /* [n], borrowed from the file */
	unsigned char *types;      /* [n], enum vocab_type */
	float *scores;             /* [n], 0 where the file has none */
	int32_t unknown;           /* id of the unknown token, or -1 */
	size_t max_len;            /* bytes of the longest text */
	uint32_t *slots;           /* hash table: id + 1, or 0 */
	size_t mask;               /* slots - 1 */
};

/* Load the vocabulary of g, which must outlive v. Returns 0, or -1 with *e set and v to be given to vocab_fini. */
int vocab_init(struct vocab *v, const struct gguf *g, struct err *e);
void vocab_fini(struct vocab *v);

/* The token that text may become when it is no special token's: any but control, unknown and byte tokens; or -1. */
int32_t vocab_find(const struct vocab *v, const char *text, size_t len);

/* The byte that a byte token's text (<0x0A>) stands for, or -1. */
int vocab_parse_byte(struct gguf_string text);

#endif
