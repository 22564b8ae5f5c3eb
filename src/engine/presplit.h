/*
 * Splitting of text into the pieces that byte-level BPE works on, by the
 * patterns that a file's tokenizer.ggml.pre names (PCRE2, compiled to machine
 * code where the system allows that).
 */
#ifndef SINKD_ENGINE_PRESPLIT_H
#define SINKD_ENGINE_PRESPLIT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "engine/gguf.h"

struct presplit;

/* A splitter by name. Returns NULL with *e set: EX_DATAERR (a name that is not known, named) or EX_OSERR. */
struct presplit *presplit_new(struct gguf_string name, struct err *e);
void presplit_free(struct presplit *p);

/* The vocabulary of such a tokenizer is asked for a whole piece before any merging. */
bool presplit_takes_whole_pieces(const struct presplit *p);

/* Receives one piece, len >= 1 bytes at start. Returns 0, or -1 to stop. */
typedef int presplit_fn(void *arg, size_t start, size_t len);

/*
 * Give the pieces of len bytes of text to fn, in order and without gaps. Bytes
 * that are not valid UTF-8 each count as a control character. Returns 0, -1
 * if fn did, or -1 with *e set (EX_OSERR: no memory).
 */
int presplit_run(struct presplit *p, const char *text, size_t len, presplit_fn *fn, void *arg, struct err *e);

#endif
