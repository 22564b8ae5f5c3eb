/* Products of a few rows with weights: what gemv.cu, gemv_operand.cuh and gemv_rows.cuh share. */
#ifndef SINKD_CUDA_MATVEC_CUH
#define SINKD_CUDA_MATVEC_CUH

#include "product/prefetch.cuh"
#include "product/ring.cuh"

enum {
	THREADS = 256, WARPS = THREADS / 32, COLUMNS = 8, SHARED_PAD = 8, BLOCKS = 2,
	DEPTH_MAX = 2,
	BLOCK_RESERVED = 1024, /* bytes of shared memory for each block */
	PARTS_MAX = 4,         /* tiles whose parts meet in shared memory at a time */
	BARRIERS = WARPS * DEPTH_MAX + PARTS_MAX, RING_AT = (BARRIERS * 8 + 127) / 128 * 128,
};

struct operand_matrix {
	struct packed p;
	const void *data;     /* halves or floats, row-major */
	const float *bias;
	float *y;
	int64_t rows, ld;
	int tiles;
};

struct gemv_job {
	struct operand_matrix out[LINEAR_MAX];
	int count, units;          /* units: tiles, or pairs of tiles for a gated activation */
	int n, steps;
	int each;                  /* steps of a batch */
	int depth;                 /* batches of a warp that are on their way, */
	int early;                 /* and those of them that are asked for before the operand */
	int64_t cols, ldx;         /* ldx: from row to row in shared memory, halves */
	const float *x32;
	const __half *x16;
	int64_t ld16;
	enum norm_kind norm;
	float eps;
	const float *norm_weight, *norm_bias;
	float unscale, clamp;
	enum gemv_mode mode;
	bool gated;
	const float *extra;
	enum activation act;
	__half *y16;
	int64_t y16_ld;
	float y16_scale;
	struct prefetch prefetch;
};

/* The warps' sums of a tile in shared memory, of one column; the pad lets all lanes store at once. */
typedef float column_sums[TILE_ROWS + 4];

/*
 * The operand in shared memory: halves [n][ldx], 16 zeros behind them, then
 * sums of blocks [n][steps * blocks], see gemv_rows.cuh.
 */
struct operand {
	__half *x;
	float *sums;
};

static __device__ __forceinline__ struct operand
operand_at(const gemv_job &j, unsigned char *at)
{
	__half *x = reinterpret_cast<__half *>(at);

	return { x, reinterpret_cast<float *>(x + j.n * j.ldx + 16) };
}

/* sums: bytes of the sums of a step. */
static inline size_t
operand_bytes(int n, int64_t steps, size_t sums)
{
	return (size_t)n * ((size_t)(steps * STEP + SHARED_PAD) * sizeof(__half) + (size_t)steps * sums) + 16 *
	    sizeof(__half);
}

#endif
