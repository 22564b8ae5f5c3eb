/*
 * Weights kept in the order in which products read them (words, see transpose
 * in kernels.h, or a library's tiles, see matmul.h), where memory allows; else
 * every product rearranges what it reads from the file. The results are the
 * same bits.
 */
#ifndef SINKD_ENGINE_COPIES_H
#define SINKD_ENGINE_COPIES_H

#include <stddef.h>
#include <stdint.h>

#include "engine/backend.h"

struct copies;

/* At most so many bytes; -1: see memory_get_share. NULL: no memory. */
struct copies *copies_new(int64_t bytes);
void copies_free(struct copies *c);

/* Operations of struct backend_ops. */
int cpu_load_weight(struct backend *b, struct weight *w, struct err *e);
void cpu_unload_weight(struct backend *b, struct weight *w);

#endif
