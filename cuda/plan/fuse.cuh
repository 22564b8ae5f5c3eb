/* What the files share that turn recorded operations into launches; fuse.cu tells how. */
#ifndef SINKD_CUDA_FUSE_CUH
#define SINKD_CUDA_FUSE_CUH

#include "plan/plan.cuh"

/* What a pointer's memory holds at the moment, where that is not plain floats. */
struct value {
	const float *p;
	int norm;              /* >= 0: not computed: the norm of that node, to be applied by whoever reads it */
	int64_t ld;            /* else halves, from row to row, times scale */
	float scale;
};

enum { VALUES = 32, NO_NORM = -1 };

/* Results of products, and activations, are this much smaller as halves: some models' largest are beyond 65504. */
static const float half_scale = 0x1p-5f;

struct fuse {
	struct cuda *c;
	const struct node *nodes;
	int n;
	struct value values[VALUES];
	int n_values;
};

static inline int64_t
round_up(int64_t n, int64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

/* ---- fuse_values.cu: who reads what, and in which form it is */

/* What happens to p after node i. */
struct uses {
	int readers, last;     /* how many nodes read it, and the last of them */
	bool products;         /* all of them are products that take halves */
	bool dead;             /* after them nobody does */
};
struct uses fuse_uses_of(const struct fuse *f, int i, const float *p);

/* Whether nobody reads p after node i. */
bool fuse_dead_after(const struct fuse *f, int i, const float *p);

/* Whether both lie in the same allocation; whether a node reads anything there; whether it writes exactly p. */
bool fuse_same_place(const struct fuse *f, const float *a, const float *b);
bool fuse_reads(const struct fuse *f, const struct node *x, const float *p);
bool fuse_writes(const struct node *x, const float *p);

/* Whether a node is a product that can have p as halves. */
bool fuse_takes_halves(const struct node *x, const float *p);

/* Whether all matrices of a product are read as they are stored, for its few rows. */
bool fuse_is_small(const struct fuse *f, const struct node *x);

struct value fuse_value_of(const struct fuse *f, const float *p);
void fuse_set_value(struct fuse *f, const float *p, int norm, int64_t ld, float scale);
void fuse_set_floats(struct fuse *f, const float *p);

/* Where a result goes: halves in place if all who read it are products (then *ld is set), else NULL: floats. */
__half *fuse_result_halves(struct fuse *f, int i, float *p, int64_t width, float scale, int64_t *ld);

/* ---- fuse_heads.cu: from queries, keys and values to attention */

/* Queries, keys and values between their product and the attention: nodes first .. attend. */
struct heads {
	int attend;
	struct rotation r;
	const struct node *store, *at;
};

/*
 * Whether from node i on queries, keys and values are normalised, rotated,
 * stored and attended to, as forward.c does it, over a cache of halves or
 * bytes, and are not read again.
 */
bool fuse_match_heads(const struct fuse *f, int i, struct heads *h);

/* Up to SMALL tokens have their projections in floats and without gaps. */
void fuse_run_heads(struct fuse *f, const struct heads *h, const struct projections *p);

/* These and the next ones return how many nodes are done: heads whose projections are stored, attention alone. */
int fuse_run_separate_heads(struct fuse *f, const struct heads *h, int i);
int fuse_run_attend(struct fuse *f, int i);

/* ---- fuse_products.cu */

int fuse_run_linear(struct fuse *f, int i);
void fuse_run_score(struct fuse *f, const struct node *x);
void fuse_run_logits(struct fuse *f, const struct node *x);
void fuse_run_likeliest(struct fuse *f, const struct node *x);

/* An activation on its own: gate, up, halves, unscale, ld, n and width of a are set. */
void fuse_run_activation(struct fuse *f, int i, struct activation_call *a);

#endif
