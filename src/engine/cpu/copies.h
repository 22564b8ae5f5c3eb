/* Memory for weights that are kept in another order than in the file; see weights.c. */
#ifndef SINKD_ENGINE_COPIES_H
#define SINKD_ENGINE_COPIES_H

#include <stddef.h>
#include <stdint.h>

struct copies;

/* At most this number of bytes; -1: see memory_get_share. NULL: no memory. */
struct copies *copies_new(int64_t bytes);
void copies_free(struct copies *c);

/* 64-byte aligned memory for a weight, or NULL: none is left. */
void *copies_take(struct copies *c, size_t size);

/* One weight is kept no more. With the last one all memory is given back. */
void copies_drop(struct copies *c);

#endif
