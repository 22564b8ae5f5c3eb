/* Attention of a few tokens, after it: the parts of warps and blocks become results. */
#ifndef SINKD_CUDA_FEW_JOIN_CUH
#define SINKD_CUDA_FEW_JOIN_CUH

#include "few.cuh"
#include "mail.cuh"

/*
 * The splits' parts of a tile's rows joined: sums of values with their largest
 * score and sum of weights behind them. All that an element needs of JOINED
 * parts is on its way at once.
 */
template <int DV>
static __device__ __forceinline__ void
join_parts(const few_job &j, int tile, int head_kv, int group, const float *parts)
{
	const int width = DV + 2;
	int64_t stride = (int64_t)j.rows_used * width;
	int splits = gridDim.x;

	for (int i = threadIdx.x; i < j.rows_used * DV; i += WARPS * 32) {
		const float *part = parts + i / DV * width;
		float m = -INFINITY, total = 0, x = 0;

		for (int k = 0; k < splits; k += JOINED) {
			float top[JOINED], weight[JOINED], value[JOINED], most = m, factor;

#pragma unroll
			for (int n = 0; n < JOINED; n++) {
				const float *p = part + min(k + n, splits - 1) * stride;

				top[n] = __ldcg(p + DV);
				weight[n] = __ldcg(p + DV + 1);
				value[n] = __ldcg(p + i % DV);
			}
#pragma unroll
			for (int n = 0; n < JOINED; n++)
				most = fmaxf(most, top[n]);
			factor = m == -INFINITY ? 0 : __expf(m - most);
			total *= factor;
			x *= factor;
			m = most;
#pragma unroll
			for (int n = 0; n < JOINED; n++) {
				factor = k + n >= splits || top[n] == -INFINITY ? 0 : __expf(top[n] - m);
				total += factor * weight[n];
				x += factor * value[n];
			}
		}
		put(j, tile, head_kv, group, i / DV, i % DV, x / total);
	}
}

/*
 * Where the splits are a cluster each of them joins a piece of the results:
 * their parts of it are sent to its shared memory. [splits][piece] sums, then
 * [splits][rows_used] largest scores and sums of weights.
 */
struct mail {
	float *sums;
	float2 *weights;
};

static __device__ __forceinline__ struct mail
mail_of(const few_job &j, float *base)
{
	return { base, reinterpret_cast<float2 *>(base + (gridDim.x << j.piece)) };
}

/* What comes: of a piece that may begin beyond the end. */
static __device__ __forceinline__ uint32_t
mail_bytes(const few_job &j, int all)
{
	int left = all - ((int)blockIdx.x << j.piece), n = left < 0 ? 0 : min(left, 1 << j.piece);

	return gridDim.x * (n * 4 + j.rows_used * 8);
}

/* A part's element i of row `row`, and by those with the row's first elements its largest score and sum of weights. */
template <int DV>
static __device__ __forceinline__ void
send_part(const few_job &j, const struct mail &m, uint64_t *barrier, int i, float x, float top, float weight)
{
	float2 *to = m.weights + blockIdx.x * j.rows_used + i / DV;

	mail_send(m.sums + ((int)blockIdx.x << j.piece) + (i & ((1 << j.piece) - 1)), x, barrier, i >> j.piece);
	if (i % DV < gridDim.x) {
		mail_send(&to->x, top, barrier, i % DV);
		mail_send(&to->y, weight, barrier, i % DV);
	}
}

template <int DV>
static __device__ __forceinline__ void
join_mail(const few_job &j, int tile, int head_kv, int group, const struct mail &mail, uint64_t *barrier)
{
	int base = (int)blockIdx.x << j.piece, end = min(1 << j.piece, j.rows_used * DV - base), splits = gridDim.x;

	mail_wait(barrier);
	for (int i = threadIdx.x; i < end; i += WARPS * 32) {
		const float2 *weights = mail.weights + (base + i) / DV;
		float m = -INFINITY, total = 0, x = 0;

#pragma unroll 8
		for (int k = 0; k < splits; k++)
			m = fmaxf(m, weights[k * j.rows_used].x);
#pragma unroll 8
		for (int k = 0; k < splits; k++) {
			float2 w = weights[k * j.rows_used];
			float f = w.x == -INFINITY ? 0 : __expf(w.x - m);

			total += f * w.y;
			x += f * mail.sums[(k << j.piece) + i];
		}
		put(j, tile, head_kv, group, (base + i) / DV, (base + i) % DV, x / total);
	}
}

/*
 * The sums of the warps, [WARPS][rows_used][DV + 2], become the block's; with
 * those of the other blocks they become results. All threads call it.
 */
template <int DV>
static __device__ __forceinline__ void
finish_block(const few_job &j, int tile, int head_kv, int group, const float *sums, const struct mail &mail,
    uint64_t *barrier)
{
	__shared__ bool last;
	const int width = DV + 2;
	int64_t unit = (int64_t)head_kv * gridDim.y + tile, size = j.rows_used * width;
	float *mine = j.parts + (unit * gridDim.x + blockIdx.x) * size;

	if (j.cluster)
		cluster_wait();
	for (int i = threadIdx.x; i < j.rows_used * DV; i += WARPS * 32) {
		int row = i / DV, d = i % DV;
		float x = 0, y = 0, top = -INFINITY;

		for (int w = 0; w < WARPS; w++)
			top = fmaxf(top, sums[(w * j.rows_used + row) * width + DV]);
		for (int w = 0; w < WARPS; w++) {
			const float *part = sums + (w * j.rows_used + row) * width;
			float f = part[DV] == -INFINITY ? 0 : __expf(part[DV] - top);

			x += f * part[d];
			y += f * part[DV + 1];
		}
		if (gridDim.x == 1) {
			put(j, tile, head_kv, group, row, d, x / y);
		} else if (j.cluster) {
			send_part<DV>(j, mail, barrier, i, x, top, y);
		} else {
			__stcg(mine + row * width + d, x);
			if (d == 0) {
				__stcg(mine + row * width + DV, top);
				__stcg(mine + row * width + DV + 1, y);
			}
		}
	}
	if (gridDim.x == 1)
		return;
	if (j.cluster) {
		join_mail<DV>(j, tile, head_kv, group, mail, barrier);
		return;
	}
	/* What the block wrote is seen by who sees its count. */
	__syncthreads();
	if (threadIdx.x == 0) {
		__threadfence();
		last = atomicInc(&j.counters[unit], gridDim.x - 1) == gridDim.x - 1;
		__threadfence();
	}
	__syncthreads();
	if (last)
		join_parts<DV>(j, tile, head_kv, group, j.parts + unit * gridDim.x * size);
}

#endif
