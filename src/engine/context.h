/* A context's own state, shared by aside.c, context.c and snapshot.c. */
#ifndef SINKD_ENGINE_CONTEXT_H
#define SINKD_ENGINE_CONTEXT_H

#include "engine/engine.h"
#include "engine/forward.h"

/* Where a fork is while the stream is fed, or the stream while a fork is that has waited; see aside.c. */
struct aside_place {
	struct cache *cache; /* NULL: there was no need yet */
	struct cache_shape shape;
	int64_t tokens, pinned;
	int64_t fork_at;
	int32_t *history;    /* [W], recompute only */
	int64_t n_history;
	float *hidden;       /* [n_embd] of the last token, in host memory */
};

enum aside {
	ASIDE_NONE,    /* if there is a fork, it lies in the stream's cache */
	ASIDE_WAITS,   /* a fork is in `other`; there may be another one, as in ASIDE_NONE */
	ASIDE_GOES_ON, /* the fork that has waited is fed, the stream is in `other` */
};

/*
 * The cache and the forward pass count tokens with the pinned block among
 * them, right behind the sinks: the stream's token t >= S is their t + pinned.
 */
struct context {
	struct model *m;
	struct context_options o;
	struct backend *b;
	struct forward *f;
	struct cache *cache;
	struct cache_shape shape; /* its sinks: S and the pinned block */
	int64_t tokens;      /* of the stream, appended so far */
	int64_t pinned;      /* tokens of the pinned block */
	int32_t *history;    /* recompute: the last W tokens, oldest first */
	int64_t n_history;
	int64_t n_cached;    /* recompute: how many of them the cache holds, at positions 0 .. */
	int32_t last_id;     /* the last token fed, or -1: not known */
	bool broken;         /* of no more use, see context_is_broken */
	bool forked;
	int64_t fork_at;     /* tokens at the fork */
	int32_t *fork_history;
	int64_t fork_n_history;
	enum aside aside;
	struct aside_place other;
	float *row;          /* [n_embd] in host memory, to exchange hidden rows */
	float *logits;       /* [n_vocab], where the backend cannot find the largest itself */
	struct {
		bool expected;   /* see context_expect_likeliest */
		/* the token after the last one, `id`, has a pass already, which has asked for its successor */
		bool begun;
		bool asked;      /* the last token's likeliest successor was asked for, and not told */
		int32_t id;
	} ahead;
};

/* Dense only: room in the cache for n tokens in all. */
int context_grow(struct context *c, int64_t n, struct err *e);

/* What was begun ahead of its token is given up, and nothing is asked for any more. */
void context_settle(struct context *c);

/* Did nobody write into the model's file? Else the context is broken. Returns 0, or -1 with *e set (EX_IOERR). */
int context_check_file(struct context *c, struct err *e);

/* The last token's hidden row is not finite: says so as fault_report does. */
int context_break(struct context *c, struct err *e);

/* The sinks and a pinned block of n tokens behind them. */
void context_set_pinned(struct context *c, int64_t n);

#endif
