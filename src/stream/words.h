/* A set of words that can be asked for a word and for the beginning of one. */
#ifndef SINKD_STREAM_WORDS_H
#define SINKD_STREAM_WORDS_H

#include <stdbool.h>
#include <stddef.h>

struct words;

/* NULL when there is no memory. */
struct words *words_new(void);
void words_free(struct words *w);

/* Bytes, at most 64 KiB. Running out of memory is remembered until words_sort. */
void words_add(struct words *w, const char *word, size_t len);

/* To be called after the last words_add and before the questions. Returns false when there was no memory. */
bool words_sort(struct words *w);

bool words_have(const struct words *w, const char *word, size_t len);
bool words_have_prefix(const struct words *w, const char *prefix, size_t len);

#endif
