/* Operations on rows of float32: norms, rotation, activation, sums, scores. Nothing here is tuned beyond coalescing. */
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

void
rows_norm(struct cuda *c, enum norm_kind kind, float eps, const float *weight, const float *bias, const float *x,
    int64_t n, int64_t width, float *y32, __half *y16, int64_t ld16, float *add_to)
{
	struct norm_job j = { kind, eps, weight, bias, x, width, ld16, y32, add_to, y16 };

	launch(c, true, norm_kernel, (unsigned)n, THREADS, 0, j);
}

/* As rope_angle in the engine: the turn wraps exactly, whatever the position. */
static __global__ void
table_kernel(const uint64_t *turn, int half, float scale, const int64_t *positions, int n, float *table)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	double angle, s, c;

	if (i >= n * half)
		return;
	angle = (double)(int64_t)((uint64_t)positions[i / half] * turn[i % half]) * (2 * 3.14159265358979323846 * 0x1p-64);
	sincos(angle, &s, &c);
	table[2 * i] = (float)c * scale;
	table[2 * i + 1] = (float)s * scale;
}

void
rows_table(struct cuda *c, const uint64_t *turn, int n_rot, float scale, const int64_t *positions, int n, float *table)
{
	launch(c, false, table_kernel, blocks_for((int64_t)n * n_rot / 2, 128), 128, 0, turn, n_rot / 2, scale, positions, n,
	    table);
}

/* One thread for each pair, and for each element that is only copied. */
static __global__ void
rotate_kernel(enum rope_style style, int n_rot, const float *table, const float *x, int64_t n, int heads, int d, float *y)
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

	launch(c, false, rotate_kernel, blocks_for(work, THREADS), THREADS, 0, style, n_rot, table, x, (int64_t)n, heads, d,
	    y);
}

static __global__ void __launch_bounds__(THREADS)
activate_kernel(struct activation_call a)
{
	int64_t i, row, at;
	float y;

	wait_for_predecessor();
	i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	row = i / a.width;
	if (row >= a.n)
		return;
	at = row * a.ld + i % a.width;
	y = activation(a.act, a.gate[at]) * (a.up != NULL ? a.up[at] : 1);
	if (a.y32 != NULL)
		a.y32[i] = y;
	if (a.y16 != NULL)
		a.y16[row * a.ld16 + i % a.width] = to_half(y * a.scale);
}

void
rows_activate(struct cuda *c, const struct activation_call *a)
{
	launch(c, true, activate_kernel, blocks_for(a->n * a->width, THREADS), THREADS, 0, *a);
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

	if (i < n)
		x[i] = y[i];
}

void
rows_copy(struct cuda *c, float *dst, const float *src, int64_t n)
{
	launch(c, false, copy_kernel, blocks_for(n, THREADS), THREADS, 0, dst, src, n);
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

static __global__ void
finish_kernel(float *y, int64_t n, int64_t width, int64_t ld, const float *bias, float clamp)
{
	int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, at = i / width * ld + i % width;
	float v;

	if (i >= n * width)
		return;
	v = y[at] + (bias != NULL ? bias[i % width] : 0);
	y[at] = clamp > 0 ? fminf(fmaxf(v, -clamp), clamp) : v;
}

void
rows_finish(struct cuda *c, float *y, int64_t n, int64_t width, int64_t ld, const float *bias, float clamp)
{
	if (bias != NULL || clamp > 0)
		launch(c, false, finish_kernel, blocks_for(n * width, THREADS), THREADS, 0, y, n, width, ld, bias, clamp);
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

/*
 * One block per row reads the logits once: each thread keeps the largest it
 * saw and the sum of exponentials relative to that.
 */
static __global__ void __launch_bounds__(THREADS)
score_kernel(const float *logits, int64_t width, const float *bias, float softcap, const int32_t *targets, float *nll)
{
	const float *z = logits + blockIdx.x * width;
	float largest = -INFINITY, sum = 0, all;

	for (int64_t i = threadIdx.x; i < width; i += THREADS) {
		float v = logit(z[i], bias, i, softcap);

		if (v > largest) {
			sum *= expf(largest - v);
			largest = v;
		}
		sum += expf(v - largest);
	}
	all = reduce_block<true>(largest);
	sum = reduce_block<false>(largest == -INFINITY ? 0 : sum * expf(largest - all));
	if (threadIdx.x == 0)
		nll[blockIdx.x] = logf(sum) + all - logit(z[targets[blockIdx.x]], bias, targets[blockIdx.x], softcap);
}

void
rows_score(struct cuda *c, const float *z, int64_t n, int64_t width, const float *bias, float softcap,
    const int32_t *targets, float *nll)
{
	launch(c, false, score_kernel, (unsigned)n, THREADS, 0, z, width, bias, softcap, targets, nll);
}
