/*
 * Keys and values in device memory: per layer and head the sinks' slots, then
 * the ring's. Queries and keys are normalised and rotated on their way from
 * the product to the attention and the cache.
 */
#include <stdlib.h>
#include <string.h>

#include "rows.cuh"

enum { WARPS = 4 };

static size_t
element_size(enum kv_type type)
{
	return type == KV_F32 ? sizeof(float) : type == KV_F16 ? sizeof(__half) : 1;
}

/* Elements from slot to slot: whole 16-byte loads, and whole groups of 32 that share a scale. */
static int
row_length(enum kv_type type, int d)
{
	int unit = type == KV_F32 ? 1 : type == KV_F16 ? 8 : 32;

	return (d + unit - 1) / unit * unit;
}

static int64_t
rows_of(const struct cache *c)
{
	return (int64_t)c->s.n_layer * c->s.n_head_kv * c->slots;
}

static int
allocate(struct cuda *u, struct cache *c, struct err *e)
{
	size_t rows, k, v, scales = 0;

	c->slots = c->sink_slots + c->s.slots;
	rows = (size_t)rows_of(c);
	k = rows * (size_t)c->k_ld * element_size(c->s.type);
	v = rows * (size_t)c->v_ld * element_size(c->s.type);
	if (c->s.type == KV_Q8_0)
		scales = rows * (size_t)(c->k_ld + c->v_ld) / 32 * sizeof(__half);
	c->bytes = k + v + scales;
	c->k = c->v = c->k_scale = c->v_scale = NULL;
	if (cudaMalloc(&c->k, k) != cudaSuccess || cudaMalloc(&c->v, v) != cudaSuccess ||
	    (scales > 0 && (cudaMalloc(&c->k_scale, rows * (size_t)c->k_ld / 32 * sizeof(__half)) != cudaSuccess ||
	     cudaMalloc(&c->v_scale, rows * (size_t)c->v_ld / 32 * sizeof(__half)) != cudaSuccess))) {
		cudaGetLastError();
		return err_set(e, EX_OSERR, "%s: not enough memory for keys and values of %lld tokens (%zu MiB)", u->path,
		    (long long)c->slots, c->bytes >> 20);
	}
	CHECK(u, cudaMemsetAsync(c->k, 0, k, u->stream));
	CHECK(u, cudaMemsetAsync(c->v, 0, v, u->stream));
	if (scales > 0) {
		CHECK(u, cudaMemsetAsync(c->k_scale, 0, rows * (size_t)c->k_ld / 32 * sizeof(__half), u->stream));
		CHECK(u, cudaMemsetAsync(c->v_scale, 0, rows * (size_t)c->v_ld / 32 * sizeof(__half), u->stream));
	}
	return cuda_report(u, e);
}

static void
release(struct cache *c)
{
	cudaFree(c->k);
	cudaFree(c->v);
	cudaFree(c->k_scale);
	cudaFree(c->v_scale);
}

struct cache *
cache_new(struct backend *b, const struct cache_shape *shape, struct err *e)
{
	struct cuda *u = cuda_of(b);
	struct cache *c = static_cast<struct cache *>(calloc(1, sizeof *c));

	if (c == NULL) {
		err_set(e, EX_OSERR, "out of memory for the cache");
		return NULL;
	}
	cuda_use(u);
	c->s = *shape;
	/* Halves have more digits than bfloat16, and their tensor cores' kernels end at 256 elements. */
	if (c->s.type == KV_BF16)
		c->s.type = KV_F16;
	if (shape->d_k > 256 || shape->d_v > 256)
		c->s.type = KV_F32;
	c->sink_slots = (shape->sinks + shape->more_sinks + CACHE_BLOCK - 1) / CACHE_BLOCK * CACHE_BLOCK;
	c->k_ld = row_length(c->s.type, shape->d_k);
	c->v_ld = row_length(c->s.type, shape->d_v);
	if (shape->d_k > HEAD_MAX || shape->d_v > HEAD_MAX)
		err_set(e, EX_UNAVAILABLE, "%s: heads of more than %d elements are not supported", u->path, (int)HEAD_MAX);
	else if (allocate(u, c, e) == 0)
		return c;
	cache_free(b, c);
	return NULL;
}

void
cache_free(struct backend *b, struct cache *c)
{
	struct cuda *u = cuda_of(b);

	if (c == NULL)
		return;
	cuda_use(u);
	plan_flush(u);
	plan_forget(u);
	cudaStreamSynchronize(u->stream);
	release(c);
	free(c);
}

/* Each head's slots move to the front of its new place. */
static void
move_heads(struct cuda *u, const struct cache *to, void *dst, const struct cache *from, const void *src, size_t row)
{
	size_t heads = (size_t)to->s.n_layer * (size_t)to->s.n_head_kv;

	if (src != NULL)
		CHECK(u, cudaMemcpy2DAsync(dst, (size_t)to->slots * row, src, (size_t)from->slots * row,
		    (size_t)from->slots * row, heads, cudaMemcpyDeviceToDevice, u->stream));
}

int
cache_grow(struct backend *b, struct cache *c, int64_t slots, struct err *e)
{
	struct cuda *u = cuda_of(b);
	struct cache old = *c;
	size_t size = element_size(c->s.type);

	cuda_use(u);
	plan_flush(u);
	plan_forget(u);
	c->s.slots = slots;
	if (allocate(u, c, e) < 0) {
		release(c);
		*c = old;
		return -1;
	}
	move_heads(u, c, c->k, &old, old.k, (size_t)c->k_ld * size);
	move_heads(u, c, c->v, &old, old.v, (size_t)c->v_ld * size);
	move_heads(u, c, c->k_scale, &old, old.k_scale, (size_t)c->k_ld / 32 * sizeof(__half));
	move_heads(u, c, c->v_scale, &old, old.v_scale, (size_t)c->v_ld / 32 * sizeof(__half));
	CHECK(u, cudaStreamSynchronize(u->stream));
	release(&old);
	return cuda_report(u, e);
}

size_t
cache_bytes(const struct cache *c)
{
	return c->bytes;
}

struct cache_view
cache_view(const struct cache *c, int layer, int64_t native)
{
	struct cache_view v = {};
	size_t rows = (size_t)layer * (size_t)c->s.n_head_kv * (size_t)c->slots, size = element_size(c->s.type);

	v.type = c->s.type;
	v.k = static_cast<char *>(c->k) + rows * (size_t)c->k_ld * size;
	v.v = static_cast<char *>(c->v) + rows * (size_t)c->v_ld * size;
	if (v.type == KV_Q8_0) {
		v.k_scale = c->k_scale + rows * (size_t)c->k_ld / 32;
		v.v_scale = c->v_scale + rows * (size_t)c->v_ld / 32;
	}
	v.sinks = c->s.sinks;
	v.sink_slots = c->sink_slots;
	v.slots = c->slots;
	v.ring = c->s.slots;
	v.window = c->s.window;
	v.native = native;
	v.n_head_kv = c->s.n_head_kv;
	v.d_k = c->s.d_k;
	v.d_v = c->s.d_v;
	v.k_ld = c->k_ld;
	v.v_ld = c->v_ld;
	return v;
}

struct prepare_job {
	struct cache_view v;
	struct rotation r;
	const int64_t *first;
	int n, n_head;         /* n_head 0: no queries */
	const float *q, *k, *values;
	int64_t ld_q, ld_k, ld_v;
	__half *window, *sink;
};

/* One warp per token and head: queries first, then keys, then values. */
static __global__ void __launch_bounds__(WARPS * 32)
prepare_kernel(const __grid_constant__ prepare_job j)
{
	extern __shared__ float rows[];
	int lane = threadIdx.x % 32, heads = j.n_head + 2 * j.v.n_head_kv, longest = max(j.v.d_k, j.v.d_v);
	int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
	int token = (int)(i / heads), head = (int)(i % heads);
	float *row = rows + threadIdx.x / 32 * longest;

	wait_for_predecessor();
	if (token >= j.n)
		return;
	if (head < j.n_head) {
		const float *x = j.q + token * j.ld_q + (int64_t)head * j.v.d_k;
		int64_t to = ((int64_t)token * j.n_head + head) * j.v.k_ld;

		for (int form = 0; form < 2; form++) {
			__half *y = form == 0 ? j.window : j.sink;

			if (y == NULL)
				continue;
			rotate_row(j.r, form == 0 ? j.r.window : j.r.sink, j.r.q_norm, x, token, j.v.d_k, row, lane);
			for (int d = lane; d < j.v.k_ld; d += 32)
				y[to + d] = d < j.v.d_k ? to_half(row[d]) : __float2half_rn(0);
			__syncwarp();
		}
		return;
	}
	head -= j.n_head;
	if (head < j.v.n_head_kv) {
		rotate_row(j.r, j.r.window, j.r.k_norm, j.k + token * j.ld_k + (int64_t)head * j.v.d_k, token, j.v.d_k, row,
		    lane);
		store_row(j.v, true, head, *j.first + token, row, lane);
		return;
	}
	head -= j.v.n_head_kv;
	for (int d = lane; d < j.v.d_v; d += 32)
		row[d] = j.values[token * j.ld_v + (int64_t)head * j.v.d_v + d];
	__syncwarp();
	store_row(j.v, false, head, *j.first + token, row, lane);
}

static __device__ __forceinline__ float2
turn(float a, float b, float cosine, float sine)
{
	return make_float2(a * cosine - b * sine, a * sine + b * cosine);
}

/* Two pairs of a row, i and i + 1, turned and put into a row of halves. */
template <bool PAIRS>
static __device__ __forceinline__ void
put_turned(const float4 &x, const float4 &t, int i, int half, __half *y)
{
	float2 p = turn(x.x, x.y, t.x, t.y), q = turn(x.z, x.w, t.z, t.w);

	if (PAIRS) {
		*(uint2 *)(y + 2 * i) = make_uint2(to_pair(p.x, p.y), to_pair(q.x, q.y));
	} else {
		*(uint32_t *)(y + i) = to_pair(p.x, q.x);
		*(uint32_t *)(y + i + half) = to_pair(p.y, q.y);
	}
}

/* The usual case: whole heads of up to 128 elements are rotated, into halves. A block takes a token, a warp a head. */
template <bool PAIRS>
static __global__ void __launch_bounds__(WARPS * 32)
prepare_usual_kernel(const __grid_constant__ prepare_job j)
{
	const struct cache_view &v = j.v;
	int lane = threadIdx.x % 32, half = v.d_k / 2, i = 2 * lane, all = j.n_head + 2 * v.n_head_kv;
	int64_t token = blockIdx.x, slot;
	float4 window = make_float4(0, 0, 0, 0), sink = window;

	wait_for_predecessor();
	slot = slot_of(v, *j.first + token);
	if (i < half) {
		window = ((const float4 *)(j.r.window + token * half * 2))[lane];
		if (j.sink != NULL)
			sink = ((const float4 *)(j.r.sink + token * half * 2))[lane];
	}
	for (int head = threadIdx.x / 32; head < all; head += WARPS) {
		bool query = head < j.n_head, key = !query && head < j.n_head + v.n_head_kv;
		const float *x = query ? j.q + token * j.ld_q + head * v.d_k
		    : key ? j.k + token * j.ld_k + (head - j.n_head) * v.d_k
		          : j.values + token * j.ld_v + (head - j.n_head - v.n_head_kv) * v.d_v;
		int64_t at = (token * j.n_head + head) * v.d_k;
		float4 y;

		if (!query && !key) {
			__half *to = static_cast<__half *>(v.v) + ((head - j.n_head - v.n_head_kv) * v.slots + slot) * v.v_ld;

			for (int d = 4 * lane; d < v.d_v; d += 128) {
				y = *(const float4 *)(x + d);
				*(uint2 *)(to + d) = make_uint2(to_pair(y.x, y.y), to_pair(y.z, y.w));
			}
			continue;
		}
		if (i >= half)
			continue;
		if (PAIRS) {
			y = ((const float4 *)x)[lane];
		} else {
			float2 a = ((const float2 *)x)[lane], b = ((const float2 *)(x + half))[lane];

			y = make_float4(a.x, b.x, a.y, b.y);
		}
		if (key) {
			put_turned<PAIRS>(y, window, i, half,
			    static_cast<__half *>(v.k) + ((head - j.n_head) * v.slots + slot) * v.k_ld);
			continue;
		}
		put_turned<PAIRS>(y, window, i, half, j.window + at);
		if (j.sink != NULL)
			put_turned<PAIRS>(y, sink, i, half, j.sink + at);
	}
}

static bool
is_usual(const struct prepare_job *j)
{
	const struct cache_view *v = &j->v;

	return j->n_head > 0 && j->r.style != ROPE_NONE && j->r.q_norm == NULL && j->r.n_rot == v->d_k && v->d_k % 4 == 0 &&
	    v->d_k <= 128 && v->d_v % 4 == 0 && v->k_ld == v->d_k && v->v_ld == v->d_v && v->type == KV_F16 &&
	    j->ld_q % 4 == 0 && j->ld_k % 4 == 0 && j->ld_v % 4 == 0 && reinterpret_cast<uintptr_t>(j->q) % 16 == 0 &&
	    reinterpret_cast<uintptr_t>(j->k) % 16 == 0 && reinterpret_cast<uintptr_t>(j->values) % 16 == 0;
}

static void
start(struct cuda *c, const struct prepare_job *j)
{
	int64_t rows = (int64_t)j->n * (j->n_head + 2 * j->v.n_head_kv);
	size_t longest = (size_t)(j->v.d_k > j->v.d_v ? j->v.d_k : j->v.d_v);

	if (is_usual(j)) {
		launch(c, true, j->r.style == ROPE_PAIRS ? prepare_usual_kernel<true> : prepare_usual_kernel<false>,
		    (unsigned)j->n, WARPS * 32, 0, *j);
		return;
	}
	launch(c, true, prepare_kernel, blocks_for(rows, WARPS), WARPS * 32, WARPS * longest * sizeof(float), *j);
}

void
cache_store(struct cuda *c, const struct cache_view *v, const int64_t *first, int n, const float *k,
    const float *values)
{
	struct prepare_job j = {};

	j.v = *v;
	j.first = first;
	j.n = n;
	j.k = k;
	j.values = values;
	j.ld_k = (int64_t)v->n_head_kv * v->d_k;
	j.ld_v = (int64_t)v->n_head_kv * v->d_v;
	start(c, &j);
}

void
cache_prepare(struct cuda *c, const struct cache_view *v, const struct rotation *r, const int64_t *first, int n,
    int n_head, const float *q, const float *k, const float *values, int64_t ld, __half *window, __half *sink)
{
	struct prepare_job j = {};

	j.v = *v;
	j.r = *r;
	j.first = first;
	j.n = n;
	j.n_head = n_head;
	j.q = q;
	j.k = k;
	j.values = values;
	j.ld_q = ld > 0 ? ld : (int64_t)n_head * v->d_k;
	j.ld_k = ld > 0 ? ld : (int64_t)v->n_head_kv * v->d_k;
	j.ld_v = ld > 0 ? ld : (int64_t)v->n_head_kv * v->d_v;
	j.window = window;
	j.sink = sink;
	start(c, &j);
}
