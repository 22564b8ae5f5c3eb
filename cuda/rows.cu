/* Operations on rows of float32: norms, rotation, activation, sums, scores. Nothing here is tuned beyond coalescing. */
#include <float.h>

#include "launch.cuh"

enum { THREADS = 256 };

/* The sum (or largest) of one value per thread of a block, known to all. */
template <bool LARGEST>
static __device__ float
reduce_block(float x)
{
	__shared__ float part[32];
	int warps = (blockDim.x + 31) / 32;

	x = LARGEST ? max_lanes<1, 16>(x) : sum_lanes<1, 16>(x);
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = x;
	__syncthreads();
	x = part[0];
	for (int i = 1; i < warps; i++)
		x = LARGEST ? fmaxf(x, part[i]) : x + part[i];
	return x;
}

struct norm_job {
	enum norm_kind kind;
	float eps;
	const float *weight, *bias, *x;
	int64_t width, ld16;
	float *y32, *add_to;
	__half *y16;
};

static __global__ void __launch_bounds__(THREADS)
norm_kernel(struct norm_job j)
{
	const float *x;
	float mean = 0, square = 0, scale;

	wait_for_predecessor();
	x = j.x + blockIdx.x * j.width;
	if (j.kind == NORM_LAYER) {
		for (int64_t i = threadIdx.x; i < j.width; i += THREADS)
			mean += x[i];
		mean = reduce_block<false>(mean) / (float)j.width;
	}
	for (int64_t i = threadIdx.x; i < j.width; i += THREADS)
		square += (x[i] - mean) * (x[i] - mean);
	scale = rsqrtf(reduce_block<false>(square) / (float)j.width + j.eps);
	for (int64_t i = threadIdx.x; i < j.width; i += THREADS) {
		float y = (x[i] - mean) * scale * j.weight[i] + (j.bias != NULL ? j.bias[i] : 0);
		int64_t at = blockIdx.x * j.width + i;

		if (j.y32 != NULL)
			j.y32[at] = y;
		if (j.y16 != NULL)
			j.y16[blockIdx.x * j.ld16 + i] = to_half(y);
		if (j.add_to != NULL)
			j.add_to[at] += y;
	}
}

/* The same for rows that LANES threads hold, four values at a time. */
enum { NORM_KEPT = 8 };

template <int LANES>
static __global__ void __launch_bounds__(THREADS)
norm_kept_kernel(struct norm_job j, int64_t n)
{
	int64_t row = (int64_t)blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
	int lane = threadIdx.x % LANES, width = (int)j.width;
	float mean = 0, square = 0, scale;
	float4 v[NORM_KEPT];
	const float4 *x;

	auto sum = [&](float part) { return LANES == 32 ? sum_lanes<1, 16>(part) : reduce_block<false>(part); };

	wait_for_predecessor();
	if (row >= n)
		return;
	x = (const float4 *)(j.x + row * j.width);
#pragma unroll
	for (int k = 0; k < NORM_KEPT; k++) {
		int i = lane + k * LANES;

		v[k] = i * 4 < width ? x[i] : make_float4(0, 0, 0, 0);
	}
	if (j.kind == NORM_LAYER) {
#pragma unroll
		for (int k = 0; k < NORM_KEPT; k++)
			mean += v[k].x + v[k].y + v[k].z + v[k].w;
		mean = sum(mean) / (float)width;
	}
#pragma unroll
	for (int k = 0; k < NORM_KEPT; k++) {
		if ((lane + k * LANES) * 4 >= width)
			continue;
		v[k] = make_float4(v[k].x - mean, v[k].y - mean, v[k].z - mean, v[k].w - mean);
		square += v[k].x * v[k].x + v[k].y * v[k].y + v[k].z * v[k].z + v[k].w * v[k].w;
	}
	scale = rsqrtf(sum(square) / (float)width + j.eps);
#pragma unroll
	for (int k = 0; k < NORM_KEPT; k++) {
		int i = lane + k * LANES;
		float4 w, b = make_float4(0, 0, 0, 0), y;

		if (i * 4 >= width)
			continue;
		w = ((const float4 *)j.weight)[i];
		if (j.bias != NULL)
			b = ((const float4 *)j.bias)[i];
		y = make_float4(v[k].x * scale * w.x + b.x, v[k].y * scale * w.y + b.y, v[k].z * scale * w.z + b.z,
		    v[k].w * scale * w.w + b.w);
		if (j.y32 != NULL)
			((float4 *)(j.y32 + row * j.width))[i] = y;
		if (j.y16 != NULL)
			*(uint2 *)(j.y16 + row * j.ld16 + 4 * i) = make_uint2(to_pair(y.x, y.y), to_pair(y.z, y.w));
		if (j.add_to != NULL) {
			float4 *to = (float4 *)(j.add_to + row * j.width) + i;

			*to = make_float4(to->x + y.x, to->y + y.y, to->z + y.z, to->w + y.w);
		}
	}
}

/* Addresses of rows that can be read and written four values at a time. */
static bool
by_fours(const void *x, int64_t width)
{
	return width % 4 == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0;
}

void
rows_norm(struct cuda *c, enum norm_kind kind, float eps, const float *weight, const float *bias, const float *x,
    int64_t n, int64_t width, float *y32, __half *y16, int64_t ld16, float *add_to)
{
	struct norm_job j = { kind, eps, weight, bias, x, width, ld16, y32, add_to, y16 };

	if (!by_fours(x, width) || (y32 != NULL && !by_fours(y32, width)) ||
	    (add_to != NULL && !by_fours(add_to, width)) ||
	    width > NORM_KEPT * 4 * THREADS)
		launch(c, true, norm_kernel, (unsigned)n, THREADS, 0, j);
	else if (width <= NORM_KEPT * 4 * 32)
		launch(c, true, norm_kept_kernel<32>, blocks_for(n, THREADS / 32), THREADS, 0, j, n);
	else
		launch(c, true, norm_kept_kernel<THREADS>, (unsigned)n, THREADS, 0, j, n);
}

/* As rope_angle in the engine: the turn wraps exactly, whatever the position. */
static __global__ void
table_kernel(const uint64_t *turn, int half, float scale, const int64_t *positions, int n, float *table)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	double angle, s, c;

	wait_for_predecessor();
	if (i >= n * half)
		return;
	angle = (double)(int64_t)((uint64_t)positions[i / half] * turn[i % half]) *
	    (2 * 3.14159265358979323846 * 0x1p-64);
	sincos(angle, &s, &c);
	table[2 * i] = (float)c * scale;
	table[2 * i + 1] = (float)s * scale;
}

void
rows_table(struct cuda *c, const uint64_t *turn, int n_rot, float scale, const int64_t *positions, int n, float *table)
{
	launch(c, true, table_kernel, blocks_for((int64_t)n * n_rot / 2, 128), 128, 0, turn, n_rot / 2, scale,
	    positions, n, table);
}

/* One thread for each pair, and for each element that is only copied. */
static __global__ void
rotate_kernel(enum rope_style style, int n_rot, const float *table, const float *x, int64_t n, int heads, int d,
    float *y)
{
	int half = n_rot / 2, work = half + d - n_rot;
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, row = i / work, at = row * d;
	int k = (int)(i % work), a, b;
	const float *t;
	float xa, xb;

	if (row >= n * heads)
		return;
	if (k >= half) {
		k += half;
		y[at + k] = x[at + k];
		return;
	}
	a = style == ROPE_PAIRS ? 2 * k : k;
	b = style == ROPE_PAIRS ? 2 * k + 1 : k + half;
	t = table + (row / heads * half + k) * 2;
	xa = x[at + a];
	xb = x[at + b];
	y[at + a] = xa * t[0] - xb * t[1];
	y[at + b] = xa * t[1] + xb * t[0];
}

void
rows_rotate(struct cuda *c, enum rope_style style, int n_rot, const float *table, const float *x, int n, int heads,
    int d, float *y)
{
	int64_t work = (int64_t)n * heads * (d - n_rot / 2);

	launch(c, false, rotate_kernel, blocks_for(work, THREADS), THREADS, 0, style, n_rot, table, x, (int64_t)n,
	    heads, d, y);
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
activate_kernel(struct activation_call a)
{
	const T *gate = static_cast<const T *>(a.gate), *up = static_cast<const T *>(a.up);
	int64_t i, row, at;
	float y;

	wait_for_predecessor();
	i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	row = i / a.width;
	if (row >= a.n)
		return;
	at = row * a.ld + i % a.width;
	y = activation(a.act, load_one(gate + at) * a.unscale) * (up != NULL ? load_one(up + at) * a.unscale : 1);
	if (a.y32 != NULL)
		a.y32[i] = y;
	if (a.y16 != NULL)
		a.y16[row * a.ld16 + i % a.width] = to_half(y * a.scale);
}

/* Four values of row blockIdx.x at a time. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
activate_fours_kernel(struct activation_call a)
{
	int64_t i = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * 4, row = blockIdx.x;
	float4 g, u = make_float4(1, 1, 1, 1);
	float factor = a.up != NULL ? a.unscale : 1;

	wait_for_predecessor();
	if (i >= a.width)
		return;
	g = load_four(static_cast<const T *>(a.gate) + row * a.ld + i);
	if (a.up != NULL)
		u = load_four(static_cast<const T *>(a.up) + row * a.ld + i);
	g = make_float4(activation(a.act, g.x * a.unscale) * u.x * factor,
	    activation(a.act, g.y * a.unscale) * u.y * factor,
	    activation(a.act, g.z * a.unscale) * u.z * factor, activation(a.act, g.w * a.unscale) * u.w * factor);
	if (a.y32 != NULL)
		*(float4 *)(a.y32 + row * a.width + i) = g;
	if (a.y16 != NULL)
		*(uint2 *)(a.y16 + row * a.ld16 + i) = make_uint2(to_pair(g.x * a.scale, g.y * a.scale),
		    to_pair(g.z * a.scale, g.w * a.scale));
}

template <typename T>
static void
rows_run_activation(struct cuda *c, const struct activation_call *a)
{
	if (by_fours(a->gate, a->width) && by_fours(a->up, a->ld) && by_fours(a->y32, a->width) && a->n > 1)
		launch(c, true, activate_fours_kernel<T>, dim3((unsigned)a->n, blocks_for(a->width, 4 * THREADS)),
		    THREADS, 0,
		    *a);
	else
		launch(c, true, activate_kernel<T>, blocks_for(a->n * a->width, THREADS), THREADS, 0, *a);
}

void
rows_activate(struct cuda *c, const struct activation_call *a)
{
	if (a->halves)
		rows_run_activation<__half>(c, a);
	else
		rows_run_activation<float>(c, a);
}

static __global__ void
add_kernel(float *x, const float *y, int64_t n)
{
	int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < n)
		x[i] += y[i];
}

void
rows_add(struct cuda *c, float *x, const float *y, int64_t n)
{
	launch(c, false, add_kernel, blocks_for(n, THREADS), THREADS, 0, x, y, n);
}

static __global__ void
copy_kernel(float *x, const float *y, int64_t n)
{
	int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;

	wait_for_predecessor();
	if (i < n)
		x[i] = y[i];
}

void
rows_copy(struct cuda *c, float *dst, const float *src, int64_t n)
{
	launch(c, true, copy_kernel, blocks_for(n, THREADS), THREADS, 0, dst, src, n);
}

static __global__ void
halve_kernel(const float *x, int64_t n, int64_t width, float scale, __half *y, int64_t ld)
{
	int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, k = i % ld;

	if (i < n * ld)
		y[i] = k < width ? to_half(x[i / ld * width + k] * scale) : __float2half_rn(0);
}

void
rows_halve(struct cuda *c, const float *x, int64_t n, int64_t width, float scale, __half *y16, int64_t ld16)
{
	launch(c, false, halve_kernel, blocks_for(n * ld16, THREADS), THREADS, 0, x, n, width, scale, y16, ld16);
}

static __device__ __forceinline__ void
store_one(float *y, float x)
{
	*y = x;
}

static __device__ __forceinline__ void
store_one(__half *y, float x)
{
	*y = to_half(x);
}

template <typename T>
static __global__ void
finish_kernel(T *y, int64_t n, int64_t width, int64_t ld, const float *bias, float clamp, float scale)
{
	int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, at = i / width * ld + i % width;
	float v;

	if (i >= n * width)
		return;
	v = load_one(y + at) / scale + (bias != NULL ? bias[i % width] : 0);
	store_one(y + at, (clamp > 0 ? limit(v, clamp) : v) * scale);
}

template <typename T>
static void
rows_end(struct cuda *c, T *y, int64_t n, int64_t width, int64_t ld, const float *bias, float clamp, float scale)
{
	if (bias != NULL || clamp > 0)
		launch(c, false, finish_kernel<T>, blocks_for(n * width, THREADS), THREADS, 0, y, n, width, ld, bias,
		    clamp, scale);
}

void
rows_finish_half(struct cuda *c, __half *y, int64_t n, int64_t width, int64_t ld, const float *bias, float clamp,
    float scale)
{
	rows_end(c, y, n, width, ld, bias, clamp, scale);
}

void
rows_finish(struct cuda *c, float *y, int64_t n, int64_t width, int64_t ld, const float *bias, float clamp)
{
	rows_end(c, y, n, width, ld, bias, clamp, 1);
}

static __device__ __forceinline__ float
logit(float z, const float *bias, int64_t i, float softcap)
{
	z += bias != NULL ? bias[i] : 0;
	return softcap > 0 ? softcap * tanhf(z / softcap) : z;
}

static __global__ void
cap_kernel(float *z, int64_t n, int64_t width, const float *bias, float softcap)
{
	int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < n * width)
		z[i] = logit(z[i], bias, i % width, softcap);
}

void
rows_cap(struct cuda *c, float *z, int64_t n, int64_t width, const float *bias, float softcap)
{
	if (bias != NULL || softcap > 0)
		launch(c, false, cap_kernel, blocks_for(n * width, THREADS), THREADS, 0, z, n, width, bias, softcap);
}

/* What the blocks of likeliest_kernel agree on; zero between launches. */
struct agreement {
	unsigned long long best;
	unsigned count;
};

static_assert(sizeof(struct agreement) <= (COUNTERS_ALL - COUNTERS) * sizeof(unsigned), "they share their memory");

static const uint32_t nan_rank = 0xffffffff;

/* A place and its value as one number, the larger the better: NaN, or the larger value, or the earlier of equals. */
static __device__ __forceinline__ unsigned long long
rows_rank_of(float y, int at)
{
	uint32_t bits = __float_as_uint(y + 0.0f); /* -0 is 0 */

	bits = is_nan(y) ? nan_rank : bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
	return (unsigned long long)bits << 32 | ~(uint32_t)at;
}

static __global__ void __launch_bounds__(THREADS)
likeliest_kernel(const float *z, int64_t width, struct agreement *all, struct likeliest *latest,
    volatile uint64_t *told)
{
	__shared__ unsigned long long ranks[THREADS / 32];
	float best = -INFINITY;
	unsigned long long rank;
	int at = 0;

	wait_for_predecessor();
	/* The first NaN that a thread sees stays its best. */
#pragma unroll 8
	for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < width; i += gridDim.x * THREADS)
		if (z[i] > best || (is_nan(z[i]) && !is_nan(best))) {
			best = z[i];
			at = (int)i;
		}
	rank = rows_rank_of(best, at);
#pragma unroll
	for (int i = 16; i > 0; i /= 2)
		rank = max(rank, __shfl_xor_sync(0xffffffffu, rank, i));
	if (threadIdx.x % 32 == 0)
		ranks[threadIdx.x / 32] = rank;
	__syncthreads();
	if (threadIdx.x > 0)
		return;
	for (int i = 1; i < THREADS / 32; i++)
		rank = max(rank, ranks[i]);
	atomicMax(&all->best, rank);
	__threadfence();
	if (atomicInc(&all->count, gridDim.x - 1) != gridDim.x - 1)
		return;
	rank = atomicExch(&all->best, 0);
	at = (int32_t)~(uint32_t)rank;
	latest->id = at;
	latest->found++;
	told[(latest->found - 1) % LIKELIEST_MAX] =
	    (uint64_t)latest->found << 32 | (uint32_t)at | (rank >> 32 == nan_rank ? TOLD_NAN : 0);
}

void
rows_likeliest(struct cuda *c, const float *z, int64_t width)
{
	unsigned blocks = blocks_for(width, 8 * THREADS);

	launch(c, true, likeliest_kernel, blocks < (unsigned)c->sms ? blocks : (unsigned)c->sms, THREADS, 0, z, width,
	    reinterpret_cast<struct agreement *>(c->counters + COUNTERS), c->likeliest, c->told);
}

/*
 * One block per row reads the logits once: each thread keeps the largest it
 * saw and the sum of exponentials relative to that.
 */
static __global__ void __launch_bounds__(THREADS)
score_kernel(const float *logits, int64_t width, const float *bias, float softcap, const int32_t *targets, float *nll)
{
	const float *z = logits + blockIdx.x * width;
	/* Finite, so that NaN comes from NaN among the logits alone, and always. */
	float largest = -FLT_MAX, sum = 0, all;
	int64_t fours = width % 4 == 0 && bias == NULL && softcap == 0 ? width / 4 : 0;

	wait_for_predecessor();
#pragma unroll 4
	for (int64_t i = threadIdx.x; i < fours; i += THREADS) {
		float4 v = __ldcs((const float4 *)z + i);
		float top = fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w));

		if (top > largest) {
			sum *= __expf(largest - top);
			largest = top;
		}
		sum += __expf(v.x - largest) + __expf(v.y - largest) + __expf(v.z - largest) + __expf(v.w - largest);
	}
	for (int64_t i = 4 * fours + threadIdx.x; i < width; i += THREADS) {
		float v = logit(z[i], bias, i, softcap);

		if (v > largest) {
			sum *= expf(largest - v);
			largest = v;
		}
		sum += expf(v - largest);
	}
	all = reduce_block<true>(largest);
	sum = reduce_block<false>(sum * expf(largest - all));
	if (threadIdx.x == 0)
		nll[blockIdx.x] = logf(sum) + all - logit(z[targets[blockIdx.x]], bias, targets[blockIdx.x], softcap);
}

void
rows_score(struct cuda *c, const float *z, int64_t n, int64_t width, const float *bias, float softcap,
    const int32_t *targets, float *nll)
{
	launch(c, true, score_kernel, (unsigned)n, THREADS, 0, z, width, bias, softcap, targets, nll);
}
