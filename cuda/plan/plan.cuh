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
	GRAPHS = 16, SEEN = 64, STAGES = 4, PLACES = 256, INPUTS_FIRSTS = 8,
};

/* What changes from pass to pass, see inputs.cu. */
struct pass_inputs {
	char *device, *stages;     /* stages: STAGES of `size` bytes, pinned */
	/* passes whose bytes the device has fetched: as it knows, and as it says in pinned memory */
	unsigned *turn, *fetched;
	size_t size, used;
	unsigned passes;           /* with such bytes, before this one */
	bool staged;               /* there are some in this one */
	int64_t firsts[INPUTS_FIRSTS];
	int n_firsts;
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
	/*
	 * Of this pass and, from n on, of the last one, which had `before`; the latest one is on its own until the
	 * next one comes.
	 */
	struct node *nodes, latest;
	int n, capacity, before;
	int same;              /* nodes that this pass begins with as the last one did */
	bool prefill;             /* there are products of more than SMALL rows */
	struct pass_inputs inputs;

	struct constant *constants;
	int n_constants;

	struct place places[PLACES];
	int n_places;

	struct graph graphs[GRAPHS], *last;
	uint64_t seen[SEEN];
	unsigned next_seen;
	uint64_t clock;
};

/* ---- inputs.cu */

void inputs_new(struct cuda *c, struct pass_inputs *l);
void inputs_free(struct pass_inputs *l);
bool inputs_has_room(const struct pass_inputs *l, size_t bytes);

/* Bytes that the pass reads from device memory: where they will be. There is room for them. */
const void *inputs_put(struct cuda *c, struct pass_inputs *l, const void *data, size_t bytes);

/* The same for a stream position, of which a pass has few different ones; NULL if there are INPUTS_FIRSTS already. */
const int64_t *inputs_put_first(struct cuda *c, struct pass_inputs *l, int64_t first);

/* The kernel that fetches what was put. */
void inputs_fetch(struct cuda *c, const struct pass_inputs *l);

/* The pass, launched or given up, ends. */
void inputs_end(struct pass_inputs *l);

/* ---- fuse.cu */

/* Launch the plan's nodes, fused where that is possible. */
void fuse_run(struct cuda *c);

/* Rows of logits that are computed at a time. */
int fuse_logits_rows(int64_t vocabulary);

#endif
