/*
 * What both kernels for attention of many tokens share: prefill.cu, and prefill_hopper.cu for compute capability
 * 9.0.
 */
#ifndef SINKD_CUDA_PREFILL_CUH
#define SINKD_CUDA_PREFILL_CUH

#include "rows.cuh"

struct prefill_job {
	struct attend_call a;
	const __half *q_window, *q_sink; /* [n, n_head, k_ld] */
	float *parts;                    /* [head_kv][tile][split][rows][D + 2], or NULL */
};

/* Where a job's parts will be if its tiles are split among `splits` blocks: false if there is no memory. */
bool attend_get_parts(struct cuda *c, struct prefill_job *j, int tile_rows, int splits, int width);

/* The splits' parts joined; tile_rows: queries of a tile, width: of a part without what is behind it. */
void attend_join(struct cuda *c, const struct prefill_job *j, int splits, int tile_rows, int width);

/* The same as attend_prefill, if this is a GPU for it and a job that is worth it; else false. */
bool attend_hopper(struct cuda *c, const struct prefill_job *j);

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
struct prefill_range {
	int sink_tiles, begin, end;
	int clear_begin, clear_end;      /* tiles of the ring that all of the block's queries see as a whole */
	int64_t ring_first;              /* ring tiles before the first one in use */
	int ring_start;                  /* the slot where that begins */
};

template <int COLUMNS>
static __device__ struct prefill_range
prefill_range_of(const struct cache_view &v, int64_t low, int64_t high)
{
	struct prefill_range r = {};
	int64_t sinks = v.sinks < high + 1 ? v.sinks : high + 1;
	int tiles, each;

	r.sink_tiles = (int)((sinks + COLUMNS - 1) / COLUMNS);
	tiles = r.sink_tiles;
	if (high >= v.sinks) {
		r.ring_first = (sight_of(v, low).begin - v.sinks) / COLUMNS;
		r.ring_start = remainder_of(r.ring_first * COLUMNS, v.ring);
		r.clear_begin = tiles + (int)((sight_of(v, high).begin - v.sinks + COLUMNS - 1) / COLUMNS -
		    r.ring_first);
		r.clear_end = tiles + (int)((low + 1 - v.sinks) / COLUMNS - r.ring_first);
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
prefill_slot_of(const struct cache_view &v, const struct prefill_range &range, int tile, int r)
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

/* What a block works on: the queries of some tokens, of the heads that share keys; row = token * group + head. */
struct prefill_block {
	int head_kv, group, row0, rows;  /* rows: of the whole job */
	int64_t first;                   /* the first row's token */
	float unit;                      /* what makes scores powers of two */
	struct prefill_range range;
};

/* Whether the scores of a job need a factor only. */
static inline bool
is_plain(const struct prefill_job *j)
{
	return j->a.softcap == 0 && j->a.slopes == NULL;
}

/* Waits for what came before. PLAIN: is_plain(job). */
template <int ROWS, int COLUMNS, bool PLAIN>
static __device__ __forceinline__ struct prefill_block
prefill_block_of(const struct prefill_job &j)
{
	const struct cache_view &v = j.a.v;
	struct prefill_block b;

	wait_for_predecessor();
	b.head_kv = blockIdx.y;
	b.group = j.a.n_head / v.n_head_kv;
	b.row0 = blockIdx.x * ROWS;
	b.rows = j.a.n * b.group;
	b.first = *j.a.first;
	b.unit = 1.44269504f * (PLAIN ? j.a.scale : 1);
	b.range = prefill_range_of<COLUMNS>(v, b.first + b.row0 / b.group,
	    b.first + min((b.row0 + ROWS - 1) / b.group, j.a.n - 1));
	return b;
}

/* Row r of the block: its place among the job's queries, or -1. */
static __device__ __forceinline__ int
prefill_query_of(const struct prefill_job &j, const struct prefill_block &b, int r)
{
	unsigned at = b.row0 + r, group = b.group, token = at / group;

	return (int)at >= b.rows ? -1 : (int)(token * j.a.n_head + b.head_kv * group + at - token * group);
}

/*
 * An online softmax's step for one row of a tile, of which a lane has the
 * scores s[n][at], s[n][at + 1] for N groups of 8 columns: they become weights,
 * the largest score so far and the sum of weights go on, and sums are to be
 * multiplied by *factor. unit: of the scores, in powers of two. All weights are
 * times 2^15, so that as halves the small ones keep their digits.
 */
template <int N>
static __device__ __forceinline__ void
soften_row(float (*s)[4], int at, float unit, float *largest, float *weights, float *factor)
{
	float top = *largest, part = 0, offset;

#pragma unroll
	for (int n = 0; n < N; n++)
		top = fmaxf(top, fmaxf(s[n][at], s[n][at + 1]));
	top = max_lanes<1, 2>(top);
	*factor = *largest == -INFINITY ? 0 : power((*largest - top) * unit);
	*largest = top;
	offset = top == -INFINITY ? 0 : top * unit - 15;
#pragma unroll
	for (int n = 0; n < N; n++) {
		s[n][at] = power(s[n][at] * unit - offset);
		s[n][at + 1] = power(s[n][at + 1] * unit - offset);
		part += s[n][at] + s[n][at + 1];
	}
	*weights = *weights * *factor + part;
}

/* The weights of 16 columns from group n on, of two rows, as tensor cores take them. */
static __device__ __forceinline__ void
pack_weights(float (*s)[4], int n, uint32_t *a)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		a[i] = bits_of(__floats2half2_rn(s[n + i / 2][i % 2 * 2], s[n + i / 2][i % 2 * 2 + 1]));
}

/* The same row's scores as they are meant: scaled where that is not left to `unit`, biased, and masked. */
template <int COLUMNS, bool PLAIN>
static __device__ __forceinline__ void
mask_row(const struct prefill_job &j, const struct prefill_block &b, int row, int tile, float (*s)[4], int at)
{
	const struct cache_view &v = j.a.v;
	int query = min(b.row0 + row, b.rows - 1), column0 = threadIdx.x % 4 * 2;
	bool sinks = tile < b.range.sink_tiles;
	int64_t base = sinks ? (int64_t)tile * COLUMNS
	    : v.sinks + (tile - b.range.sink_tiles + b.range.ring_first) * COLUMNS;
	int64_t token = b.first + query / b.group;
	struct sight sight = sight_of(v, token);
	int64_t first = (sinks ? sight.from : sight.begin) - base, last = (sinks ? sight.to : token + 1) - base;
	int from = first < 0 ? 0 : first > COLUMNS ? COLUMNS : (int)first;
	int to = last < 0 ? 0 : last > COLUMNS ? COLUMNS : (int)last;
	int64_t here = (sinks ? sight.here : token) - base;
	float slope = !PLAIN && j.a.slopes != NULL ? j.a.slopes[b.head_kv * b.group + query % b.group] : 0;

#pragma unroll
	for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
		for (int e = 0; e < 2; e++) {
			int column = n * 8 + column0 + e;
			float y = s[n][at + e];

			if (!PLAIN)
				y = shape_score(y * j.a.scale, j.a.softcap, slope, here - column);
			s[n][at + e] = column >= from && column < to ? y : -INFINITY;
		}
}

/* The same for rows `row` and 8 further on of a tile that is not seen as a whole, or not plain. */
template <int COLUMNS, bool PLAIN>
static __device__ __forceinline__ void
mask_tile(const struct prefill_job &j, const struct prefill_block &b, int row, int tile, float (*s)[4])
{
	if (PLAIN && tile >= b.range.clear_begin && tile < b.range.clear_end)
		return;
	mask_row<COLUMNS, PLAIN>(j, b, row, tile, s, 0);
	mask_row<COLUMNS, PLAIN>(j, b, row + 8, tile, s, 2);
}

/* A lane's sums of a row of ROWS, values d = 8 n + 2 t: the result, or a part of it. */
template <int D, int ROWS>
static __device__ __forceinline__ void
put_row(const struct prefill_job &j, const struct prefill_block &b, int row, float (*sum)[4], int at, float largest,
    float weights)
{
	int d_v = j.a.v.d_v, t = threadIdx.x % 4, query = b.row0 + row;
	int64_t token = query / b.group, head = b.head_kv * b.group + query % b.group;
	int64_t unit = ((int64_t)b.head_kv * gridDim.x + blockIdx.x) * gridDim.z + blockIdx.z;
	float total = sum_lanes<1, 2>(weights), inverse = 1 / total;
	float *part = j.parts != NULL ? j.parts + (unit * ROWS + row) * (D + 2) : NULL;
	int64_t to32 = (token * j.a.n_head + head) * d_v, to16 = token * j.a.ld16 + head * d_v;

	if (query >= b.rows)
		return;
#pragma unroll
	for (int n = 0; n < D / 8; n++) {
		int d = n * 8 + 2 * t;
		float x = sum[n][at], y = sum[n][at + 1];

		if (part != NULL) {
			*(float2 *)(part + d) = make_float2(x, y);
		} else if (j.a.out16 != NULL && d_v % 2 == 0) {
			if (d < d_v)
				*(uint32_t *)(j.a.out16 + to16 + d) = to_pair(x * inverse, y * inverse);
		} else {
			for (int e = 0; e < 2 && d + e < d_v; e++)
				if (j.a.out16 != NULL)
					j.a.out16[to16 + d + e] = to_half((e == 0 ? x : y) * inverse);
				else
					j.a.out32[to32 + d + e] = (e == 0 ? x : y) * inverse;
		}
	}
	if (part != NULL && t == 0)
		*(float2 *)(part + D) = make_float2(largest, total);
}

#endif
