/* What is recorded of a pass, and how it is launched; for plan.cu and fuse.cu only. */
#ifndef SINKD_CUDA_PLAN_CUH
#define SINKD_CUDA_PLAN_CUH

#include "device.cuh"

enum node_kind {
	NODE_COPY, NODE_EMBED, NODE_NORM, NODE_LINEAR, NODE_TABLE, NODE_ROTATE, NODE_STORE, NODE_ATTEND, NODE_ACTIVATE,
	NODE_ADD, NODE_SCORE, NODE_LOGITS, NODE_LIKELIEST,
	NODE_END,              /* of a pass: only what lies in the allocation of x is read later */
};

/* One operation. Nothing in it changes from pass to pass: that lies behind data, in device memory. */
struct node {
	enum node_kind kind;
	int n;                 /* tokens */
	int count;             /* LINEAR: matrices; ROTATE: rotated elements */
	int layer, heads, d;   /* TABLE: d rotated elements */
	enum norm_kind norm;
	enum activation act;
	enum rope_style style;
	float scale;           /* NORM: epsilon; LINEAR: clamp */
	float softcap;
	int pad;
	int64_t rows, width;   /* NORM; COPY, ADD, ACTIVATE: width values; ATTEND: width is the native window */
	const float *x, *x2;
	float *y;
	const struct matrix *w[LINEAR_MAX];
	const float *bias[LINEAR_MAX]; /* NORM: weight, bias */
	float *out[LINEAR_MAX];
	const struct cache *cache;
	const void *data;      /* EMBED: ids; TABLE: positions; STORE, ATTEND: first; SCORE: targets */
	const void *constant;  /* TABLE: turns; ATTEND: slopes */
};

enum {
	GRAPHS = 16, SEEN = 64, STAGES = 4, PLACES = 256, LIVE_FIRSTS = 8,
	LIVE_PER_TOKEN = 48,   /* ids, targets and four kinds of positions, and alignment */
	LIVE_FIXED = 4096,
};

/* Host data that stays the same, and its copy. */
struct constant {
	void *host, *device;
	size_t bytes;
};

/* What alloc gave out. */
struct place {
	char *base;
	size_t size;
};

struct graph {
	cudaGraphExec_t exec;
	struct node *nodes;
	int n;
	uint64_t hash, used;
};

struct plan {
	struct node *nodes, nowhere;
	int n, capacity;

	/* What changes from pass to pass: gathered in pinned memory, copied before the launch. */
	char *live, *stage[STAGES];
	cudaEvent_t copied[STAGES];
	size_t live_size, used;
	int current;
	bool staged;
	int64_t firsts[LIVE_FIRSTS];
	int n_firsts;

	struct constant *constants;
	int n_constants;

	struct place places[PLACES];
	int n_places;

	struct graph graphs[GRAPHS], *last;
	uint64_t seen[SEEN];
	unsigned next_seen;
	uint64_t clock;
};

/* Launch the plan's nodes, fused where that is possible. */
void fuse_run(struct cuda *c);

/* Rows of logits that are computed at a time. */
int fuse_logits_rows(int64_t vocabulary);

#endif
