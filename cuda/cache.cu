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
cuda_cache_element_size(enum kv_type type)
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
cuda_cache_allocate(struct cuda *u, struct cache *c, struct err *e)
{
	size_t rows, k, v, scales = 0;

	c->slots = c->sink_slots + c->s.slots;
	rows = (size_t)rows_of(c);
	k = rows * (size_t)c->k_ld * cuda_cache_element_size(c->s.type);
	v = rows * (size_t)c->v_ld * cuda_cache_element_size(c->s.type);
	if (c->s.type == KV_Q8_0)
		scales = rows * (size_t)(c->k_ld + c->v_ld) / 32 * sizeof(__half);
	c->bytes = k + v + scales;
	c->k = c->v = c->k_scale = c->v_scale = NULL;
	if (cudaMalloc(&c->k, k) != cudaSuccess || cudaMalloc(&c->v, v) != cudaSuccess ||
	    (scales > 0 && (cudaMalloc(&c->k_scale, rows * (size_t)c->k_ld / 32 * sizeof(__half)) != cudaSuccess ||
	     cudaMalloc(&c->v_scale, rows * (size_t)c->v_ld / 32 * sizeof(__half)) != cudaSuccess))) {
		cudaGetLastError();
		return err_set(e, EX_OSERR, "%s: not enough memory for keys and values of %lld tokens (%zu MiB)",
		    u->path, (long long)c->slots, c->bytes >> 20);
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
cuda_cache_release(struct cache *c)
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
		err_set(e, EX_UNAVAILABLE, "%s: heads of more than %d elements are not supported", u->path,
		    (int)HEAD_MAX);
	else if (cuda_cache_allocate(u, c, e) == 0)
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
	cuda_cache_release(c);
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
	size_t size = cuda_cache_element_size(c->s.type);

	cuda_use(u);
	plan_flush(u);
	plan_forget(u);
	c->s.slots = slots;
	if (cuda_cache_allocate(u, c, e) < 0) {
		cuda_cache_release(c);
		*c = old;
		return -1;
	}
	move_heads(u, c, c->k, &old, old.k, (size_t)c->k_ld * size);
	move_heads(u, c, c->v, &old, old.v, (size_t)c->v_ld * size);
	move_heads(u, c, c->k_scale, &old, old.k_scale, (size_t)c->k_ld / 32 * sizeof(__half));
	move_heads(u, c, c->v_scale, &old, old.v_scale, (size_t)c->v_ld / 32 * sizeof(__half));
	CHECK(u, cudaStreamSynchronize(u->stream));
	cuda_cache_release(&old);
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
	size_t rows = (size_t)layer * (size_t)c->s.n_head_kv * (size_t)c->slots,
	    size = cuda_cache_element_size(c->s.type);

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
	struct projections p;
	__half *window, *sink;
};

/* One warp per token and head: queries first, then keys, then values. */
template <typename T>
static __global__ void __launch_bounds__(WARPS * 32)
prepare_kernel(const __grid_constant__ prepare_job j)
{
	extern __shared__ float rows[];
	int lane = threadIdx.x % 32, heads = j.n_head + 2 * j.v.n_head_kv, longest = max(j.v.d_k, j.v.d_v);
	int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
	int token = (int)(i / heads), head = (int)(i % heads);
	float *row = rows + threadIdx.x / 32 * longest;
	const T *x;

	wait_for_predecessor();
	if (token >= j.n)
		return;
	if (head < j.n_head) {
		int64_t to = ((int64_t)token * j.n_head + head) * j.v.k_ld;

		x = static_cast<const T *>(j.p.q) + token * j.p.ld_q + (int64_t)head * j.v.d_k;
		for (int form = 0; form < 2; form++) {
			__half *y = form == 0 ? j.window : j.sink;

			if (y == NULL)
				continue;
			rotate_row(j.r, form == 0 ? j.r.window : j.r.sink, j.r.q_norm, x, token, j.v.d_k, row, lane,
			    j.p.unscale);
			for (int d = lane; d < j.v.k_ld; d += 32)
				y[to + d] = d < j.v.d_k ? to_half(row[d]) : __float2half_rn(0);
			__syncwarp();
		}
		return;
	}
	head -= j.n_head;
	if (head < j.v.n_head_kv) {
		x = static_cast<const T *>(j.p.k) + token * j.p.ld_k + (int64_t)head * j.v.d_k;
		rotate_row(j.r, j.r.window, j.r.k_norm, x, token, j.v.d_k, row, lane, j.p.unscale);
		spoil_key(row, j.v.d_k, static_cast<const T *>(j.p.values) + token * j.p.ld_v + (int64_t)head * j.v.d_v,
		    j.v.d_v, lane);
		store_row(j.v, true, head, *j.first + token, row, lane);
		return;
	}
	head -= j.v.n_head_kv;
	x = static_cast<const T *>(j.p.values) + token * j.p.ld_v + (int64_t)head * j.v.d_v;
	for (int d = lane; d < j.v.d_v; d += 32)
		row[d] = load_one(x + d) * j.p.unscale;
	__syncwarp();
	store_row(j.v, false, head, *j.first + token, row, lane);
}

/* Four neighbouring pairs of a row, i .. i + 3: elements a and b of each. */
struct pairs {
	float4 a, b;
};

template <bool PAIRS, typename T>
static __device__ __forceinline__ struct pairs
load_pairs(const T *x, int i, int half, float scale)
{
	struct pairs p = { load_four(x + (PAIRS ? 2 * i : i)), load_four(x + (PAIRS ? 2 * i + 4 : i + half)) };

	if (PAIRS)
		p = { make_float4(p.a.x, p.a.z, p.b.x, p.b.z), make_float4(p.a.y, p.a.w, p.b.y, p.b.w) };
	p.a = make_float4(p.a.x * scale, p.a.y * scale, p.a.z * scale, p.a.w * scale);
	p.b = make_float4(p.b.x * scale, p.b.y * scale, p.b.z * scale, p.b.w * scale);
	return p;
}

/* The pairs turned, into a row of halves. t: their cosines (x, z) and sines (y, w). */
template <bool PAIRS>
static __device__ __forceinline__ void
put_turned(const struct pairs &p, const float4 *t, int i, int half, __half *y)
{
	float4 a = make_float4(p.a.x * t[0].x - p.b.x * t[0].y, p.a.y * t[0].z - p.b.y * t[0].w,
	    p.a.z * t[1].x - p.b.z * t[1].y, p.a.w * t[1].z - p.b.w * t[1].w);
	float4 b = make_float4(p.a.x * t[0].y + p.b.x * t[0].x, p.a.y * t[0].w + p.b.y * t[0].z,
	    p.a.z * t[1].y + p.b.z * t[1].x, p.a.w * t[1].w + p.b.w * t[1].z);

	if (PAIRS) {
		*(uint4 *)(y + 2 * i) = make_uint4(to_pair(a.x, b.x), to_pair(a.y, b.y), to_pair(a.z, b.z),
		    to_pair(a.w, b.w));
	} else {
		*(uint2 *)(y + i) = make_uint2(to_pair(a.x, a.y), to_pair(a.z, a.w));
		*(uint2 *)(y + i + half) = make_uint2(to_pair(b.x, b.y), to_pair(b.z, b.w));
	}
}

/* The usual case: whole heads are rotated, into halves. A block takes a token; blockDim.x is a multiple of d_k / 8. */
template <typename T, bool PAIRS>
static __global__ void __launch_bounds__(WARPS * 32)
prepare_usual_kernel(const __grid_constant__ prepare_job j)
{
	const struct cache_view &v = j.v;
	int half = v.d_k / 2, lanes = v.d_k / 8, i = threadIdx.x % lanes * 4, fours = v.d_v / 4;
	int64_t token = blockIdx.x, slot;
	const T *q = static_cast<const T *>(j.p.q) + token * j.p.ld_q;
	const T *k = static_cast<const T *>(j.p.k) + token * j.p.ld_k;
	const T *values = static_cast<const T *>(j.p.values) + token * j.p.ld_v;
	float4 window[2], sink[2];
	int spoiled = 0;

	wait_for_predecessor();
	slot = slot_of(v, *j.first + token);
	for (int e = 0; e < 2; e++) {
		window[e] = ((const float4 *)(j.r.window + token * 2 * half + 2 * i))[e];
		if (j.sink != NULL)
			sink[e] = ((const float4 *)(j.r.sink + token * 2 * half + 2 * i))[e];
	}
	for (int f = threadIdx.x; f < v.n_head_kv * fours; f += blockDim.x) {
		float4 y = load_four(values + 4 * f);
		__half *to = static_cast<__half *>(v.v) + (f / fours * v.slots + slot) * v.v_ld + f % fours * 4;

		spoiled |= is_nan(y.x) || is_nan(y.y) || is_nan(y.z) || is_nan(y.w);
		*(uint2 *)to = make_uint2(to_value_pair(y.x * j.p.unscale, y.y * j.p.unscale),
		    to_value_pair(y.z * j.p.unscale, y.w * j.p.unscale));
	}
	/* A token with such a value has no key of any head, see to_value. */
	spoiled = __syncthreads_or(spoiled);
	for (int head = threadIdx.x / lanes; head < j.n_head + v.n_head_kv; head += blockDim.x / lanes) {
		int64_t at = (token * j.n_head + head) * v.d_k, key = ((head - j.n_head) * v.slots + slot) * v.k_ld;
		bool query = head < j.n_head;
		const T *x = query ? q + head * v.d_k : k + (head - j.n_head) * v.d_k;
		struct pairs p = load_pairs<PAIRS>(x, i, half, j.p.unscale);

		if (spoiled && !query)
			p.a = p.b = make_float4(NAN, NAN, NAN, NAN);
		put_turned<PAIRS>(p, window, i, half, query ? j.window + at : static_cast<__half *>(v.k) + key);
		if (query && j.sink != NULL)
			put_turned<PAIRS>(p, sink, i, half, j.sink + at);
	}
}

static bool
is_usual(const struct prepare_job *j)
{
	const struct cache_view *v = &j->v;
	int64_t lengths = j->p.ld_q | j->p.ld_k | j->p.ld_v;
	uintptr_t places = reinterpret_cast<uintptr_t>(j->p.q) | reinterpret_cast<uintptr_t>(j->p.k) |
	    reinterpret_cast<uintptr_t>(j->p.values);

	return j->n_head > 0 && j->r.style != ROPE_NONE && j->r.q_norm == NULL && j->r.n_rot == v->d_k &&
	    v->d_k % 8 == 0 &&
	    v->d_k <= 256 && v->d_v % 4 == 0 && v->k_ld == v->d_k && v->v_ld == v->d_v && v->type == KV_F16 &&
	    lengths % 4 == 0 && places % (j->p.halves ? 8 : 16) == 0;
}

template <typename T>
static void
cuda_cache_start(struct cuda *c, const struct prepare_job *j)
{
	int64_t rows = (int64_t)j->n * (j->n_head + 2 * j->v.n_head_kv);
	size_t longest = (size_t)(j->v.d_k > j->v.d_v ? j->v.d_k : j->v.d_v);
	int lanes = j->v.d_k / 8;

	if (is_usual(j))
		launch(c, true, j->r.style == ROPE_PAIRS ? prepare_usual_kernel<T, true> : prepare_usual_kernel<T,
		    false>, (unsigned)j->n, WARPS * 32 / lanes * lanes, 0, *j);
	else
		launch(c, true, prepare_kernel<T>, blocks_for(rows, WARPS), WARPS * 32, WARPS * longest * sizeof(float),
		    *j);
}

void
cache_store(struct cuda *c, const struct cache_view *v, const int64_t *first, int n, const float *k,
    const float *values)
{
	struct prepare_job j = {};

	j.v = *v;
	j.first = first;
	j.n = n;
	j.p.k = k;
	j.p.values = values;
	j.p.unscale = 1;
	j.p.ld_k = (int64_t)v->n_head_kv * v->d_k;
	j.p.ld_v = (int64_t)v->n_head_kv * v->d_v;
	cuda_cache_start<float>(c, &j);
}

void
cache_prepare(struct cuda *c, const struct cache_view *v, const struct rotation *r, const int64_t *first, int n,
    int n_head, const struct projections *p, __half *window, __half *sink)
{
	struct prepare_job j = { *v, *r, first, n, n_head, *p, window, sink };

	if (p->halves)
		cuda_cache_start<__half>(c, &j);
	else
		cuda_cache_start<float>(c, &j);
}
