/*
 * Products with weights that a library computes in place of a code path's own
 * kernels: both operands in bfloat16, sums in float32 and in the library's
 * order, which open and prepare find to be the same for every number of rows.
 */
#ifndef SINKD_ENGINE_MATMUL_H
#define SINKD_ENGINE_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/kernels.h"

/* Rows of activations are padded with zeros to a multiple of so many columns. */
enum { MATMUL_COLUMNS = 32 };

static inline int64_t
matmul_pad(int64_t cols)
{
	return (cols + MATMUL_COLUMNS - 1) / MATMUL_COLUMNS * MATMUL_COLUMNS;
}

struct matmul; /* the library's state: of one backend, for so many threads */

struct matmul_ops {
	/*
	 * NULL with *e set: EX_UNAVAILABLE (the library is not there, has no kernel, or its sums depend on the number of
	 * rows here), EX_OSERR.
	 */
	struct matmul *(*open)(int threads, struct err *e);
	void (*close)(struct matmul *m); /* may be NULL */

	/* Are weights of a type multiplied by the library? */
	bool (*takes)(uint32_t type);

	/* Make everything that products with so many columns need. Returns 0, or -1 with *e set as open does. */
	int (*prepare)(struct matmul *m, int64_t cols, struct err *e);

	/*
	 * Rows [first, first + rows) of w, rows <= TILE, rounded and in the
	 * library's order; missing rows are zero. tile_size: bytes of such a tile,
	 * which is 64-byte aligned. scratch: PANEL * BLOCK_K floats.
	 */
	size_t (*tile_size)(int64_t cols);
	void (*pack)(const struct cpu_kernels *k, const struct weight *w, int64_t first, int rows, void *tile,
	    float *scratch);

	/*
	 * y[n, PANEL * n_panels] (leading dimension ldy; with ldy = TILE all of a
	 * row is written) = x[n, matmul_pad(cols)] times a tile. Allocates nothing.
	 */
	void (*product)(struct matmul *m, int worker, const uint16_t *x, int n, int64_t cols, const void *tile,
	    int n_panels, float *y, int64_t ldy);
};

extern const struct matmul_ops matmul_onednn;

#endif
