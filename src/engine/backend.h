/*
 * The one seam to a device: a table of operations over float32 activations.
 * The forward pass (forward.c) is written once in these terms; a backend may
 * run them at once (CPU) or queue them (GPU). Memory that alloc returns is the
 * backend's own: nobody else reads or writes through such a pointer.
 */
#ifndef SINKD_ENGINE_BACKEND_H
#define SINKD_ENGINE_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"

/* A weight matrix [rows, cols] of the file: rows are outputs, cols are contiguous. */
struct weight {
	uint32_t type;     /* enum quant_type */
	int64_t rows, cols;
	const void *data;  /* host memory, in the mapped file; NULL: the model has no such matrix */
	void *device;      /* set by the backend's load */
	bool embeds_only;  /* embed is all that reads it */
};

/* A float32 vector (norm weight, bias). */
struct vector {
	const float *data; /* host memory; NULL: the model has no such vector */
	int64_t n;
	float *device;     /* set by the backend's load */
};

enum norm_kind { NORM_RMS, NORM_LAYER };
enum activation { ACT_SILU, ACT_GELU, ACT_GELU_TANH };
enum rope_style { ROPE_NONE, ROPE_PAIRS, ROPE_HALVES }; /* pairs (2i, 2i+1), or (i, i + n_rot/2) */

/* Rotary embedding: the angle of pair i at position p is p * turn[i] / 2^64 turns. */
struct rope {
	enum rope_style style;
	int n_rot;            /* rotated elements of a head, even */
	uint64_t *turn;       /* [n_rot / 2]; see rope.h */
	float scale;          /* factor on both cosine and sine (YaRN) */
};

/* Keys and values of all layers; the backend chooses their layout. */
struct cache_shape {
	int n_layer, n_head_kv;
	int d_k, d_v;         /* elements of a key and of a value, per head */
	int64_t sinks;        /* S: tokens 0..S-1 have slots of their own */
	int64_t more_sinks;   /* room for so many more of them, see cache_set_sinks */
	int64_t window;       /* W; INT64_MAX: all tokens */
	/* ring slots; the token t >= S lies in slot (t - S) mod slots; a multiple of CACHE_BLOCK */
	int64_t slots;
	enum kv_type type;
};
enum { CACHE_BLOCK = 16 };
struct cache;

/* y = x W^T + bias, for up to three matrices that read the same x. */
enum { LINEAR_MAX = 3 };
struct linear {
	const float *x;       /* [n, cols] */
	int n;
	int count;
	struct {
		const struct weight *w;
		const struct vector *bias; /* may be without data */
		float *y;                  /* [n, w->rows] */
	} out[LINEAR_MAX];
	float clamp;          /* > 0: results are clamped to +-clamp */
};

struct attend {
	const struct cache *cache;
	int layer;
	int64_t first;        /* stream index of the first of n tokens, whose keys are stored already */
	int n;
	int n_head;
	const float *q_window; /* [n, n_head, d_k], rotated at the stream position */
	const float *q_sink;   /* the same queries rotated at min(t, S+W-1); unused when S = 0 */
	float *out;            /* [n, n_head, d_v] */
	float scale;           /* of the scores */
	float softcap;         /* > 0: score = softcap * tanh(score / softcap) */
	const float *slopes;   /* [n_head] ALiBi slopes in host memory, or NULL */
	int64_t native;        /* > 0: only tokens at a cache distance below it are seen */
};

enum { LIKELIEST_MAX = 2 };

struct backend;

struct backend_ops {
	void (*close)(struct backend *b);

	/* Zeroed memory of the backend, or NULL. */
	void *(*alloc)(struct backend *b, size_t bytes);
	void (*free)(struct backend *b, void *p);

	/* Copies between host and backend memory; complete on return. */
	int (*write)(struct backend *b, void *dst, const void *src, size_t bytes, struct err *e);
	int (*read)(struct backend *b, void *dst, const void *src, size_t bytes, struct err *e);

	/* dst = src, n values, both of the backend; overlapping is allowed only if they are the same place. */
	void (*copy)(struct backend *b, float *dst, const float *src, int64_t n);

	/* Make a weight or vector ready for use; unload releases what load took. */
	int (*load_weight)(struct backend *b, struct weight *w, struct err *e);
	void (*unload_weight)(struct backend *b, struct weight *w);
	int (*load_vector)(struct backend *b, struct vector *v, struct err *e);
	void (*unload_vector)(struct backend *b, struct vector *v);

	struct cache *(*cache_new)(struct backend *b, const struct cache_shape *shape, struct err *e);
	void (*cache_free)(struct backend *b, struct cache *c);
	/* Grow a cache that never wrapped (dense); contents stay. */
	int (*cache_grow)(struct backend *b, struct cache *c, int64_t slots, struct err *e);
	/*
	 * From now on tokens 0..sinks-1 are the sinks. Ring slots are counted from
	 * the sinks' end, so those stored in them have other numbers from now on.
	 */
	void (*cache_set_sinks)(struct backend *b, struct cache *c, int64_t sinks);
	size_t (*cache_bytes)(const struct cache *c);

	/*
	 * Keys and values of tokens first .. first+n-1 of a layer, as bytes in host
	 * memory, cache_token_bytes for each. Complete on return.
	 */
	size_t (*cache_token_bytes)(const struct cache *c);
	int (*cache_save)(struct backend *b, struct cache *c, int layer, int64_t first, int64_t n, void *to,
	    struct err *e);
	int (*cache_load)(struct backend *b, struct cache *c, int layer, int64_t first, int64_t n, const void *from,
	    struct err *e);

	/* All that is in one cache into another one of the same shape, its number of sinks too. Complete on return. */
	int (*cache_copy)(struct backend *b, struct cache *to, const struct cache *from, struct err *e);

	/*
	 * y[n, cols] = scale * rows ids[0..n-1] of w; ids are in host memory, or
	 * NULL: the token that ask_likeliest asked for last, n = 1.
	 */
	void (*embed)(struct backend *b, const struct weight *w, const int32_t *ids, int n, float scale, float *y);

	/*
	 * Each of n rows of width values normalised (RMS, or mean and variance),
	 * times weight, plus bias where they have data. y may be x.
	 */
	void (*norm)(struct backend *b, enum norm_kind kind, float eps, const struct vector *weight,
	    const struct vector *bias, const float *x, int64_t n, int64_t width, float *y);

	void (*linear)(struct backend *b, const struct linear *l);

	/*
	 * table[n, n_rot/2, 2] = cosine and sine at host positions[n], then
	 * y[n, heads, d] = x rotated by it (y may be x).
	 */
	void (*rope_table)(struct backend *b, const struct rope *r, const int64_t *positions, int n, float *table);
	void (*rotate)(struct backend *b, const struct rope *r, const float *table, const float *x, int n, int heads,
	    int d, float *y);

	/* Store keys [n, n_head_kv, d_k] and values [n, n_head_kv, d_v] of stream tokens first .. first+n-1. */
	void (*store)(struct backend *b, struct cache *c, int layer, int64_t first, int n, const float *k,
	    const float *v);
	void (*attend)(struct backend *b, const struct attend *a);

	/* y = act(gate) * up, or act(gate) where up is NULL; n values; y may be gate. */
	void (*activate)(struct backend *b, enum activation act, const float *gate, const float *up, int64_t n,
	    float *y);

	/* x += y, n values */
	void (*add)(struct backend *b, float *x, const float *y, int64_t n);

	/*
	 * nll[i] = logsumexp(z) - z[targets[i]] with z = x[i] W^T + bias, capped as
	 * in struct attend; targets and nll are host memory. Complete on return.
	 */
	int (*score)(struct backend *b, const struct weight *w, const struct vector *bias, float softcap,
	    const float *x, int n, const int32_t *targets, float *nll, struct err *e);

	/* logits[n, rows] in host memory, the z above. Complete on return. */
	int (*logits)(struct backend *b, const struct weight *w, const struct vector *bias, float softcap,
	    const float *x, int n, float *logits, struct err *e);

	/*
	 * The row of the largest of the logits of x[cols], the first one where several are: asked for, and
	 * waited for. Up to LIKELIEST_MAX may be asked for at a time; they are told in the same order. Where a logit
	 * is NaN, telling fails with EX_DATAERR.
	 * NULL where a backend has nothing better than to look through the logits.
	 */
	void (*ask_likeliest)(struct backend *b, const struct weight *w, const struct vector *bias, float softcap,
	    const float *x);
	int (*tell_likeliest)(struct backend *b, int32_t *id, struct err *e);

	/*
	 * A forward pass is over: of all buffers only that which `keep` points
	 * into is read again, until written. NULL where a backend has no use for it.
	 */
	void (*end)(struct backend *b, const float *keep);

	/* Wait for everything queued; errors of the device surface here (EX_TEMPFAIL). */
	int (*sync)(struct backend *b, struct err *e);

	/* Are n values all finite? NULL where that is no cheaper than to read them. */
	bool (*is_finite)(struct backend *b, const float *x, int64_t n);
};

/* Every backend's struct begins with this. */
struct backend {
	const struct backend_ops *ops;
	const char *path;     /* name of the code path or device in use */
	int threads;
	int chunk;            /* rows of one call at most */
	bool device;          /* memory of its own, not the host's */
	bool copied;          /* weights were copied: hardly any is read from the file any more */
	enum kv_type kv;      /* what KV_AUTO stands for where the weights are neither F32 nor F16 */
};

/* What a backend must have scratch for. */
struct backend_limits {
	int chunk;            /* rows of one call, 0: the backend's own choice */
	int64_t widest;       /* the longest row of any activation */
	int64_t copies;       /* bytes of weights that a CPU may keep in another order; -1: its own choice */
};

/* Which backend to open, and what of it. */
struct backend_choice {
	const char *device;   /* as in struct context_options */
	int gpu;
	const char *path;     /* code path of the CPU, as in struct context_options */
	int threads;          /* of the CPU; 0 = one per processor */
	const char *module;   /* file of the CUDA module; NULL: beside the program, or where it was installed */
};

/*
 * What a module of its own exports, by a function sinkd_backend_module without
 * arguments that returns a const struct backend_module *. The version changes
 * with everything in this header.
 */
enum { BACKEND_MODULE_VERSION = 8 };
struct backend_module {
	int version;
	struct backend *(*open)(const struct backend_choice *choice, const struct backend_limits *limits,
	    struct err *e);
};

/*
 * The backend chosen, to be released with its close. "auto" is CUDA where
 * that works, else the CPU. Returns NULL with *e set: EX_USAGE (no such device
 * or path), EX_UNAVAILABLE (no module, driver or GPU), EX_OSERR.
 */
struct backend *backend_open(const struct backend_choice *choice, const struct backend_limits *limits, struct err *e);

/*
 * The CPU backend. threads: 0 = one per processor; path: one of
 * context_paths. Returns NULL with *e set (EX_USAGE: no such path here).
 */
struct backend *backend_open_cpu(const char *path, int threads, const struct backend_limits *limits, struct err *e);

#endif
