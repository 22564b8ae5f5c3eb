/*
 * Bytes of one input are split into lines. A line longer than allowed is
 * reported once, by its start, and the rest of it discarded, in constant memory.
 */
#ifndef SINKD_STREAM_LINES_H
#define SINKD_STREAM_LINES_H

#include <stddef.h>

#include "stream/reader.h"

struct lines;

/* max: bytes that a line may have, newline not counted. Returns NULL when there is no memory. */
struct lines *lines_new(size_t max);
void lines_free(struct lines *l);

/*
 * Where the next bytes go, *n of them at most, to be called when lines_peek
 * has no more; lines_commit says how many came. NULL: no memory.
 */
char *lines_reserve(struct lines *l, size_t *n);
void lines_commit(struct lines *l, size_t n);

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
