/*
 * What the files of the CUDA module share: the backend's own state, weights
 * and cache in device memory, and the launches that plan.cu puts together.
 * Nothing here is seen outside of the module.
 */
#ifndef SINKD_CUDA_DEVICE_CUH
#define SINKD_CUDA_DEVICE_CUH

#include <cublas_v2.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

extern "C" {
#include "engine/backend.h"
#include "engine/quant.h"
}
#include "forms.cuh"

enum {
	SMALL = 8,             /* rows up to which weights are read as they are packed; more go through cuBLAS */
	HEAD_MAX = 1024,       /* elements of a key or value */
	CLUSTERS_KNOWN = 64,
};

/* A matrix in device memory. It has one of f32, half, packed, and besides packed it may have half. */
struct matrix {
	uint32_t type;         /* QUANT_F32, QUANT_F16 (also what was BF16), or a packed type */
	int64_t rows, cols;
	int64_t ld;            /* of f32 and half, which are row-major */
	int64_t tiles, steps;  /* of packed and half, see forms.cuh */
	float *f32;
	__half *half;
	struct packed p;
};

/* Scratch that grows to what was needed most; growing it makes recorded graphs stale. */
enum scratch_slot {
	SCRATCH_X,             /* activations in halves */
	SCRATCH_WIDE,          /* results of products on their way */
	SCRATCH_WEIGHTS,       /* weights unpacked for one product */
	SCRATCH_LOGITS,
	SCRATCH_QUERIES,       /* two forms of the queries, halves */
	SCRATCH_KEYS,          /* keys and values of a quantised cache, halves */
	SCRATCH_PARTS,         /* partial results of split attention */
	SCRATCH_POSTS,         /* the same of few tokens; all bits are set between launches */
	SCRATCH_COUNT,
};

struct cuda;
struct plan;
struct arena;

struct cuda {
	struct backend base;
	int device;
	int sms;
	size_t shared;         /* memory that a block may have, bytes */
	size_t shared_all;     /* and a multiprocessor's */
	size_t memory;         /* of the device, bytes */
	bool hopper;           /* compute capability 9.0 */
	bool overlap;          /* kernels may begin before their predecessors end (compute capability 9.0) */
	char path[300];        /* what base.path points to */
	struct backend_limits limits;
	cudaStream_t stream;
	cublasHandle_t blas;
	struct err failure;    /* the first error of the device; code 0: none yet */
	struct {
		void *p;
		size_t size;
	} scratch[SCRATCH_COUNT];
	struct {
		const void *kernel;
		int cluster, threads, at_once;
		size_t shared;
	} clusters[CLUSTERS_KNOWN]; /* what was asked of the driver */
	int n_clusters;
	struct arena *arena;
	struct plan *plan;
	unsigned *counters;    /* zero between launches: of split attention, then four of rows_likeliest */
	float *results;        /* pinned host memory for nll */
	float *results_device;
	struct likeliest *likeliest; /* device memory: the latest */
	/* pinned host memory: [LIKELIEST_MAX] in turn; their numbers, from 1, are in the high half; see TOLD_NAN */
	uint64_t *told;
	uint32_t heard;        /* the number of the one that was waited for last */
};

/* The token that was found last, and how many have been. */
struct likeliest {
	int32_t id;
	uint32_t found;
};

/* What is told of a token may be that logits were NaN. */
static const uint32_t TOLD_NAN = 1u << 31;

/* Those of split attention, and all. */
enum { COUNTERS = 1 << 16, COUNTERS_ALL = COUNTERS + 4 };

static inline struct cuda *
cuda_of(struct backend *b)
{
	return reinterpret_cast<struct cuda *>(b);
}

/* ---- module.cu */

/* Remember the first failure; true if there is one. what: a short name of what was tried. */
bool cuda_failed(struct cuda *c, cudaError_t r, const char *what);
#define CHECK(c, call) cuda_failed((c), (call), #call)

/* A failure as an error of the caller: -1 with *e set where there was one, else 0. */
int cuda_report(const struct cuda *c, struct err *e);

/* The backend's close. */
void cuda_close(struct backend *b);

/* How many clusters of so many blocks of a kernel are on the device at once; 0 where it has no such clusters. */
int cuda_clusters_at_once(struct cuda *c, const void *kernel, int cluster, int threads, size_t shared);

/* The device of this thread becomes c's. */
void cuda_use(const struct cuda *c);

/* At least so many bytes of a scratch, or NULL with the failure remembered. */
void *cuda_scratch(struct cuda *c, enum scratch_slot slot, size_t bytes);

/* ---- weights.cu */

struct arena *arena_new(void);
void arena_free(struct arena *a);

int weights_load(struct backend *b, struct weight *w, struct err *e);
void weights_unload(struct backend *b, struct weight *w);
int vector_load(struct backend *b, struct vector *v, struct err *e);
void vector_unload(struct backend *b, struct vector *v);

/* Bytes of the planes of a packed type for one step of one tile; d is for four steps. */
void weights_plane_sizes(uint32_t type, size_t *q, size_t *h, size_t *s, size_t *d);

/* y[rows, ld] = rows [first, first + rows) of a packed matrix, as halves. */
void weights_unpack(struct cuda *c, const struct matrix *m, int64_t first, int64_t rows, __half *y);

/* y[n, cols] = scale * rows ids[0..n-1] (device memory). */
void weights_embed(struct cuda *c, const struct matrix *m, const int32_t *ids, int n, float scale, float *y);

/* ---- rows.cu: operations on rows of float32 */

/* Row i of halves lies at y + i * ld; of floats without gaps. One of y32 and y16 may be NULL. */
void rows_norm(struct cuda *c, enum norm_kind kind, float eps, const float *weight, const float *bias, const float *x,
    int64_t n, int64_t width, float *y32, __half *y16, int64_t ld16, float *add_to);
void rows_table(struct cuda *c, const uint64_t *turn, int n_rot, float scale, const int64_t *positions, int n,
    float *table);
void rows_rotate(struct cuda *c, enum rope_style style, int n_rot, const float *table, const float *x, int n, int heads,
    int d, float *y);

/*
 * gate[n, width] and up (or NULL) lie at leading dimension ld: floats, or halves
 * to be multiplied by unscale. The result is times `scale` in halves, as it is
 * in floats.
 */
struct activation_call {
	enum activation act;
	const void *gate, *up;
	bool halves;
	float unscale;
	int64_t ld, n, width;
	float *y32;
	__half *y16;
	int64_t ld16;
	float scale;
};
void rows_activate(struct cuda *c, const struct activation_call *a);
void rows_add(struct cuda *c, float *x, const float *y, int64_t n);
void rows_copy(struct cuda *c, float *dst, const float *src, int64_t n);

/* y16[n, ld16] = scale * x[n, width], padded with zeros */
void rows_halve(struct cuda *c, const float *x, int64_t n, int64_t width, float scale, __half *y16, int64_t ld16);

/* y[n, ld] = clamped y + bias; the same of halves that are times scale */
void rows_finish(struct cuda *c, float *y, int64_t n, int64_t width, int64_t ld, const float *bias, float clamp);
void rows_finish_half(struct cuda *c, __half *y, int64_t n, int64_t width, int64_t ld, const float *bias, float clamp,
    float scale);

/* Logits z[n, width], in place: plus bias, capped. */
void rows_cap(struct cuda *c, float *z, int64_t n, int64_t width, const float *bias, float softcap);

/* c->likeliest and what c->told tells: the place of the largest of z[width], the first one of several, or of a NaN. */
void rows_likeliest(struct cuda *c, const float *z, int64_t width);

/* nll[i] of logits as struct backend_ops says, bias and softcap included. */
void rows_score(struct cuda *c, const float *z, int64_t n, int64_t width, const float *bias, float softcap,
    const int32_t *targets, float *nll);

/* ---- gemv.cu: products of up to SMALL rows with weights as they are stored */

enum gemv_mode { GEMV_STORE, GEMV_ADD, GEMV_ACTIVATE };

struct gemv_call {
	int n;
	/* The operand: floats, normalised on the way where norm_weight is there, or halves that were scaled. */
	const float *x32;
	const __half *x16;
	int64_t ld16;
	enum norm_kind norm;
	float eps;
	const float *norm_weight, *norm_bias;
	float unscale;                 /* of the halves: results are multiplied by it */
	int count;
	struct {
		const struct matrix *m;
		const float *bias;
		float *y;              /* [n, rows]; ADD: added to */
	} out[LINEAR_MAX];
	float clamp;
	enum gemv_mode mode;
	const float *extra;            /* ADD: added too, first */
	enum activation act;           /* ACTIVATE: count 2 (gate, up) or 1; the result goes to out[0].y or y16 */
	__half *y16;
	int64_t y16_ld;
	float y16_scale;
	const struct matrix *next[2];  /* what the next product begins with, one matrix or two side by side; or NULL */
};

/* Whether a call fits this kernel: types alike, small enough. */
bool gemv_can(const struct cuda *c, const struct matrix *m, int n);
void gemv_run(struct cuda *c, const struct gemv_call *m);

/* ---- gemm.cu: dense products */

/* y[n, ldy] (+)= alpha * x W^T over halves x[n, ldx]; merged: m's rows are followed by those of other matrices. */
void gemm_half(struct cuda *c, const struct matrix *m, int64_t merged_rows, const __half *x, int64_t ldx, int n,
    float alpha, bool add, float *y, int64_t ldy);
/* The same of matrices that are in halves, into halves. */
void gemm_to_half(struct cuda *c, const struct matrix *m, int64_t merged_rows, const __half *x, int64_t ldx, int n,
    float alpha, __half *y, int64_t ldy);
void gemm_f32(struct cuda *c, const struct matrix *m, const float *x, int n, bool add, float *y, int64_t ldy);

/* ---- cache.cu */

struct cache {
	struct cache_shape s;
	int64_t sink_slots;    /* rounded up to CACHE_BLOCK; the ring's slots follow */
	int64_t slots;         /* all of a head */
	int k_ld, v_ld;        /* elements from slot to slot */
	size_t bytes;
	/* [layer][head][slot][ld]; q8_0 has int8 elements and scales [layer][head][slot][ld / 32] */
	void *k, *v;
	__half *k_scale, *v_scale;
};

/* A layer of a cache as kernels see it. Element sizes follow from type. */
struct cache_view {
	enum kv_type type;
	void *k, *v;
	__half *k_scale, *v_scale;
	int64_t sinks, sink_slots, slots, ring, window, native;
	int n_head_kv, d_k, d_v, k_ld, v_ld;
};
struct cache_view cache_view(const struct cache *c, int layer, int64_t native);

struct cache *cache_new(struct backend *b, const struct cache_shape *shape, struct err *e);
void cache_free(struct backend *b, struct cache *c);
int cache_grow(struct backend *b, struct cache *c, int64_t slots, struct err *e);
size_t cache_bytes(const struct cache *c);

/* How queries and keys come out of their products: perhaps to be normalised and rotated. */
struct rotation {
	enum rope_style style;         /* ROPE_NONE: as they are */
	int n_rot;
	const float *window, *sink;    /* tables */
	const float *q_norm, *k_norm;  /* weights of RMS norms, or NULL */
	float eps;
};

/* Queries, keys and values as their product left them: floats, or halves to be multiplied by unscale. */
struct projections {
	const void *q, *k, *values;
	bool halves;
	float unscale;
	int64_t ld_q, ld_k, ld_v;      /* from token to token */
};

/* Store n keys and values from token *first on. */
void cache_store(struct cuda *c, const struct cache_view *v, const int64_t *first, int n, const float *k,
    const float *values);

/*
 * Queries, keys and values of n tokens: rotated, keys and values stored,
 * queries to window[n, n_head, k_ld] and sink (or NULL).
 */
void cache_prepare(struct cuda *c, const struct cache_view *v, const struct rotation *r, const int64_t *first, int n,
    int n_head, const struct projections *p, __half *window, __half *sink);

/* ---- snapshot.cu */

void cache_set_sinks(struct backend *b, struct cache *c, int64_t sinks);
size_t cache_token_bytes(const struct cache *c);
int cache_save(struct backend *b, struct cache *c, int layer, int64_t first, int64_t n, void *to, struct err *e);
int cache_load(struct backend *b, struct cache *c, int layer, int64_t first, int64_t n, const void *from,
    struct err *e);
int cache_copy(struct backend *b, struct cache *to, const struct cache *from, struct err *e);

/* ---- attend*.cu */

struct attend_call {
	struct cache_view v;
	const int64_t *first;          /* device memory */
	int n, n_head;
	float scale, softcap;
	const float *slopes;           /* device memory, or NULL */
	float *out32;                  /* [n, n_head, d_v], or NULL */
	__half *out16;                 /* the same in halves */
	int64_t ld16;                  /* from token to token */
};

/* float32 caches: one block for a token and head. */
void attend_plain(struct cuda *c, const struct attend_call *a, const float *q_window, const float *q_sink);

/* f16 and q8_0, few tokens. With a rotation q, k and values are raw and keys and values are stored first. */
void attend_decode(struct cuda *c, const struct attend_call *a, const struct rotation *r, const float *q_window,
    const float *q_sink, const float *k, const float *values);

/* f16 and q8_0, many tokens; queries in halves. */
void attend_prefill(struct cuda *c, const struct attend_call *a, const __half *q_window, const __half *q_sink);

/* ---- plan.cu: operations are recorded, then fused and launched; see there */

struct plan *plan_new(struct cuda *c);
void plan_free(struct cuda *c, struct plan *p);
/* Launch what was recorded. */
void plan_flush(struct cuda *c);
/* Recorded graphs hold addresses that are no longer good. */
void plan_forget(struct cuda *c);
extern const struct backend_ops plan_ops;

#endif
