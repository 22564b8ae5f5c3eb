/*
 * The forward pass, written once for all architectures and all backends: a
 * chunk of tokens in, normalised hidden rows out, keys and values into the
 * cache on the way.
 */
#ifndef SINKD_ENGINE_FORWARD_H
#define SINKD_ENGINE_FORWARD_H

#include "engine/model.h"

struct forward;

/*
 * A forward pass of m on b for chunks of at most o->chunk tokens; capacity is
 * S + W (it chooses between short and long rotary factors). Loads the weights
 * into the backend, and calls o->loading. Borrows m and b.
 * Returns NULL with *e set (EX_OSERR).
 */
struct forward *forward_new(const struct model *m, struct backend *b, const struct context_options *o, int64_t capacity,
    struct err *e);
void forward_free(struct forward *f);

/*
 * Compute n tokens (1..chunk), the stream's tokens number first .. first+n-1
 * (counted from 0), with the cache holding everything before. start: the
 * stream position of token 0, see struct context_options. ids NULL: the token
 * that forward_ask_likeliest asked for last, n = 1.
 */
void forward_run(struct forward *f, struct cache *c, const struct cache_shape *shape, const int32_t *ids, int n,
    int64_t first, int64_t start);

/*
 * The output matrix over hidden rows of the last run: row 0 is the token
 * before its tokens (whatever run that was in), row i its i-th token. See
 * score and logits in struct backend_ops.
 */
int forward_score(struct forward *f, int row, int n, const int32_t *targets, float *nll, struct err *e);
int forward_logits(struct forward *f, int row, int n, float *logits, struct err *e);

/*
 * The token of the largest of the logits of `row`, as context_get_likeliest has
 * it: asked for and told apart where the backend can, see struct backend_ops,
 * or at once; scratch[n_vocab] for those logits, or NULL where they can be apart.
 */
bool forward_can_ask(const struct forward *f);
void forward_ask_likeliest(struct forward *f, int row);
int forward_tell_likeliest(struct forward *f, int32_t *id, struct err *e);
int forward_likeliest(struct forward *f, int row, float *scratch, int32_t *id, struct err *e);

/* The last run, of one token, is given up: the token before it is the last one again. */
void forward_drop(struct forward *f);

/* The row of the last token computed. */
int forward_last_row(const struct forward *f);

/*
 * Are the hidden rows [row, row + n), numbered as above, finite? Returns 1, 0, or -1 with *e set. Dear:
 * the rows must be read from a device for that.
 */
int forward_check(struct forward *f, int row, int n, struct err *e);
bool forward_check_is_dear(const struct forward *f);

/*
 * forward_run of one token, looking at its numbers after each step. *layer receives the first step that gives some
 * that are not finite: -1 the embedding, a layer, n_layer the last norm; n_layer + 1: none does.
 */
int forward_trace(struct forward *f, struct cache *c, const struct cache_shape *shape, int32_t id, int64_t first,
    int64_t start, int *layer, struct err *e);

/* Remember the hidden row of the last token, and make it the last token's again. */
void forward_mark(struct forward *f);
void forward_rewind(struct forward *f);

/* The hidden row of the last token, [n_embd] in host memory. */
int forward_get_hidden(struct forward *f, float *row, struct err *e);
int forward_set_hidden(struct forward *f, const float *row, struct err *e);

#endif
