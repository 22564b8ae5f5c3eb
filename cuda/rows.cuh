/* What cache.cu and decode.cu both do with a row of a query, key or value. */
#ifndef SINKD_CUDA_ROWS_CUH
#define SINKD_CUDA_ROWS_CUH

#include "launch.cuh"

/* x % y for x >= 0 and y below 2^31: a long division only where it has to be. */
static __device__ __forceinline__ int
remainder_of(int64_t x, int64_t y)
{
	return x >> 32 == 0 ? (int)((uint32_t)x % (uint32_t)y) : (int)(x % y);
}

/* Where token t lies in a head's slots. */
static __device__ __forceinline__ int64_t
slot_of(const struct cache_view &v, int64_t t)
{
	return t < v.sinks ? t : v.sink_slots + remainder_of(t - v.sinks, v.ring);
}

/*
 * row[d] in shared memory = scale * x, normalised where weights are given,
 * rotated by the token's row of table. A whole warp works on it and sees it
 * afterwards.
 */
template <typename T>
static __device__ __forceinline__ void
rotate_row(const struct rotation &r, const float *table, const float *norm, const T *x, int token, int d, float *row,
    int lane, float scale)
{
	int half = r.style == ROPE_NONE ? 0 : r.n_rot / 2;
	const float *t = table + (int64_t)token * half * 2;

	if (norm != NULL) {
		float square = 0;

		for (int i = lane; i < d; i += 32)
			square += load_one(x + i) * load_one(x + i);
		scale *= rsqrtf(sum_lanes<1, 16>(square) * scale * scale / (float)d + r.eps);
	}
	for (int i = lane; i < half; i += 32) {
		int a = r.style == ROPE_PAIRS ? 2 * i : i, b = r.style == ROPE_PAIRS ? 2 * i + 1 : i + half;
		float xa = load_one(x + a) * scale, xb = load_one(x + b) * scale;

		if (norm != NULL) {
			xa *= norm[a];
			xb *= norm[b];
		}
		row[a] = xa * t[2 * i] - xb * t[2 * i + 1];
		row[b] = xa * t[2 * i + 1] + xb * t[2 * i];
	}
	for (int i = 2 * half + lane; i < d; i += 32)
		row[i] = load_one(x + i) * scale * (norm != NULL ? norm[i] : 1);
	__syncwarp();
}

/* A warp makes a token's key NaN where its value has NaN, see to_value. */
template <typename T>
static __device__ __forceinline__ void
spoil_key(float *key, int d_k, const T *value, int d_v, int lane)
{
	bool spoiled = false;

	for (int i = lane; i < d_v; i += 32)
		spoiled |= is_nan(load_one(value + i));
	if (__any_sync(0xffffffffu, spoiled))
		for (int i = lane; i < d_k; i += 32)
			key[i] = NAN;
	__syncwarp();
}

/* A warp puts a row of shared memory into the cache as the key (or value) of token t. */
static __device__ __forceinline__ void
store_row(const struct cache_view &v, bool key, int head, int64_t t, const float *row, int lane)
{
	int d = key ? v.d_k : v.d_v, ld = key ? v.k_ld : v.v_ld;
	int64_t at = (int64_t)head * v.slots + slot_of(v, t);
	void *base = key ? v.k : v.v;

	if (v.type == KV_F32) {
		for (int i = lane; i < d; i += 32)
			static_cast<float *>(base)[at * ld + i] = row[i];
		return;
	}
	if (v.type == KV_F16) {
		for (int i = lane; i < d; i += 32)
			static_cast<__half *>(base)[at * ld + i] = key ? to_half(row[i]) : to_value(row[i]);
		return;
	}
	for (int i = lane; i < ld; i += 32) {
		float x = i < d ? row[i] : 0, scale = max_lanes<1, 16>(fabsf(x)) / 127;
		__half *scales = key ? v.k_scale : v.v_scale;

		if (key && __any_sync(0xffffffffu, is_nan(x)))
			scale = NAN;
		static_cast<int8_t *>(base)[at * ld + i] = (int8_t)__float2int_rn(scale > 0 ? x / scale : 0);
		if (lane == 0)
			scales[(at * ld + i) / 32] = to_half(scale);
	}
}

/* Which tokens a token sees: sinks from .. to-1, and begin .. t; see engine.h. */
struct sight {
	int64_t from, to, begin;
	int64_t here;          /* where the token stands in the cache, as its sinks see it */
};

static __device__ __forceinline__ struct sight
sight_of(const struct cache_view &v, int64_t t)
{
	struct sight s;

	s.here = v.sinks == 0 ? 0 : t < v.sinks + v.window - 1 ? t : v.sinks + v.window - 1;
	s.to = v.sinks < t + 1 ? v.sinks : t + 1;
	s.from = 0;
	s.begin = v.window > t ? 0 : t - v.window + 1;
	if (v.native > 0) {
		s.from = s.here - v.native + 1 < 0 ? 0 : s.here - v.native + 1;
		s.from = s.from < s.to ? s.from : s.to;
		s.begin = s.begin > t - v.native + 1 ? s.begin : t - v.native + 1;
	}
	s.begin = s.begin > v.sinks ? s.begin : v.sinks;
	return s;
}

/* A score with its cap and its ALiBi bias. */
static __device__ __forceinline__ float
shape_score(float x, float softcap, float slope, int64_t distance)
{
	if (softcap > 0)
		x = softcap * tanhf(x / softcap);
	return x - slope * (float)distance;
}

#endif
