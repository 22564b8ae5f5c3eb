/* The operand of a product of few rows: fetched, normalised, and in halves in shared memory. */
#ifndef SINKD_CUDA_MATVEC_OPERAND_CUH
#define SINKD_CUDA_MATVEC_OPERAND_CUH

#include "product/gemv.cuh"

/* The sum of one value per thread, known to all; part is not used again before another barrier. */
static __device__ __forceinline__ float
sum_block(float x, float *part)
{
	x = sum_lanes<1, 16>(x);
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = x;
	__syncthreads();
	x = 0;
	for (int i = 0; i < WARPS; i++)
		x += part[i];
	return x;
}

/*
 * What the numbers of a block are too large, times its activations, and the
 * sum of those where there are minima: of all lanes' EACH columns from
 * `column` on, whose pairs at even and odd places have the sums even and odd.
 */
template <typename ROWS, int EACH>
static __device__ __forceinline__ void
put_sums(const gemv_job &j, float even, float odd, int column, float *sums)
{
	if constexpr (ROWS::blocks > 0) {
		const int width = STEP / ROWS::blocks, lanes = width / EACH, each = ROWS::minima ? 2 : 1;
		float excess = -(ROWS::even * even + ROWS::odd * odd), sum = even + odd;
		float *to = sums + column / width * each;

		excess = sum_lanes<1, lanes / 2>(excess);
		if (ROWS::minima)
			sum = sum_lanes<1, lanes / 2>(sum);
		if (threadIdx.x % lanes != 0 || column >= j.steps * STEP)
			return;
		to[0] = excess;
		if (ROWS::minima)
			to[1] = sum;
	}
}

static __device__ __forceinline__ float
sum_of_pair(uint32_t bits)
{
	float2 v = __half22float2(pair(bits));

	return v.x + v.y;
}

/* Values of a row that a thread keeps in registers while they are normalised: rows of up to KEPT * 4 * THREADS. */
enum { KEPT = 4 };

static __device__ __forceinline__ bool
can_keep(const gemv_job &j)
{
	return j.cols % 4 == 0 && j.cols <= KEPT * 4 * THREADS;
}

/* A norm's weights as fetch_kept wants them. */
static __device__ __forceinline__ void
fetch_weights(const gemv_job &j, float4 *weights)
{
#pragma unroll
	for (int k = 0; k < KEPT; k++) {
		int i = threadIdx.x + k * THREADS;

		weights[k] = j.norm_weight != NULL && i * 4 < j.cols ? ((const float4 *)j.norm_weight)[i]
		    : make_float4(0, 0, 0, 0);
	}
}

/*
 * A row of floats, normalised or not; weights: the norm's, fetched before; asked() is called when its loads are on
 * their way.
 */
template <typename ROWS, typename Asked>
static __device__ __forceinline__ void
fetch_kept(const gemv_job &j, int row, __half *to, float *sums, float *part, const float4 *weights, Asked asked)
{
	const float4 *x = (const float4 *)(j.x32 + row * j.cols);
	float mean = 0, square = 0, scale;
	float4 v[KEPT];

#pragma unroll
	for (int k = 0; k < KEPT; k++) {
		int i = threadIdx.x + k * THREADS;

		v[k] = i * 4 < j.cols ? x[i] : make_float4(0, 0, 0, 0);
	}
	asked();
	if (j.norm_weight != NULL) {
		if (j.norm == NORM_LAYER) {
#pragma unroll
			for (int k = 0; k < KEPT; k++)
				mean += v[k].x + v[k].y + v[k].z + v[k].w;
			mean = sum_block(mean, part) / (float)j.cols;
		}
#pragma unroll
		for (int k = 0; k < KEPT; k++) {
			if ((threadIdx.x + k * THREADS) * 4 >= j.cols)
				continue;
			v[k] = make_float4(v[k].x - mean, v[k].y - mean, v[k].z - mean, v[k].w - mean);
			square += v[k].x * v[k].x + v[k].y * v[k].y + v[k].z * v[k].z + v[k].w * v[k].w;
		}
		scale = rsqrtf(sum_block(square, part + WARPS) / (float)j.cols + j.eps);
#pragma unroll
		for (int k = 0; k < KEPT; k++) {
			int i = threadIdx.x + k * THREADS;
			float4 b = make_float4(0, 0, 0, 0);

			if (j.norm_bias != NULL && i * 4 < j.cols)
				b = ((const float4 *)j.norm_bias)[i];
			v[k] = make_float4(v[k].x * scale * weights[k].x + b.x, v[k].y * scale * weights[k].y + b.y,
			    v[k].z * scale * weights[k].z + b.z, v[k].w * scale * weights[k].w + b.w);
		}
	}
#pragma unroll
	for (int k = 0; k < KEPT; k++) {
		int column = (threadIdx.x + k * THREADS) * 4;
		uint2 h = make_uint2(to_pair(v[k].x, v[k].y), to_pair(v[k].z, v[k].w));

		if (k * THREADS * 4 >= j.steps * STEP)
			break;
		if (column < j.steps * STEP)
			*(uint2 *)(to + column) = h;
		put_sums<ROWS, 4>(j, sum_of_pair(h.x), sum_of_pair(h.y), column, sums);
	}
}

/* The same for rows of any length. */
template <typename ROWS>
static __device__ __forceinline__ void
fetch_floats(const gemv_job &j, int row, __half *to, float *sums, float *part)
{
	const float *x = j.x32 + row * j.cols;
	float mean = 0, square = 0, scale = 1;

	if (j.norm_weight != NULL) {
		if (j.norm == NORM_LAYER) {
			for (int64_t i = threadIdx.x; i < j.cols; i += THREADS)
				mean += x[i];
			mean = sum_block(mean, part) / (float)j.cols;
		}
		for (int64_t i = threadIdx.x; i < j.cols; i += THREADS)
			square += (x[i] - mean) * (x[i] - mean);
		scale = rsqrtf(sum_block(square, part + WARPS) / (float)j.cols + j.eps);
	}
	/* Steps are whole warps. */
	for (int i = threadIdx.x; i < j.steps * STEP; i += THREADS) {
		float v = i < j.cols ? (x[i] - mean) * scale : 0;
		__half h;

		if (j.norm_weight != NULL && i < j.cols)
			v = v * j.norm_weight[i] + (j.norm_bias != NULL ? j.norm_bias[i] : 0);
		to[i] = h = to_half(v);
		v = __half2float(h);
		put_sums<ROWS, 1>(j, i & 2 ? 0 : v, i & 2 ? v : 0, i, sums);
	}
}

/* The n < 8 halves at x, and zeros. */
static __device__ __forceinline__ uint4
load_some(const __half *x, int n)
{
	uint32_t v[4];

#pragma unroll
	for (int i = 0; i < 4; i++)
		v[i] = bits_of(__halves2half2(2 * i < n ? x[2 * i] : __float2half_rn(0), 2 * i + 1 < n ? x[2 * i + 1]
		    : __float2half_rn(0)));
	return make_uint4(v[0], v[1], v[2], v[3]);
}

/* A row that is in halves already; it is padded with zeros to whole steps, as all are. */
template <typename ROWS, typename Asked>
static __device__ __forceinline__ void
fetch_halves(const gemv_job &j, int row, __half *to, float *sums, Asked asked)
{
	const int at_once = 6, round = THREADS * 8;
	const __half *x = j.x16 + row * j.ld16;
	int end = j.steps * STEP;

	for (int base = threadIdx.x * 8; base - (int)threadIdx.x * 8 < end; base += at_once * round) {
		uint4 v[at_once];

#pragma unroll
		for (int k = 0; k < at_once; k++) {
			int i = base + k * round;

			v[k] = make_uint4(0, 0, 0, 0);
			if (i + 8 <= j.cols)
				v[k] = __ldcg((const uint4 *)(x + i));
			else if (i < j.cols)
				v[k] = load_some(x + i, (int)(j.cols - i));
		}
		if (base < round)
			asked();
#pragma unroll
		for (int k = 0; k < at_once; k++) {
			int i = base + k * round;

			if (i - (int)(threadIdx.x % 32) * 8 >= end)
				break;
			if (i < end)
				*(uint4 *)(to + i) = v[k];
			put_sums<ROWS, 8>(j, sum_of_pair(v[k].x) + sum_of_pair(v[k].z),
			    sum_of_pair(v[k].y) + sum_of_pair(v[k].w), i, sums);
		}
	}
}

/*
 * All rows of it; part: room for sums that is used for nothing else before the
 * next barrier. asked() is called once, by all threads, for what is to be asked
 * for behind the first row.
 */
template <typename ROWS, typename Asked>
static __device__ __forceinline__ void
fetch_operand(const gemv_job &j, const struct operand &to, float *part, const float4 *weights, Asked asked)
{
	const int each = ROWS::blocks * (ROWS::minima ? 2 : 1);

	for (int i = 0; i < j.n; i++) {
		__half *x = to.x + i * j.ldx;
		float *sums = to.sums + i * j.steps * each;
		/* Two rows in turn use sums of their own. */
		float *mine = part + i % 2 * 2 * WARPS;

		auto once = [&]() {
			if (i == 0)
				asked();
		};

		if (j.x16 != NULL) {
			fetch_halves<ROWS>(j, i, x, sums, once);
		} else if (can_keep(j)) {
			fetch_kept<ROWS>(j, i, x, sums, mine, weights, once);
		} else {
			once();
			fetch_floats<ROWS>(j, i, x, sums, mine);
		}
	}
	if (ROWS::blocks > 0 && threadIdx.x < 16)
		to.x[j.n * j.ldx + threadIdx.x] = __float2half_rn(0);
}

#endif
