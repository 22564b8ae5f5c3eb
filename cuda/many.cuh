/* What both kernels for attention of many tokens share: attend_many.cu, and attend_hopper.cu for compute capability 9.0. */
#ifndef SINKD_CUDA_MANY_CUH
#define SINKD_CUDA_MANY_CUH

#include "rows.cuh"

struct many_job {
	struct attend_call a;
	const __half *q_window, *q_sink; /* [n, n_head, k_ld] */
	float *parts;                    /* [head_kv][tile][split][rows][D + 2], or NULL */
};

/* Where a job's parts will be if its tiles are split among `splits` blocks: false if there is no memory. */
bool attend_get_parts(struct cuda *c, struct many_job *j, int tile_rows, int splits, int width);

/* The splits' parts joined; tile_rows: queries of a tile, width: of a part without what is behind it. */
void attend_join(struct cuda *c, const struct many_job *j, int splits, int tile_rows, int width);

/* The same as attend_many, if this is a GPU for it and a job that is worth it; else false. */
bool attend_hopper(struct cuda *c, const struct many_job *j);

/* How many blocks share the slots of a tile where there are too few tiles for all multiprocessors. */
static inline int
count_splits(const struct cuda *c, const struct cache_view *v, int64_t units, int blocks, int columns)
{
	int splits = (int)(blocks * c->sms / units);
	int64_t useful = v->slots / (4 * columns) + 1;

	splits = splits > useful ? (int)useful : splits;
	return splits > 16 ? 16 : splits < 1 ? 1 : splits;
}

/* 2^x; tiny results are 0. */
static __device__ __forceinline__ float
power(float x)
{
	float y;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

/* Where the tile's columns lie: tiles are counted from the sinks' first; the ring's follow in stream order. */
struct many_range {
	int sink_tiles, begin, end;
	int64_t ring_first;              /* ring tiles before the first one in use */
	int ring_start;                  /* the slot where that begins */
};

template <int COLUMNS>
static __device__ struct many_range
many_range_of(const struct cache_view &v, int64_t low, int64_t high)
{
	struct many_range r = {};
	int64_t sinks = v.sinks < high + 1 ? v.sinks : high + 1;
	int tiles, each;

	r.sink_tiles = (int)((sinks + COLUMNS - 1) / COLUMNS);
	tiles = r.sink_tiles;
	if (high >= v.sinks) {
		r.ring_first = (sight_of(v, low).begin - v.sinks) / COLUMNS;
		r.ring_start = remainder_of(r.ring_first * COLUMNS, v.ring);
		tiles += (int)((high - v.sinks) / COLUMNS - r.ring_first) + 1;
	}
	each = (tiles + gridDim.z - 1) / gridDim.z;
	r.begin = min(each * (int)blockIdx.z, tiles);
	r.end = min(r.begin + each, tiles);
	return r;
}

/* Row r of a tile: its place among the head's slots, or -1. */
template <int COLUMNS>
static __device__ __forceinline__ int
many_slot_of(const struct cache_view &v, const struct many_range &range, int tile, int r)
{
	int at, ring = (int)v.ring;

	if (tile < range.sink_tiles) {
		at = tile * COLUMNS + r;
		return at < v.sink_slots ? at : -1;
	}
	at = range.ring_start + (tile - range.sink_tiles) * COLUMNS + r;
	at = at >= ring ? at - ring : at;
	return (int)v.sink_slots + (at >= ring ? at % ring : at);
}

/*
 * An online softmax's step for one row of a tile, of which a lane has the
 * scores s[n][at], s[n][at + 1] for N groups of 8 columns: the largest so far
 * and the sum of weights go on, sums are to be multiplied by *factor, and the
 * weights come back as pairs of halves. unit: of the scores, in powers of two.
 */
template <int N>
static __device__ __forceinline__ void
soften_row(float (*s)[4], int at, float unit, float *largest, float *weights, float *factor, uint32_t *pairs)
{
	float top = *largest, part = 0, offset;

#pragma unroll
	for (int n = 0; n < N; n++)
		top = fmaxf(top, fmaxf(s[n][at], s[n][at + 1]));
	top = max_lanes<1, 2>(top);
	*factor = *largest == -INFINITY ? 0 : power((*largest - top) * unit);
	*largest = top;
	offset = top == -INFINITY ? 0 : top * unit;
	/* Weights as they are multiplied: their sum is that of the rounded ones. */
#pragma unroll
	for (int n = 0; n < N; n++) {
		__half2 h = __floats2half2_rn(power(s[n][at] * unit - offset), power(s[n][at + 1] * unit - offset));

		part += __low2float(h) + __high2float(h);
		pairs[n] = bits_of(h);
	}
	*weights = *weights * *factor + part;
}

/* The same row's scores as they are meant: scaled where that is not left to `unit`, biased, and masked. */
template <int COLUMNS>
static __device__ __forceinline__ void
mask_row(const struct many_job &j, int head, int64_t token, bool sinks, int64_t base, bool plain, float (*s)[4], int at)
{
	const struct cache_view &v = j.a.v;
	struct sight sight = sight_of(v, token);
	int64_t first = (sinks ? sight.from : sight.begin) - base, last = (sinks ? sight.to : token + 1) - base;
	int from = first < 0 ? 0 : first > COLUMNS ? COLUMNS : (int)first, to = last < 0 ? 0 : last > COLUMNS ? COLUMNS : (int)last;
	int64_t here = (sinks ? sight.here : token) - base;
	float slope = j.a.slopes != NULL ? j.a.slopes[head] : 0;

#pragma unroll
	for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
		for (int e = 0; e < 2; e++) {
			int column = n * 8 + threadIdx.x % 4 * 2 + e;
			float y = s[n][at + e];

			if (!plain)
				y = shape_score(y * j.a.scale, j.a.softcap, slope, here - column);
			s[n][at + e] = column >= from && column < to ? y : -INFINITY;
		}
}

/* A lane's sums of a row, values d = 8 n + 2 t: the result, or a part of it. */
template <int D>
static __device__ __forceinline__ void
put_row(const struct many_job &j, int token, int head, float (*sum)[4], int at, float largest, float weights, float *part)
{
	const struct cache_view &v = j.a.v;
	int t = threadIdx.x % 4;
	float total = sum_lanes<1, 2>(weights), inverse = 1 / total;

#pragma unroll
	for (int n = 0; n < D / 8; n++) {
		int d = n * 8 + 2 * t;

		for (int e = 0; e < 2; e++) {
			float y = sum[n][at + e];

			if (part != NULL)
				part[d + e] = y;
			else if (d + e < v.d_v && j.a.out16 != NULL)
				j.a.out16[token * j.a.ld16 + head * v.d_v + d + e] = to_half(y * inverse);
			else if (d + e < v.d_v)
				j.a.out32[((int64_t)token * j.a.n_head + head) * v.d_v + d + e] = y * inverse;
		}
	}
	if (part != NULL && t == 0) {
		part[D] = largest;
		part[D + 1] = total;
	}
}

#endif
