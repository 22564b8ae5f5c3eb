/* Attention of a few tokens, before it: queries become operands, new keys and values are stored. */
#ifndef SINKD_CUDA_DECODE_QUERIES_CUH
#define SINKD_CUDA_DECODE_QUERIES_CUH

#include "attention/decode.cuh"

/*
 * A row of d <= D floats, normalised where weights are given, rotated by the
 * token's row of table; put(i, value) gets its elements, and row is room for
 * it. A warp's work: all loads are on their way at once.
 */
template <int D, typename Put>
static __device__ __forceinline__ void
rotate_at_once(const struct rotation &r, const float *table, const float *norm, const float *x, int token, int d,
    float *row, Put put)
{
	int lane = threadIdx.x % 32, half = r.style == ROPE_NONE ? 0 : r.n_rot / 2;
	const float2 *turns = reinterpret_cast<const float2 *>(table) + (int64_t)token * half;
	float v[D / 32], weight[D / 32], square = 0, scale;
	float2 turn[D / 64];

#pragma unroll
	for (int u = 0; u < D / 32; u++) {
		v[u] = lane + 32 * u < d ? x[lane + 32 * u] : 0;
		weight[u] = norm != NULL && lane + 32 * u < d ? norm[lane + 32 * u] : 1;
	}
#pragma unroll
	for (int u = 0; u < D / 64; u++)
		turn[u] = lane + 32 * u < half ? turns[lane + 32 * u] : make_float2(1, 0);
	if (norm != NULL) {
#pragma unroll
		for (int u = 0; u < D / 32; u++)
			square += v[u] * v[u];
		scale = rsqrtf(sum_lanes<1, 16>(square) / (float)d + r.eps);
#pragma unroll
		for (int u = 0; u < D / 32; u++)
			v[u] = v[u] * scale * weight[u];
	}
#pragma unroll
	for (int u = 0; u < D / 32; u++)
		row[lane + 32 * u] = v[u];
	__syncwarp();
#pragma unroll
	for (int u = 0; u < D / 64; u++) {
		int i = lane + 32 * u, a = r.style == ROPE_PAIRS ? 2 * i : i, b = r.style == ROPE_PAIRS ? 2 * i + 1
		    : i + half;

		if (i < half) {
			float xa = row[a], xb = row[b];

			put(a, xa * turn[u].x - xb * turn[u].y);
			put(b, xa * turn[u].y + xb * turn[u].x);
		}
	}
#pragma unroll
	for (int u = 0; u < D / 32; u++)
		if (lane + 32 * u >= 2 * half)
			put(lane + 32 * u, v[u]);
	__syncwarp();
}

static __device__ __forceinline__ struct rotation
no_rotation(void)
{
	struct rotation r = {};

	r.style = ROPE_NONE;
	return r;
}

/* A query of the tile in shared memory, in one of its two forms: [window, sink][ROWS][q_ld]; a warp's work. */
template <int DK, int DV>
static __device__ __forceinline__ void
fetch_query(const decode_job &j, int tile, int head_kv, int group, int form, int i, __half *queries, float *row)
{
	int d = j.a.v.d_k, r = tile * ROWS + i, token = r / group;
	__half *to = queries + (form * ROWS + i) * layout<DK, DV>::q_ld;
	int64_t at = ((int64_t)token * j.a.n_head + head_kv * group + r % group) * d;

	if (token >= j.a.n) {
		for (int k = threadIdx.x % 32; k < DK; k += 32)
			to[k] = __float2half_rn(0);
		return;
	}
	rotate_at_once<DK>(j.fused ? j.r : no_rotation(), form == 0 ? j.r.window : j.r.sink, j.r.q_norm,
	    (form == 0 || j.fused ? j.q_window : j.q_sink) + at, token, d, row,
	    [&](int k, float x) { to[k] = to_half(x); });
}

/*
 * A new key (even i) or value, if it lies in this block's range: to the cache, and as halves to fresh. A warp's work.
 */
template <int D>
static __device__ __forceinline__ void
store_new(const decode_job &j, const struct range &range, int head_kv, int64_t first, int i, float *row, __half *fresh)
{
	const struct cache_view &v = j.a.v;
	const float *value = j.values + ((int64_t)(i / 2) * v.n_head_kv + head_kv) * v.d_v;
	int lane = threadIdx.x % 32, token = i / 2;
	int64_t t = first + token;
	int64_t step = t < v.sinks ? t / COLUMNS : range.sink_steps + (t - v.sinks) / COLUMNS - range.ring_first;

	if (step < range.begin || step >= range.end)
		return;
	/* A pair of elements is one lane's: they are turned in place. */
	if (i % 2 == 0) {
		float x[D / 32];
		bool spoiled = false;

#pragma unroll
		for (int u = 0; u < D / 32; u++)
			x[u] = lane + 32 * u < v.d_v ? value[lane + 32 * u] : 0;
		rotate_at_once<D>(j.r, j.r.window, j.r.k_norm, j.k + ((int64_t)token * v.n_head_kv + head_kv) * v.d_k,
		    token, v.d_k, row, [&](int k, float y) { row[k] = y; });
#pragma unroll
		for (int u = 0; u < D / 32; u++)
			spoiled |= is_nan(x[u]);
		/* See to_value. */
		if (__any_sync(0xffffffffu, spoiled))
			row[lane] = NAN;
		__syncwarp();
	} else {
		rotate_at_once<D>(no_rotation(), NULL, NULL, value, token, v.d_v, row, [](int, float) { });
	}
	store_row(v, i % 2 == 0, head_kv, t, row, lane);
#pragma unroll
	for (int u = 0; u < D / 32; u++)
		fresh[(i % 2 * j.a.n + token) * D + lane + 32 * u] = i % 2 == 0 ? to_half(row[lane + 32 * u])
		    : to_value(row[lane + 32 * u]);
	__syncwarp();
}

/* Rows of the tile's queries that are not in use. */
template <int DK, int DV>
static __device__ __forceinline__ void
clear_queries(const decode_job &j, __half *queries)
{
	const int row = layout<DK, DV>::q_ld / 8;
	uint4 *q = reinterpret_cast<uint4 *>(queries);

	for (int i = j.rows_used * row + threadIdx.x; i < ROWS * row; i += WARPS * 32)
		q[i] = q[i + ROWS * row] = make_uint4(0, 0, 0, 0);
}

/* The tile's queries as this block needs them, and the new keys and values: a warp takes one after the other. */
template <int DK, int DV>
static __device__ __forceinline__ void
prepare(const decode_job &j, const struct range &range, int tile, int head_kv, int group, int64_t first,
    __half *queries, float *stage, __half *fresh)
{
	static_assert(DK == DV, "fresh keys and values are of one length");
	int warp = threadIdx.x / 32, sinks = range.begin < range.sink_steps ? j.rows_used : 0;
	int window = range.end > range.sink_steps ? j.rows_used : 0, stores = j.fused ? 2 * j.a.n : 0;
	float *row = stage + warp * (DK > DV ? DK : DV);

	/* From the last warp on: it has the fewest steps. */
	for (int i = WARPS - 1 - warp; i < window + sinks + stores; i += WARPS)
		if (i < stores)
			store_new<DK>(j, range, head_kv, first, i, row, fresh);
		else if (i < stores + window)
			fetch_query<DK, DV>(j, tile, head_kv, group, 0, i - stores, queries, row);
		else
			fetch_query<DK, DV>(j, tile, head_kv, group, 1, i - stores - window, queries, row);
}

#endif
