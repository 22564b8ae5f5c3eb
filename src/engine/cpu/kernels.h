/*
 * The inner loops of the CPU backend, one table per code path. Everything
 * here works for one thread on one tile. In every path each result is a sum
 * in an order of its own, independent of how many rows a call has.
 */
#ifndef SINKD_ENGINE_KERNELS_H
#define SINKD_ENGINE_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/backend.h"
#include "engine/quant.h"

enum {
	PANEL = 16,          /* outputs side by side in a packed panel; equals CACHE_BLOCK */
	TILE = 3 * PANEL,    /* rows of a weight matrix that are packed and multiplied at a time */
	BLOCK_K = 1536,      /* columns packed at a time; a multiple of every quantised block */
	FEW_ROWS = 4,        /* so few rows of activations are multiplied with weights as they are unpacked */
};

/*
 * The number format of a product: both operands as they are; both rounded to
 * bfloat16; quantised weights as they are, activations rounded to 8 bits in
 * blocks.
 */
enum panel_kind { PANEL_F32, PANEL_BF16, PANEL_Q8 };

/* A block of activations: x[i] = scale * q[i]. The first four are written together. */
enum { Q8_BLOCK = 32 };
struct q8_block {
	float scale;
	float sum;           /* scale * the sum of q */
	float half_sums[2];  /* the same for q[0..15] and q[16..31] */
	int8_t q[Q8_BLOCK];
};

/* Words of 16 rows of w, see transpose. */
static inline int64_t
kernels_count_words(const struct weight *w)
{
	return (int64_t)((quant_row_size(w->type, w->cols) + 3) / 4) * PANEL;
}

/* Those of the rows from `first` on, where they are kept; else NULL. */
static inline const uint32_t *
kernels_kept_words(const struct weight *w, int64_t first)
{
	const uint32_t *words = w->device;

	return words != NULL ? words + first / PANEL * kernels_count_words(w) : NULL;
}

/* Are the words that are kept the panels that pack makes? */
static inline bool
kernels_keeps_panels(enum panel_kind kind, const struct weight *w)
{
	return w->device != NULL && (w->type == QUANT_F32 || (w->type == QUANT_BF16 && kind == PANEL_BF16));
}

/* Bytes of a panel for Q8_BLOCK columns, see pack; scales: 1, or 2 for types that have one for 16 columns. */
#define Q8_PANEL_BLOCK(scales) (PANEL * Q8_BLOCK + (scales) * 2 * PANEL * (int)sizeof(float))

struct cpu_kernels {
	/* The product that weights of a type are multiplied with. */
	enum panel_kind (*kind)(uint32_t type);

	/* y[n] = the weights of a type at src. */
	void (*decode)(uint32_t type, const void *src, int64_t n, float *y);

	/*
	 * Is a type read by way of words, and the words of 16 rows (fewer: the
	 * others are zero) from row `first` on: words[i][PANEL] holds bytes 4 i ..
	 * 4 i + 3 of columns [k0, k0 + k) in every row; k0 is a multiple of 512.
	 * transpose is NULL where no type is.
	 */
	bool (*wants_words)(uint32_t type);
	void (*transpose)(const struct weight *w, int64_t first, int rows, int64_t k0, int64_t k, uint32_t *words);

	/*
	 * Columns [k0, k0 + k) of rows [first, first + rows) of w, rows <= TILE, in
	 * panels of PANEL rows, each *stride bytes behind the one before: float32
	 * [k][PANEL], or bfloat16 [k/2][PANEL][2] (an odd k is padded with a zero),
	 * or [k/32] of: numbers [8][PANEL][4] without sign, scales [1 or 2][PANEL],
	 * offsets [1 or 2][PANEL]: a weight is scale * number + offset. Missing rows
	 * of the last panel are zero. The result lies in `panels`, or where the
	 * weights are kept in words. scratch: PANEL * BLOCK_K floats.
	 */
	const void *(*pack)(enum panel_kind kind, const struct weight *w, int64_t first, int rows, int64_t k0,
	    int64_t k, void *panels, float *scratch, int64_t *stride);

	/*
	 * y[n] = x[n] rounded to bfloat16 (to nearest even); an odd n is padded with a zero. y may begin where x
	 * does.
	 */
	void (*to_bf16)(const float *x, int64_t n, uint16_t *y);

	/*
	 * y[n / Q8_BLOCK] = x[n]; n is a multiple of Q8_BLOCK; the scale of a block with a number that is not finite is
	 * not finite. NULL where no kind is PANEL_Q8.
	 */
	void (*to_q8_blocks)(const float *x, int64_t n, struct q8_block *y);

	/*
	 * y[n] = x[n] rounded to float16 (to nearest even; too large a number becomes the largest, what is not finite
	 * stays so), and back.
	 */
	void (*to_f16)(const float *x, int64_t n, uint16_t *y);
	void (*from_f16)(const uint16_t *x, int64_t n, float *y);

	/*
	 * Pairs of bfloat16 rows back to float32: y[2 p + b][lanes] = x[p][lanes][2]
	 * at b, for p < pairs.
	 */
	void (*from_pairs)(const uint16_t *x, int64_t lanes, int64_t pairs, float *y);

	/*
	 * y[n] = x[n] in units of the scale that makes the largest 127; returns
	 * the scale, NaN where a number is not finite. Back: y[i] = x[i] * scales[0], or with lanes scales[i mod
	 * PANEL] (n is then a multiple of PANEL).
	 */
	float (*to_q8)(const float *x, int64_t n, int8_t *y);
	void (*from_q8)(const int8_t *x, int64_t n, const float *scales, bool lanes, float *y);

	/*
	 * y[i, p * PANEL + l] (+)= sum over k of x[i, k] * panel[p * pstride + k *
	 * kstride + l], for n rows; strides in elements. add: y takes part in the
	 * sum as its first term.
	 */
	void (*product)(const float *x, int64_t ldx, int n, int64_t k, const float *panel, int64_t pstride,
	    int64_t kstride, int n_panels, float *y, int64_t ldy, bool add);

	/*
	 * The same for bfloat16 panels as pack makes them: the strides are those of
	 * panels and of pairs of columns; ldx is even. NULL where no kind is PANEL_BF16.
	 */
	void (*product_bf16)(const uint16_t *x, int64_t ldx, int n, int64_t k, const uint16_t *panel, int64_t pstride,
	    int64_t kstride, int n_panels, float *y, int64_t ldy, bool add);

	/*
	 * The same for panels of PANEL_Q8 that were made of weights of a type; ldx
	 * and k count blocks, pstride bytes. NULL where no kind is PANEL_Q8.
	 */
	void (*product_q8)(uint32_t type, const struct q8_block *x, int64_t ldx, int n, int64_t k, const void *panels,
	    int64_t pstride, int n_panels, float *y, int64_t ldy, bool add);

	/*
	 * y[n, PANEL] = x times the 16 rows of a weight whose words these are: what
	 * pack and product_q8 give, to the bit; n <= FEW_ROWS, k counts columns.
	 */
	void (*product_few)(uint32_t type, const struct q8_block *x, int64_t ldx, int n, int64_t k,
	    const uint32_t *words, float *y, int64_t ldy);

	/*
	 * y[n, PANEL * n_panels] = x times float16 weights, from their words; what
	 * pack and product give, to the bit; pstride: words from panel to panel.
	 */
	void (*product_half)(const float *x, int64_t ldx, int n, int64_t k, const uint32_t *words, int64_t pstride,
	    int n_panels, float *y, int64_t ldy);

	/* One row normalised, see struct backend_ops; bias may be NULL. */
	void (*norm)(enum norm_kind kind, float eps, const float *weight, const float *bias, const float *x, int64_t n,
	    float *y);

	/* x[n] = exp(x[n] - m); returns their sum. n is a multiple of PANEL; -INFINITY gives 0, NaN gives NaN. */
	float (*exp_sum)(float *x, int64_t n, float m);

	/* The largest of x[n]; n is a multiple of PANEL. Any number where one of them is NaN. */
	float (*max)(const float *x, int64_t n);

	void (*activate)(enum activation act, const float *gate, const float *up, int64_t n, float *y);

	/* One token's heads rotated by table[n_rot/2][2]; y may be x. */
	void (*rotate)(const struct rope *r, const float *table, const float *x, int heads, int d, float *y);
};

extern const struct cpu_kernels kernels_plain, kernels_generic, kernels_avx2, kernels_avx512, kernels_avx512vnni,
    kernels_avx512bf16;

#endif
