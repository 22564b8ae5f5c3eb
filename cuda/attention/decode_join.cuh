/* Attention of a few tokens, after it: the parts of warps and blocks become results. */
#ifndef SINKD_CUDA_DECODE_JOIN_CUH
#define SINKD_CUDA_DECODE_JOIN_CUH

#include "attention/decode.cuh"
#include "attention/cluster.cuh"

/* A block's part of a result's element: its sum of values, its sum of weights and its largest score. */
struct part {
	float sum, weight, top;
};

/*
 * Parts come by way of global memory, to the block of a tile that draws the
 * last ticket. A word there is empty until it comes, and again once it was
 * read: so no word waits for another, and no block for what it wrote.
 */
static const uint32_t no_post = 0xffffffff; /* a NaN that no operation makes */

/*
 * A block's ticket is drawn with its last step, for the time that it takes: the
 * block of the last one need not be the last one that is done.
 */
static __device__ __forceinline__ void
draw_ticket(const decode_job &j, bool last, int tile, int head_kv, unsigned *ticket)
{
	if (last && threadIdx.x == 0 && j.tickets != NULL)
		*ticket = atomicInc(&j.tickets[head_kv * gridDim.y + tile], gridDim.x - 1);
}

static __device__ __forceinline__ uint32_t
as_post(float x)
{
	uint32_t bits = __float_as_uint(x);

	return bits == no_post ? 0x7fffffff : bits;
}

static __device__ __forceinline__ void
post(float *to, uint32_t bits)
{
	asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" :: "l"(to), "r"(bits) : "memory");
}

static __device__ __forceinline__ uint32_t
peek(const float *from)
{
	uint32_t bits;

	asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(bits) : "l"(from) : "memory");
	return bits;
}

/* Where a split's parts of row `row` come: sums of values, with largest score and sum of weights behind them. */
template <int DV>
static __device__ __forceinline__ float *
posts_of(const decode_job &j, int64_t unit, int split, int row)
{
	return j.posts + ((unit * gridDim.x + split) * j.rows_used + row) * (DV + 2);
}

template <int DV>
static __device__ __forceinline__ void
post_part(const decode_job &j, int64_t unit, int i, const struct part &mine)
{
	float *to = posts_of<DV>(j, unit, blockIdx.x, i / DV);

	post(to + i % DV, as_post(mine.sum));
	if (i % DV == 0) {
		post(to + DV, as_post(mine.top));
		post(to + DV + 1, as_post(mine.weight));
	}
}

/*
 * An element of all splits' parts, joined in the order of the splits. All that JOINED of them need is on its way at
 * once.
 */
template <int DV>
static __device__ __forceinline__ float
join_posts(const decode_job &j, int64_t unit, int i, const struct part &mine)
{
	float m = -INFINITY, total = 0, x = 0;
	int splits = gridDim.x;

	for (int k = 0; k < splits; k += JOINED) {
		uint32_t top[JOINED], weight[JOINED], value[JOINED];
		float most = m, factor;
		bool all;

		do {
			all = true;
#pragma unroll
			for (int n = 0; n < JOINED; n++) {
				int split = min(k + n, splits - 1);
				float *p = posts_of<DV>(j, unit, split, i / DV);
				bool own = split == (int)blockIdx.x;

				top[n] = own ? as_post(mine.top) : peek(p + DV);
				weight[n] = own ? as_post(mine.weight) : peek(p + DV + 1);
				value[n] = own ? as_post(mine.sum) : peek(p + i % DV);
			}
#pragma unroll
			for (int n = 0; n < JOINED; n++)
				all &= top[n] != no_post && weight[n] != no_post && value[n] != no_post;
		} while (!all);
#pragma unroll
		for (int n = 0; n < JOINED; n++)
			most = fmaxf(most, __uint_as_float(top[n]));
		factor = m == -INFINITY ? 0 : __expf(m - most);
		total *= factor;
		x *= factor;
		m = most;
#pragma unroll
		for (int n = 0; n < JOINED; n++) {
			float t = __uint_as_float(top[n]);

			factor = k + n >= splits || t == -INFINITY ? 0 : __expf(t - m);
			total += factor * __uint_as_float(weight[n]);
			x += factor * __uint_as_float(value[n]);
		}
	}
	for (int k = 0; k < splits; k++)
		post(posts_of<DV>(j, unit, k, i / DV) + i % DV, no_post);
	return x / total;
}

/* What all threads have read of their rows is empty again, too. */
template <int DV>
static __device__ __forceinline__ void
empty_rows(const decode_job &j, int64_t unit)
{
	__syncthreads();
	for (int i = threadIdx.x; i < 2 * (int)gridDim.x * j.rows_used; i += WARPS * 32)
		post(posts_of<DV>(j, unit, 0, i / 2) + DV + i % 2, no_post);
}

/*
 * Where the splits are a cluster each of them joins a piece of the results:
 * their parts of it are sent to its shared memory. [splits][piece] sums, then
 * [splits][rows_used] largest scores and sums of weights.
 */
struct inbox {
	float *sums;
	float2 *weights;
};

static __device__ __forceinline__ struct inbox
inbox_of(const decode_job &j, float *base)
{
	return { base, reinterpret_cast<float2 *>(base + (gridDim.x << j.piece)) };
}

/* What comes: of a piece that may begin beyond the end. */
static __device__ __forceinline__ uint32_t
inbox_bytes(const decode_job &j, int all)
{
	int left = all - ((int)blockIdx.x << j.piece), n = left < 0 ? 0 : min(left, 1 << j.piece);

	return gridDim.x * (n * 4 + j.rows_used * 8);
}

/* A part's element i of row `row`, and by those with the row's first elements its largest score and sum of weights. */
template <int DV>
static __device__ __forceinline__ void
send_part(const decode_job &j, const struct inbox &m, uint64_t *barrier, int i, const struct part &mine)
{
	float2 *to = m.weights + blockIdx.x * j.rows_used + i / DV;

	cluster_send(m.sums + ((int)blockIdx.x << j.piece) + (i & ((1 << j.piece) - 1)), mine.sum, barrier,
	    i >> j.piece);
	if (i % DV < gridDim.x) {
		cluster_send(&to->x, mine.top, barrier, i % DV);
		cluster_send(&to->y, mine.weight, barrier, i % DV);
	}
}

template <int DV>
static __device__ __forceinline__ void
join_inbox(const decode_job &j, int tile, int head_kv, int group, const struct inbox &inbox, uint64_t *barrier)
{
	int base = (int)blockIdx.x << j.piece, end = min(1 << j.piece, j.rows_used * DV - base), splits = gridDim.x;

	cluster_receive(barrier);
	for (int i = threadIdx.x; i < end; i += WARPS * 32) {
		const float2 *weights = inbox.weights + (base + i) / DV;
		float m = -INFINITY, total = 0, x = 0;

#pragma unroll 8
		for (int k = 0; k < splits; k++)
			m = fmaxf(m, weights[k * j.rows_used].x);
#pragma unroll 8
		for (int k = 0; k < splits; k++) {
			float2 w = weights[k * j.rows_used];
			float f = w.x == -INFINITY ? 0 : __expf(w.x - m);

			total += f * w.y;
			x += f * inbox.sums[(k << j.piece) + i];
		}
		put(j, tile, head_kv, group, (base + i) / DV, (base + i) % DV, x / total);
	}
}

/*
 * The sums of the warps, [WARPS][rows_used][DV + 2], become the block's; with
 * those of the other blocks they become results. All threads call it; joins:
 * the block has the last ticket.
 */
template <int DV, bool CLUSTER>
static __device__ __forceinline__ void
finish_block(const decode_job &j, int tile, int head_kv, int group, const float *sums, bool joins,
    const struct inbox &inbox, uint64_t *barrier)
{
	const int width = DV + 2;
	int64_t unit = (int64_t)head_kv * gridDim.y + tile;

	if (CLUSTER)
		cluster_wait();
	for (int i = threadIdx.x; i < j.rows_used * DV; i += WARPS * 32) {
		int row = i / DV, d = i % DV;
		struct part mine = { 0, 0, -INFINITY };

		for (int w = 0; w < WARPS; w++)
			mine.top = fmaxf(mine.top, sums[(w * j.rows_used + row) * width + DV]);
		for (int w = 0; w < WARPS; w++) {
			const float *part = sums + (w * j.rows_used + row) * width;
			float f = part[DV] == -INFINITY ? 0 : __expf(part[DV] - mine.top);

			mine.sum += f * part[d];
			mine.weight += f * part[DV + 1];
		}
		if (CLUSTER)
			send_part<DV>(j, inbox, barrier, i, mine);
		else if (gridDim.x == 1)
			put(j, tile, head_kv, group, row, d, mine.sum / mine.weight);
		else if (joins)
			put(j, tile, head_kv, group, row, d, join_posts<DV>(j, unit, i, mine));
		else
			post_part<DV>(j, unit, i, mine);
	}
	if (CLUSTER)
		join_inbox<DV>(j, tile, head_kv, group, inbox, barrier);
	else if (gridDim.x > 1 && joins)
		empty_rows<DV>(j, unit);
}

#endif
