/*
 * What the next product begins with, brought into the second cache. Where a
 * kernel's blocks fill the machine its successor's have no place beside them,
 * and where all its weights were asked for before the operand the memory would
 * rest until the successor begins.
 */
#ifndef SINKD_CUDA_PREFETCH_CUH
#define SINKD_CUDA_PREFETCH_CUH

#include "device.cuh"

/* Bytes: what the memory gives in the three or four microseconds that this takes. */
static const size_t prefetch_bytes = 10 << 20;

/* Pieces of memory that lie in one, of which each warp asks for its part. */
struct prefetch {
	int count;
	struct {
		const char *from;
		uint32_t bytes, each;
	} piece[8];
};

static inline void
prefetch_add(struct prefetch *a, const void *from, size_t bytes, int parts)
{
	const size_t line = 128;

	bytes -= bytes % line;
	if (bytes == 0)
		return;
	a->piece[a->count].from = static_cast<const char *>(from);
	a->piece[a->count].bytes = (uint32_t)bytes;
	a->piece[a->count++].each = (uint32_t)((bytes / (size_t)parts + line) / line * line);
}

/* The first tiles of the matrices w[2], of which the second one may be NULL; parts: warps that ask. */
static inline struct prefetch
prefetch_of(const struct matrix *const *w, int parts)
{
	size_t most = w[1] != NULL ? prefetch_bytes / 2 : prefetch_bytes;
	struct prefetch a = {};

	for (int i = 0; i < 2 && w[i] != NULL && w[i]->type != QUANT_F32; i++) {
		const struct matrix *m = w[i];
		size_t q = 0, h = 0, s = 0, d = 0, tile = (size_t)m->ld * TILE_ROWS * sizeof(__half), steps, tiles;

		if (m->type != QUANT_F16) {
			weights_plane_sizes(m->type, &q, &h, &s, &d);
			tile = (size_t)m->steps * (q + h + s + d / 4);
		}
		/* The last tile of halves may have less rows. */
		tiles = most / tile < (size_t)m->tiles - 1 ? most / tile : (size_t)m->tiles - 1;
		if (m->type == QUANT_F16) {
			prefetch_add(&a, m->half, tiles * tile, parts);
			continue;
		}
		steps = tiles * (size_t)m->steps;
		prefetch_add(&a, m->p.q, steps * q, parts);
		prefetch_add(&a, m->p.h, steps * h, parts);
		prefetch_add(&a, m->p.s, steps * s, parts);
		prefetch_add(&a, m->p.d, steps / 4 * d, parts);
	}
	return a;
}

/* A warp asks for part `part`. */
static __device__ __forceinline__ void
prefetch_start(const struct prefetch &a, int part)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	int i = threadIdx.x % 32;
	uint32_t at;

	if (i >= a.count)
		return;
	at = (uint32_t)part * a.piece[i].each;
	if (at < a.piece[i].bytes)
		asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;"
		             :: "l"(a.piece[i].from + at), "r"(min(a.piece[i].each, a.piece[i].bytes - at)) : "memory");
#endif
}

#endif
