/*
 * SentencePiece's BPE, tokenizer.ggml.model "llama": characters are joined to
 * tokens, best score first; spaces are written U+2581; bytes are the fallback.
 */
#ifndef SINKD_ENGINE_SPM_H
#define SINKD_ENGINE_SPM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/gguf.h"
#include "engine/merge.h"
#include "engine/specials.h"
#include "engine/vocab.h"

struct spm {
	const struct vocab *vocab;
	const struct specials *specials;
	bool space_prefix;     /* a space is put before what is encoded */
	int32_t byte_ids[256]; /* byte tokens, or -1 */
	struct merge merge;
	char *text;            /* with spaces as U+2581 */
	size_t room;
};

/*
 * v and its specials, with spaces escaped, must outlive s. Returns 0, or -1
 * with *e set (EX_DATAERR); s is to be given to spm_fini in any case.
 */
int spm_init(struct spm *s, const struct vocab *v, const struct specials *specials, const struct gguf *g,
    struct err *e);
void spm_fini(struct spm *s);

/*
 * Write the tokens of len bytes of text, user-defined ones included, at most
 * len + 1 of them, to ids. Returns their number, or -1 with *e set (EX_OSERR).
 */
int64_t spm_encode(struct spm *s, const char *text, size_t len, int32_t *ids, struct err *e);

/* text with its U+2581 as spaces; to has room for text.len. Returns the length. */
size_t spm_decode(struct gguf_string text, char *to);

#endif
