/*
 * Byte-pair merging: joins neighbouring symbols, best rank first and leftmost
 * among equals, until no pair can be joined. Takes O(n log n) for n symbols.
 */
#ifndef SINKD_ENGINE_MERGE_H
#define SINKD_ENGINE_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A piece of text on its way to becoming a token. */
struct merge_symbol {
	int32_t id;         /* token, or -1 */
	uint32_t start;     /* where its text starts, bytes */
	uint32_t len;       /* of its text; 0: joined to the symbol on its left */
	int32_t prev, next; /* neighbours, -1: none */
	uint32_t rank;      /* of the pair with next, MERGE_NONE: cannot be joined */
	int32_t joined;     /* token that this pair makes */
};

#define MERGE_NONE UINT32_MAX

struct merge {
	struct merge_symbol *symbols; /* in text order */
	size_t n, room;
	uint64_t *heap;               /* rank << 32 | index of the left symbol */
	size_t n_heap, heap_room;
};

/*
 * What joining two symbols gives: true, *rank < MERGE_NONE (the least is
 * joined first) and *id; or false, with both untouched. arg is merge_run's.
 */
typedef bool merge_find_fn(const void *arg, const struct merge_symbol *a, const struct merge_symbol *b, uint32_t *rank,
    int32_t *id);

/*
 * Start over with room for max symbols (< INT32_MAX); a struct merge of zeros
 * is empty. Returns 0, or -1 with *e set (EX_OSERR).
 */
int merge_start(struct merge *m, size_t max, struct err *e);
void merge_add(struct merge *m, int32_t id, size_t start, size_t len);

/* Join. Afterwards the symbols left are symbols[0] and what follows by next. */
void merge_run(struct merge *m, merge_find_fn *find, const void *arg);

void merge_fini(struct merge *m);

#endif
