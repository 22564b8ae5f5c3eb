/*
 * Bytes of one input are split into lines. A line longer than allowed is
 * reported once, by its start, and the rest of it discarded, in constant memory.
 */
#ifndef SINKD_STREAM_LINES_H
#define SINKD_STREAM_LINES_H

#include "stream/line.h"

struct lines;

/* max: bytes that a line may have, newline not counted. Returns NULL when there is no memory. */
struct lines *lines_new(size_t max);
void lines_free(struct lines *l);

/* Begin elsewhere than at the start of the input. To be called first. */
void lines_start_at(struct lines *l, const struct place *p);

/*
 * Where the next bytes go, *n of them at most, to be called when lines_peek
 * has no more; lines_commit says how many came. NULL: no memory.
 */
char *lines_reserve(struct lines *l, size_t *n);
void lines_commit(struct lines *l, size_t n);

/* The same for bytes that are somewhere else already. Returns false when there is no memory. */
bool lines_add(struct lines *l, const char *bytes, size_t n);

/* Keep no more memory than what is held takes, and say how much that is. */
size_t lines_trim(struct lines *l);

/* What is held of an unfinished line is reported as one that is too long, and its rest discarded. */
void lines_cut(struct lines *l);

/* The input ends here: what is left is a line, even without a newline. */
void lines_end(struct lines *l);
bool lines_have_ended(const struct lines *l);

/*
 * The next whole line, or NULL if more bytes are needed. It stays the next
 * one, and its bytes stay, until lines_pop.
 */
const struct line *lines_peek(struct lines *l);
void lines_pop(struct lines *l);

#endif
