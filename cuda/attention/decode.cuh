/* Attention of a few tokens: what decode.cu, decode_queries.cuh and decode_join.cuh share. */
#ifndef SINKD_CUDA_DECODE_CUH
#define SINKD_CUDA_DECODE_CUH

#include "rows.cuh"

enum { WARPS = 4, ROWS = 16, COLUMNS = 16, SPLIT_COLUMNS = 64, SPLITS_MAX = 64, CLUSTER_MAX = 16, JOINED = 8 };

struct decode_job {
	struct attend_call a;
	struct rotation r;
	bool fused;            /* q_window, keys and values are raw */
	const float *q_window, *q_sink, *k, *values;
	int rows_used;         /* rows of a tile that can be in use */
	int piece;             /* where splits are a cluster each joins 2^piece elements of the tile's results */
	size_t inbox;           /* where the parts that come for them lie in shared memory */
	float *posts;          /* else they send their parts here: [head_kv][tile][split][rows_used][d_v + 2] */
	unsigned *tickets;     /* [head_kv][tile] */
};

/* Blocks that a multiprocessor holds at once; more of them would only come second. */
static constexpr int
blocks_at_once(int d)
{
	return d <= 64 ? 3 : d <= 128 ? 2 : 1;
}

/* Which columns a block has: steps of 16 slots, the sinks' first, then the ring's in stream order. */
struct range {
	int64_t sink_steps, ring_first; /* ring blocks counted along the stream */
	int64_t ring_start;             /* where the first of them lies in the ring */
	int64_t begin, end;             /* steps of this split */
};

static __device__ struct range
range_of(const struct cache_view &v, int64_t low, int64_t high)
{
	struct range r = {};
	int64_t sinks = v.sinks < high + 1 ? v.sinks : high + 1;
	int steps, each;

	r.sink_steps = (sinks + COLUMNS - 1) / COLUMNS;
	steps = (int)r.sink_steps;
	if (high >= v.sinks) {
		r.ring_first = (sight_of(v, low).begin - v.sinks) / COLUMNS;
		r.ring_start = remainder_of(r.ring_first, v.ring / COLUMNS);
		steps += (int)((high - v.sinks) / COLUMNS - r.ring_first) + 1;
	}
	each = (steps + (int)gridDim.x - 1) / (int)gridDim.x;
	r.begin = min(each * (int)blockIdx.x, steps);
	r.end = min((int)r.begin + each, steps);
	return r;
}

/*
 * The token of a step's first column: a sink, or one of the ring, counted from `origin`; sinks: whether it is theirs.
 */
static __device__ __forceinline__ int
base_of_step(const struct cache_view &v, const struct range &range, int64_t step, bool sinks, int64_t origin)
{
	return sinks ? (int)step * COLUMNS
	    : (int)(v.sinks + (step - range.sink_steps + range.ring_first) * COLUMNS - origin);
}

/*
 * A step of 16 slots from `base` on (see base_of_step) may hold new tokens: how
 * many of these, from the first on, can be in it, and what place it has among
 * them. A step of sinks has room for more tokens than there are sinks.
 */
static __device__ __forceinline__ int
new_in_step(const decode_job &j, bool sinks, int base, int64_t first, int *place)
{
	int64_t n = sinks ? j.a.v.sinks - first : j.a.n;

	*place = (int)(base - (sinks ? first : 0));
	return *place + COLUMNS > 0 ? (int)(n < j.a.n ? n : j.a.n) : 0;
}

static __device__ __forceinline__ int
clip(int x)
{
	return x < 0 ? 0 : x > COLUMNS ? COLUMNS : x;
}

/* Shared memory of a block, in floats and halves. */
template <int DK, int DV>
struct layout {
	/* Halves from query to query: rows begin in banks that do not meet. */
	static const int q_ld = DK % 64 == 0 ? DK + 32 : DK;
	static const int q_bytes = 2 * ROWS * q_ld * 2;
	static const int stage_bytes = WARPS * (DK > DV ? DK : DV) * 4;
	static const int fresh_at = q_bytes + stage_bytes; /* n new keys, then n new values */

	static __host__ __device__ size_t
	bytes(int n, int rows_used)
	{
		size_t first = fresh_at + (size_t)n * (DK + DV) * 2, last = (size_t)WARPS * rows_used * (DV + 2) * 4;

		return first > last ? first : last;
	}
};

/* decode_tma.cu: the kernel for a long cache, whose splits are no cluster; false: there is none for this one. */
bool attend_decode_tma(struct cuda *c, const struct decode_job *j, dim3 grid);

/* A result: element d of row r. */
static __device__ __forceinline__ void
put(const decode_job &j, int tile, int head_kv, int group, int row, int d, float x)
{
	int r = tile * ROWS + row, token = r / group, head = head_kv * group + r % group;

	if (token >= j.a.n || d >= j.a.v.d_v)
		return;
	if (j.a.out32 != NULL)
		j.a.out32[((int64_t)token * j.a.n_head + head) * j.a.v.d_v + d] = x;
	if (j.a.out16 != NULL)
		j.a.out16[token * j.a.ld16 + head * j.a.v.d_v + d] = to_half(x);
}

#endif
