/* Attention of a few tokens, in between: a step's scores become weights. Lanes are (g, t) = (lane / 4, lane % 4). */
#ifndef SINKD_CUDA_DECODE_STEPS_CUH
#define SINKD_CUDA_DECODE_STEPS_CUH

#include "attention/decode.cuh"

/*
 * What a lane knows of its queries, rows g and g + 8: see struct sight; tokens of the ring are counted from an
 * origin.
 */
struct row_state {
	int token[2], begin[2], from[2], to[2], here[2];
	float slope[2];
	float m[2], l[2];      /* largest score, sum of weights */
};

static __device__ __forceinline__ void
begin_row(struct row_state &st, int r, const struct cache_view &v, int64_t token, int64_t origin, float slope)
{
	struct sight sight = sight_of(v, token);

	st.token[r] = (int)(token - origin);
	st.begin[r] = (int)(sight.begin - origin);
	st.from[r] = (int)sight.from;
	st.to[r] = (int)sight.to;
	st.here[r] = (int)sight.here;
	st.slope[r] = slope;
	st.m[r] = -INFINITY;
	st.l[r] = 0;
}

/* Those of the tile's rows g and g + 8. */
static __device__ __forceinline__ void
begin_rows(const decode_job &j, struct row_state &st, int tile, int head_kv, int group, int64_t first)
{
#pragma unroll
	for (int i = 0; i < 2; i++) {
		int r = tile * ROWS + threadIdx.x % 32 / 4 + 8 * i;

		begin_row(st, i, j.a.v, first + min(r / group, j.a.n - 1), first,
		    j.a.slopes != NULL ? j.a.slopes[head_kv * group + r % group] : 0);
	}
}

/* Whether both queries see all 16 tokens of the ring from `base` on. */
static __device__ __forceinline__ bool
is_whole_step(const struct row_state &st, bool sinks, int base)
{
	return !sinks && base >= st.begin[0] && base >= st.begin[1] && base + COLUMNS - 1 <= st.token[0] &&
	    base + COLUMNS - 1 <= st.token[1];
}

/* The column of a lane's score i of a row. */
static __device__ __forceinline__ int
column_of(int i)
{
	return 8 * (i / 2) + threadIdx.x % 4 * 2 + i % 2;
}

/* Most models have neither cap nor biases; code that is passed over costs a kernel that runs its code once. */
static __device__ __noinline__ float
shape_apart(float x, float softcap, float slope, int distance)
{
	return shape_score(x, softcap, slope, distance);
}

/* Scores of row r that are more than scaled: capped, and biased. */
static __device__ __forceinline__ void
shape_scores(const struct attend_call &a, const struct row_state &st, bool sinks, int base, int r, float (*s)[4])
{
	int here = (sinks ? st.here[r] : st.token[r]) - base;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		float *x = &s[i / 2][2 * r + i % 2];

		*x = shape_apart(*x, a.softcap, st.slope[r], here - column_of(i));
	}
}

/* Those of tokens that row r does not see. */
static __device__ __forceinline__ void
mask_scores(const struct row_state &st, bool sinks, int base, int r, float (*s)[4])
{
	int from = clip((sinks ? st.from[r] : st.begin[r]) - base);
	int to = clip((sinks ? st.to[r] : st.token[r] + 1) - base);

#pragma unroll
	for (int i = 0; i < 4; i++)
		if (column_of(i) < from || column_of(i) >= to)
			s[i / 2][2 * r + i % 2] = -INFINITY;
}

/*
 * The online softmax's step: s becomes weights p, as halves and an operand, and
 * what was summed before is scaled. Value c of s[i] is row g + 8 (c / 2),
 * column 8 i + 2 t + c % 2; base: the token of column 0. Rows from row_end on
 * are not in use.
 */
template <int DV>
static __device__ __forceinline__ void
soften_step(const struct attend_call &a, struct row_state &st, bool sinks, int base, int row_end, float (*s)[4],
    float (*sum)[8][4], uint32_t *p)
{
	bool whole = is_whole_step(st, sinks, base), shaped = a.softcap != 0 || a.slopes != NULL;

#pragma unroll
	for (int r = 0; r < 2; r++) {
		float top = st.m[r], factor;

		if (8 * r >= row_end) {
			p[r] = p[2 + r] = 0;
			continue;
		}
#pragma unroll
		for (int i = 0; i < 2; i++) {
			s[i][2 * r] *= a.scale;
			s[i][2 * r + 1] *= a.scale;
		}
		if (shaped)
			shape_scores(a, st, sinks, base, r, s);
		if (!whole)
			mask_scores(st, sinks, base, r, s);
		top = fmaxf(top, fmaxf(fmaxf(s[0][2 * r], s[0][2 * r + 1]), fmaxf(s[1][2 * r], s[1][2 * r + 1])));
		top = max_lanes<1, 2>(top);
		factor = st.m[r] == -INFINITY ? 0 : __expf(st.m[r] - top);
		st.m[r] = top;
		st.l[r] *= factor;
		top = top == -INFINITY ? 0 : top;
#pragma unroll
		for (int i = 0; i < 2; i++) {
			__half2 h = __floats2half2_rn(__expf(s[i][2 * r] - top), __expf(s[i][2 * r + 1] - top));

			p[2 * i + r] = bits_of(h);
			st.l[r] += __low2float(h) + __high2float(h);
		}
#pragma unroll
		for (int k = 0; k < DV / 64; k++)
#pragma unroll
			for (int i = 0; i < 8; i++) {
				sum[k][i][2 * r] *= factor;
				sum[k][i][2 * r + 1] *= factor;
			}
	}
}

#endif
