/*
 * Weights in device memory. Quantised ones are packed once into the order of
 * forms.cuh; F16 and BF16 ones become row-major halves, F32 ones stay. What is
 * packed has a copy in halves too, for dense products, while memory is plenty.
 */
#include <stdlib.h>
#include <string.h>

#include "launch.cuh"

enum { SLABS = 1024 };
static const size_t slab_size = (size_t)256 << 20, slab_align = 128;

/* Slabs of device memory that are cut from the front, so that matrices loaded in turn are neighbours. */
struct slab {
	char *base;
	size_t size, used;
	int live;
};

struct arena {
	struct slab slabs[SLABS];
	int current[2];        /* of each kind; -1: none */
};

/* Packed weights and copies in halves each have slabs of their own. */
enum arena_kind { ARENA_STORED, ARENA_COPIES };

struct arena *
arena_new(void)
{
	struct arena *a = static_cast<struct arena *>(calloc(1, sizeof *a));

	if (a != NULL)
		a->current[0] = a->current[1] = -1;
	return a;
}

void
arena_free(struct arena *a)
{
	for (int i = 0; a != NULL && i < SLABS; i++)
		cudaFree(a->slabs[i].base);
	free(a);
}

static void *
cuda_weights_cut(struct slab *s, size_t bytes)
{
	void *p = s->base + s->used;

	if (s->size - s->used < bytes)
		return NULL;
	s->used += bytes;
	s->live++;
	return p;
}

/* Zeroed memory (as cudaMalloc and the padding of rows need it), or NULL. */
static void *
arena_get(struct cuda *c, enum arena_kind kind, size_t bytes)
{
	struct arena *a = c->arena;
	struct slab *s = a->current[kind] >= 0 ? &a->slabs[a->current[kind]] : NULL;
	size_t need = (bytes + slab_align - 1) / slab_align * slab_align;
	void *p = s != NULL ? cuda_weights_cut(s, need) : NULL;

	for (int i = 0; p == NULL && i < SLABS; i++) {
		s = &a->slabs[i];
		if (s->base != NULL)
			continue;
		s->size = need > slab_size ? need : slab_size;
		if (cudaMalloc(&s->base, s->size) != cudaSuccess) {
			cudaGetLastError();
			s->base = NULL;
			return NULL;
		}
		s->used = 0;
		s->live = 0;
		a->current[kind] = i;
		p = cuda_weights_cut(s, need);
		break;
	}
	if (p != NULL)
		CHECK(c, cudaMemsetAsync(p, 0, bytes, c->stream));
	return p;
}

static void
arena_put(struct cuda *c, void *p)
{
	struct arena *a = c->arena;

	for (int i = 0; p != NULL && i < SLABS; i++) {
		struct slab *s = &a->slabs[i];

		if (s->base == NULL || (char *)p < s->base || (char *)p >= s->base + s->size)
			continue;
		if (--s->live > 0)
			return;
		cudaFree(s->base);
		s->base = NULL;
		for (int k = 0; k < 2; k++)
			if (a->current[k] == i)
				a->current[k] = -1;
		return;
	}
}

/* ---- packing */

static __device__ uint32_t
byte_at(const uint8_t *b, int i)
{
	return b[i];
}

static __device__ uint32_t
half_at(const uint8_t *b, int i)
{
	return b[i] | (uint32_t)b[i + 1] << 8;
}

/* The number that stands for weight k (below 32 or 256) of a block, as forms.cuh stores it: never negative. */
static __device__ uint32_t
stored_number(int type, const uint8_t *b, int k)
{
	int j = k % 32, group = k / 32, nibble = j < 16 ? 0 : 4;
	const uint8_t *p;

	switch (type) {
	case QUANT_Q4_0:
		return b[2 + j % 16] >> nibble & 15;
	case QUANT_Q4_1:
		return b[4 + j % 16] >> nibble & 15;
	case QUANT_Q5_0:
		return (b[6 + j % 16] >> nibble & 15) | (b[2 + j / 8] >> j % 8 & 1) << 4;
	case QUANT_Q5_1:
		return (b[8 + j % 16] >> nibble & 15) | (b[4 + j / 8] >> j % 8 & 1) << 4;
	case QUANT_Q8_0:
		return b[2 + j] ^ 0x80;
	case QUANT_Q2_K:
		return b[16 + k / 128 * 32 + j] >> k % 128 / 32 * 2 & 3;
	case QUANT_Q3_K:
		return (b[32 + k / 128 * 32 + j] >> k % 128 / 32 * 2 & 3) | (b[j] >> group & 1) << 2;
	case QUANT_Q4_K:
		return b[16 + group / 2 * 32 + j] >> (group & 1) * 4 & 15;
	case QUANT_Q5_K:
		return (b[48 + group / 2 * 32 + j] >> (group & 1) * 4 & 15) | (b[16 + j] >> group & 1) << 4;
	default: /* Q6_K */
		p = b + k / 128 * 64 + k % 64;
		return (p[0] >> k % 128 / 64 * 4 & 15) | (b[128 + k / 128 * 32 + j] >> k % 128 / 32 * 2 & 3) << 4;
	}
}

/* Scale and minimum of the block of 16 or 32 weights that k lies in: a byte each, or half bits for blocks of 32. */
static __device__ void
block_scale(int type, const uint8_t *b, int k, uint32_t *scale, uint32_t *min)
{
	int i = k / 32;
	const uint8_t *s = b + 4;

	*scale = half_at(b, 0);
	*min = type == QUANT_Q4_1 || type == QUANT_Q5_1 ? half_at(b, 2) : 0;
	switch (type) {
	case QUANT_Q2_K:
		*scale = byte_at(b, k / 16);
		break;
	case QUANT_Q3_K:
		i = k / 16;
		s = b + 96;
		*scale = ((i < 8 ? s[i] & 15 : s[i - 8] >> 4) | (s[8 + i % 4] >> i / 4 * 2 & 3) << 4) - 32 + 128;
		break;
	case QUANT_Q4_K:
	case QUANT_Q5_K:
		*scale = i < 4 ? s[i] & 63 : (s[i + 4] & 15) | (s[i - 4] >> 6) << 4;
		*min = i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | (s[i] >> 6) << 4;
		break;
	case QUANT_Q6_K:
		*scale = byte_at(b, 192 + k / 16) ^ 0x80;
		break;
	}
}

/* Scale and minimum of a block of 256, half bits. */
static __device__ void
super_scale(int type, const uint8_t *b, uint32_t *scale, uint32_t *min)
{
	int at = type == QUANT_Q2_K ? 80 : type == QUANT_Q3_K ? 108 : type == QUANT_Q6_K ? 208 : 0;

	*scale = half_at(b, at);
	*min = type == QUANT_Q3_K || type == QUANT_Q6_K ? 0 : half_at(b, at + 2);
}

/* Numbers n[16] of a lane and row, packed as the forms want them. */
static __device__ uint32_t
pack_pairs(const uint32_t *n, int from, int bits, int shift, uint32_t mask, int pairs)
{
	uint32_t v = 0;

	for (int p = 0; p < pairs; p++)
		v |= (n[from + 2 * p] >> shift & mask) << bits * p |
		    (n[from + 2 * p + 1] >> shift & mask) << (16 + bits * p);
	return v;
}

struct pack_job {
	const uint8_t *src;    /* rows as they are in the file */
	int64_t row_size;
	int64_t rows, cols, tiles, steps;
	int type, block, bytes;
	struct packed p;
};

/* One thread per tile, step and lane. */
static __global__ void
pack_kernel(struct pack_job j)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, at = i / 32, tile = at / j.steps,
	    step = at % j.steps;
	int lane = (int)(i % 32), g = lane / 4, t = lane % 4;
	uint32_t n[2][16], scale[2] = { 0, 0 }, min[2] = { 0, 0 }, d[2] = { 0, 0 }, dmin[2] = { 0, 0 };
	int64_t k0 = step * STEP + t * 16;

	if (at >= j.tiles * j.steps)
		return;
	for (int r = 0; r < 2; r++) {
		int64_t row = tile * TILE_ROWS + g + 8 * r;
		bool there = row < j.rows && k0 < j.cols;
		const uint8_t *b = j.src + row * j.row_size + k0 / j.block * j.bytes;
		int k = (int)(k0 % j.block);

		for (int x = 0; x < 16; x++)
			n[r][x] = there ? stored_number(j.type, b, k + x) : 0;
		if (!there)
			continue;
		block_scale(j.type, b, k, &scale[r], &min[r]);
		if (j.block == 256)
			super_scale(j.type, b, &d[r], &dmin[r]);
	}
	/* numbers */
	switch (j.type) {
	case QUANT_Q8_0:
		for (int r = 0; r < 2; r++) {
			uint32_t v[4];

			for (int x = 0; x < 4; x++)
				v[x] = n[r][4 * x] | n[r][4 * x + 1] << 8 | n[r][4 * x + 2] << 16 |
				    n[r][4 * x + 3] << 24;
			((uint4 *)j.p.q)[at * 64 + r * 32 + lane] = make_uint4(v[0], v[1], v[2], v[3]);
		}
		break;
	case QUANT_Q2_K:
	case QUANT_Q3_K:
		((uint2 *)j.p.q)[i] = make_uint2(pack_pairs(n[0], 0, 2, 0, 3, 8), pack_pairs(n[1], 0, 2, 0, 3, 8));
		break;
	default:
		((uint4 *)j.p.q)[i] = make_uint4(pack_pairs(n[0], 0, 4, 0, 15, 4), pack_pairs(n[0], 8, 4, 0, 15, 4),
		    pack_pairs(n[1], 0, 4, 0, 15, 4), pack_pairs(n[1], 8, 4, 0, 15, 4));
	}
	/* further bits */
	if (j.type == QUANT_Q5_0 || j.type == QUANT_Q5_1 || j.type == QUANT_Q5_K)
		((uint32_t *)j.p.h)[i] = pack_pairs(n[0], 0, 1, 4, 1, 8) | pack_pairs(n[1], 0, 1, 4, 1, 8) << 8;
	if (j.type == QUANT_Q3_K)
		((uint32_t *)j.p.h)[i] = pack_pairs(n[0], 0, 1, 2, 1, 8) | pack_pairs(n[1], 0, 1, 2, 1, 8) << 8;
	if (j.type == QUANT_Q6_K)
		((uint2 *)j.p.h)[i] = make_uint2(pack_pairs(n[0], 0, 2, 4, 3, 8), pack_pairs(n[1], 0, 2, 4, 3, 8));
	/* scales; of what lanes share, each writes the same */
	switch (j.type) {
	case QUANT_Q4_0:
	case QUANT_Q5_0:
	case QUANT_Q8_0:
		((uint32_t *)j.p.s)[block_entry(at, lane)] = scale[0] | scale[1] << 16;
		break;
	case QUANT_Q4_1:
	case QUANT_Q5_1:
		((uint2 *)j.p.s)[block_entry(at, lane)] = make_uint2(scale[0] | scale[1] << 16, min[0] | min[1] << 16);
		break;
	case QUANT_Q4_K:
	case QUANT_Q5_K:
		((uint32_t *)j.p.s)[block_entry(at, lane)] = scale[0] | scale[1] << 8 | min[0] << 16 | min[1] << 24;
		break;
	default:
		((uint16_t *)j.p.s)[i] = (uint16_t)(scale[0] | scale[1] << 8);
	}
	if (j.type == QUANT_Q3_K || j.type == QUANT_Q6_K)
		((uint32_t *)j.p.d)[super_entry(at, lane)] = d[0] | d[1] << 16;
	else if (j.block == 256)
		((uint2 *)j.p.d)[super_entry(at, lane)] = make_uint2(d[0] | d[1] << 16, dmin[0] | dmin[1] << 16);
}

void
weights_plane_sizes(uint32_t type, size_t *q, size_t *h, size_t *s, size_t *d)
{
	*q = type == QUANT_Q8_0 ? 1024 : type == QUANT_Q2_K || type == QUANT_Q3_K ? 256 : 512;
	*h = type == QUANT_Q6_K ? 256
	    : type == QUANT_Q3_K || type == QUANT_Q5_0 || type == QUANT_Q5_1 || type == QUANT_Q5_K ? 128 : 0;
	*s = type == QUANT_Q4_1 || type == QUANT_Q5_1 ? 128 : 64;
	*d = type == QUANT_Q2_K || type == QUANT_Q4_K || type == QUANT_Q5_K ? 64
	    : type == QUANT_Q3_K || type == QUANT_Q6_K ? 32 : 0;
}

/* ---- unpacking */

struct unpack_job {
	struct packed p;
	int64_t steps, cols;
	int64_t first, rows;
	const int32_t *ids;    /* rows to take, or NULL: from `first` on */
	float scale;
	float *y32;            /* [rows, cols], or NULL: */
	__half *y16;           /* [rows, ld] */
	int64_t ld;
};

/* A warp takes eight rows, wherever they are, and one step. */
template <int TYPE>
static __global__ void
unpack_kernel(struct unpack_job j)
{
	typedef form<TYPE> F;
	int64_t warp = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 32, step = warp % j.steps,
	    group = warp / j.steps;
	int t = threadIdx.x % 4, block = t * F::blocks / 4, lane, r;
	int64_t i = group * 8 + threadIdx.x % 32 / 4, row, at, k = step * STEP + t * 16;
	uint32_t w[2][8];
	scales s;
	cursor<const char *> from;
	direct l;

	wait_for_predecessor();
	if (i >= j.rows)
		return;
	row = j.ids != NULL ? j.ids[i] : j.first + i;
	at = row / TILE_ROWS * j.steps + step;
	r = (int)(row % TILE_ROWS / 8);
	lane = (int)(row % 8) * 4 + t;
	from = lane_place<TYPE>(step_place<TYPE>(j.p, at), lane, block / 2);
	F::numbers(F::load(l, from, 0), w);
	s = F::expand(F::load_scales(l, from, 0));
#pragma unroll
	for (int p = 0; p < 8; p++) {
		const float excess = p % 2 == 0 ? F::even : F::odd;
		float2 v = __half22float2(pair(r == 0 ? w[0][p] : w[1][p]));
		float scale = s.scale[r][block % 2], min = F::minima ? s.min[r][block % 2] : 0;

		v = make_float2((v.x - excess) * scale + min, (v.y - excess) * scale + min);
		if (j.y16 != NULL)
			*(__half2 *)(j.y16 + i * j.ld + k + 2 * p) = __floats2half2_rn(v.x, v.y);
		if (j.y32 != NULL && k + 2 * p < j.cols) {
			j.y32[i * j.cols + k + 2 * p] = j.scale * v.x;
			j.y32[i * j.cols + k + 2 * p + 1] = j.scale * v.y;
		}
	}
}

static void
unpack(struct cuda *c, uint32_t type, const struct unpack_job *j)
{
	int64_t warps = (j->rows + 7) / 8 * j->steps;

	with_form(type,
	    [=](auto t) { launch(c, true, unpack_kernel<decltype(t)::value>, blocks_for(warps, 8), 256, 0, *j); });
}

void
weights_unpack(struct cuda *c, const struct matrix *m, int64_t first, int64_t rows, __half *y)
{
	struct unpack_job j = {};

	j.p = m->p;
	j.steps = m->steps;
	j.cols = m->cols;
	j.first = first;
	j.rows = rows;
	j.y16 = y;
	j.ld = m->ld;
	unpack(c, m->type, &j);
}

template <typename T>
static __device__ float
as_float(T x)
{
	return x;
}

template <>
__device__ float
as_float<__half>(__half x)
{
	return __half2float(x);
}

template <typename T>
static __global__ void
embed_kernel(const T *w, int64_t ld, const int32_t *ids, int64_t cols, float scale, float *y)
{
	for (int64_t k = threadIdx.x; k < cols; k += blockDim.x)
		y[blockIdx.x * cols + k] = scale * as_float<T>(w[ids[blockIdx.x] * ld + k]);
}

void
weights_embed(struct cuda *c, const struct matrix *m, const int32_t *ids, int n, float scale, float *y)
{
	struct unpack_job j = {};

	if (m->type == QUANT_F32) {
		launch(c, false, embed_kernel<float>, n, 256, 0, m->f32, m->ld, ids, m->cols, scale, y);
		return;
	}
	if (m->type == QUANT_F16) {
		launch(c, false, embed_kernel<__half>, n, 256, 0, m->half, m->ld, ids, m->cols, scale, y);
		return;
	}
	j.p = m->p;
	j.steps = m->steps;
	j.cols = m->cols;
	j.rows = n;
	j.ids = ids;
	j.scale = scale;
	j.y32 = y;
	unpack(c, m->type, &j);
}

/* ---- loading */

/* BF16 has fewer digits than a half, and weights lie within its range: nothing is lost but what is below 2^-24. */
static __global__ void
convert_bf16_kernel(const uint16_t *x, int64_t cols, __half *y, int64_t ld)
{
	for (int64_t k = threadIdx.x; k < cols; k += blockDim.x)
		y[blockIdx.x * ld + k] = to_half(__uint_as_float((uint32_t)x[blockIdx.x * cols + k] << 16));
}

static int
no_memory(const struct cuda *c, const struct matrix *m, struct err *e)
{
	return err_set(e, EX_OSERR, "%s: not enough memory for a matrix of %lld x %lld weights", c->path,
	    (long long)m->rows, (long long)m->cols);
}

/* The file's bytes in a scratch, for a kernel to convert. */
static const uint8_t *
stage(struct cuda *c, const struct weight *w)
{
	size_t bytes = quant_row_size(w->type, w->cols) * (size_t)w->rows;
	void *raw = cuda_scratch(c, SCRATCH_WEIGHTS, bytes);

	if (raw == NULL || CHECK(c, cudaMemcpyAsync(raw, w->data, bytes, cudaMemcpyHostToDevice, c->stream)))
		return NULL;
	return static_cast<const uint8_t *>(raw);
}

static int
load_rows(struct cuda *c, const struct weight *w, struct matrix *m, struct err *e)
{
	size_t size = w->type == QUANT_F32 ? sizeof(float) : sizeof(__half);
	/* F32 rows stay as they are: they are read value by value where they are odd. */
	int64_t ld = w->type == QUANT_F32 ? w->cols : m->steps * STEP;
	void *p = arena_get(c, ARENA_STORED, (size_t)(ld * m->rows) * size);
	const uint8_t *raw;

	if (p == NULL)
		return no_memory(c, m, e);
	m->type = w->type == QUANT_F32 ? QUANT_F32 : QUANT_F16;
	m->ld = ld;
	m->f32 = w->type == QUANT_F32 ? static_cast<float *>(p) : NULL;
	m->half = w->type == QUANT_F32 ? NULL : static_cast<__half *>(p);
	if (w->type != QUANT_BF16 && ld == w->cols) {
		CHECK(c, cudaMemcpyAsync(p, w->data, (size_t)(ld * m->rows) * size, cudaMemcpyHostToDevice, c->stream));
		return 0;
	}
	if (w->type != QUANT_BF16) {
		CHECK(c, cudaMemcpy2DAsync(p, (size_t)ld * size, w->data, (size_t)w->cols * size,
		    (size_t)w->cols * size, (size_t)w->rows, cudaMemcpyHostToDevice, c->stream));
		return 0;
	}
	raw = stage(c, w);
	if (raw != NULL)
		launch(c, false, convert_bf16_kernel, (unsigned)w->rows, 256, 0,
		    reinterpret_cast<const uint16_t *>(raw), w->cols, m->half, ld);
	return 0;
}

/* A copy in halves where at least a quarter of the device stays free for caches, activations and others. */
static void
copy_halves(struct cuda *c, struct matrix *m)
{
	size_t bytes = (size_t)(m->rows * m->ld) * sizeof(__half), available = 0, total;

	if (cudaMemGetInfo(&available, &total) != cudaSuccess || available < bytes + slab_size + c->memory / 4)
		return;
	m->half = static_cast<__half *>(arena_get(c, ARENA_COPIES, bytes));
	if (m->half != NULL)
		weights_unpack(c, m, 0, m->rows, m->half);
}

static int
load_packed(struct cuda *c, const struct weight *w, struct matrix *m, struct err *e)
{
	struct pack_job j = {};
	const struct quant_info *info = quant_get_info(w->type);
	size_t q, h, s, d, count;
	char *p;

	weights_plane_sizes(w->type, &q, &h, &s, &d);
	m->ld = m->steps * STEP;
	count = (size_t)(m->tiles * m->steps);
	p = static_cast<char *>(arena_get(c, ARENA_STORED, count * (q + h + s) + count / 4 * d));
	if (p == NULL)
		return no_memory(c, m, e);
	m->p.q = p;
	m->p.h = p + count * q;
	m->p.s = p + count * (q + h);
	m->p.d = p + count * (q + h + s);
	j.src = stage(c, w);
	if (j.src == NULL)
		return cuda_report(c, e);
	j.row_size = (int64_t)quant_row_size(w->type, w->cols);
	j.rows = m->rows;
	j.cols = m->cols;
	j.tiles = m->tiles;
	j.steps = m->steps;
	j.type = (int)w->type;
	j.block = info->block;
	j.bytes = info->bytes;
	j.p = m->p;
	launch(c, false, pack_kernel, blocks_for((int64_t)count * 32, 256), 256, 0, j);
	copy_halves(c, m);
	return 0;
}

int
weights_load(struct backend *b, struct weight *w, struct err *e)
{
	struct cuda *c = cuda_of(b);
	struct matrix *m = static_cast<struct matrix *>(calloc(1, sizeof *m));
	int r;

	if (m == NULL)
		return err_set(e, EX_OSERR, "out of memory for a weight");
	cuda_use(c);
	m->type = w->type;
	m->rows = w->rows;
	m->cols = w->cols;
	m->tiles = (w->rows + TILE_ROWS - 1) / TILE_ROWS;
	m->steps = (w->cols + STEP - 1) / STEP;
	w->device = m;
	if (quant_get_info(w->type)->block == 1)
		r = load_rows(c, w, m, e);
	else
		r = load_packed(c, w, m, e);
	return r < 0 ? r : cuda_report(c, e);
}

void
weights_unload(struct backend *b, struct weight *w)
{
	struct cuda *c = cuda_of(b);
	struct matrix *m = static_cast<struct matrix *>(w->device);

	if (m == NULL)
		return;
	cuda_use(c);
	plan_flush(c);
	plan_forget(c);
	cudaStreamSynchronize(c->stream);
	arena_put(c, m->f32);
	arena_put(c, m->half);
	arena_put(c, const_cast<void *>(m->p.q));
	free(m);
	w->device = NULL;
}

int
vector_load(struct backend *b, struct vector *v, struct err *e)
{
	struct cuda *c = cuda_of(b);
	size_t bytes = (size_t)v->n * sizeof *v->device;

	cuda_use(c);
	v->device = static_cast<float *>(arena_get(c, ARENA_STORED, bytes));
	if (v->device == NULL)
		return err_set(e, EX_OSERR, "%s: not enough memory for a vector", c->path);
	CHECK(c, cudaMemcpyAsync(v->device, v->data, bytes, cudaMemcpyHostToDevice, c->stream));
	return cuda_report(c, e);
}

void
vector_unload(struct backend *b, struct vector *v)
{
	struct cuda *c = cuda_of(b);

	if (v->device == NULL)
		return;
	cuda_use(c);
	plan_flush(c);
	plan_forget(c);
	cudaStreamSynchronize(c->stream);
	arena_put(c, v->device);
	v->device = NULL;
}
