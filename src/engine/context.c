/*
 * The never-ending context: what is fed goes through the forward pass in
 * chunks; sinks and window are the cache's business, the policies are the
 * cache's shape. See engine.h for the semantics.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/context.h"
#include "engine/fault.h"
#include "engine/finite.h"
#include "engine/model.h"
#include "engine/quant.h"

enum { CHUNK_MAX = 65536, DENSE_SLOTS = 1024 };

/* No cache is anywhere near; keeps sums of sinks, window and spare slots inside 32 bits. */
static const int32_t window_max = 1 << 28;

const char *const context_policies[] = { "sink", "window", "dense", "recompute", NULL };

void
context_options_init(struct context_options *o)
{
	*o = (struct context_options){ .policy = POLICY_SINK, .sinks = 4, .window = 1020 };
}

static int
check_options(const struct model *m, const struct context_options *o, struct err *e)
{
	if (m->layers == NULL)
		return err_set(e, EX_USAGE, "%s was opened for its vocabulary only", m->info.path);
	if (o->policy != POLICY_DENSE && o->window < 1)
		return err_set(e, EX_USAGE, "a window of %d tokens is too small: at least 1 is needed", o->window);
	if (o->sinks < 0)
		return err_set(e, EX_USAGE, "the number of sinks cannot be negative, it is %d", o->sinks);
	if (o->policy != POLICY_SINK && o->sinks != 0)
		return err_set(e, EX_USAGE, "only the policy 'sink' has sinks, here are %d", o->sinks);
	if (o->policy != POLICY_SINK && o->block != 0)
		return err_set(e, EX_USAGE, "only the policy 'sink' can pin a block, room for %d tokens was asked for",
		    o->block);
	if (o->block < 0 || (o->policy == POLICY_SINK && (int64_t)o->sinks + o->block > m->h.n_ctx_train))
		return err_set(e, EX_USAGE, "%d sinks and pinned tokens are more than the %d that %s was trained with",
		    o->sinks + o->block, m->h.n_ctx_train, m->info.path);
	if (o->window > window_max || o->fork_tokens < 0 || o->fork_tokens > window_max)
		return err_set(e, EX_USAGE, "a window or fork of more than %d tokens is not supported", window_max);
	if (o->chunk < 0 || o->chunk > CHUNK_MAX)
		return err_set(e, EX_USAGE, "a chunk of %d tokens is outside 1 to %d", o->chunk, CHUNK_MAX);
	if (o->threads < 0 || o->threads > 1024)
		return err_set(e, EX_USAGE, "%d threads are outside 1 to 1024", o->threads);
	if (o->gpu < 0)
		return err_set(e, EX_USAGE, "there is no GPU with the negative number %d", o->gpu);
	if (o->start < 0)
		return err_set(e, EX_USAGE, "the stream cannot start at the negative position %lld",
		    (long long)o->start);
	return 0;
}

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* The cache that a policy needs. */
static void
set_shape(struct context *c)
{
	const struct hyper *h = &c->m->h;
	const struct context_options *o = &c->o;
	int64_t spare = larger(o->chunk, o->fork_tokens), slots = o->window - 1 + spare;

	c->shape = (struct cache_shape){ .n_layer = h->n_layer, .n_head_kv = h->n_head_kv, .d_k = h->d_k, .d_v = h->d_v,
		.sinks = o->sinks, .more_sinks = o->block, .window = o->window, .type = o->kv };
	if (o->kv == KV_AUTO) {
		uint32_t type = c->m->layers[0].w[W_K].type;

		c->shape.type = type == QUANT_F32 || (type == QUANT_F16 && c->b->kv != KV_F16) ? KV_F32 : c->b->kv;
	}
	if (o->policy == POLICY_DENSE) {
		c->shape.window = INT64_MAX;
		slots = DENSE_SLOTS;
	} else if (o->policy == POLICY_RECOMPUTE) {
		slots = o->window;
	}
	c->shape.slots = (slots + CACHE_BLOCK - 1) / CACHE_BLOCK * CACHE_BLOCK;
}

static int64_t
widest_row(const struct hyper *h)
{
	return larger(larger(h->n_embd, h->n_ff), (int64_t)h->n_head * larger(h->d_k, h->d_v));
}

static int
context_allocate(struct context *c, struct err *e)
{
	struct backend_choice choice = { .device = c->o.device, .gpu = c->o.gpu, .path = c->o.path,
		.threads = c->o.threads };
	struct backend_limits limits = { .chunk = c->o.chunk, .widest = widest_row(&c->m->h), .copies = -1 };
	int64_t capacity = c->o.policy == POLICY_DENSE ? c->m->h.n_ctx_train : c->o.sinks + c->o.block + c->o.window;

	c->b = backend_open(&choice, &limits, e);
	if (c->b == NULL)
		return -1;
	c->o.chunk = c->b->chunk;
	set_shape(c);
	c->f = forward_new(c->m, c->b, &c->o, capacity, e);
	if (c->f == NULL)
		return -1;
	if (c->b->copied)
		gguf_forget(c->m->file);
	c->cache = c->b->ops->cache_new(c->b, &c->shape, e);
	if (c->cache == NULL)
		return -1;
	if (!forward_can_ask(c->f)) {
		c->logits = malloc((size_t)c->m->h.n_vocab * sizeof *c->logits);
		if (c->logits == NULL)
			return err_set(e, EX_OSERR, "out of memory for the logits of a token");
	}
	if (c->o.policy == POLICY_RECOMPUTE) {
		c->history = malloc((size_t)c->o.window * sizeof *c->history);
		c->fork_history = malloc((size_t)c->o.window * sizeof *c->history);
		if (c->history == NULL || c->fork_history == NULL)
			return err_set(e, EX_OSERR, "out of memory for the last %d tokens", c->o.window);
	}
	return 0;
}

/* The place of what waits, see aside.c. */
static void
free_aside(struct context *c)
{
	struct aside_place *o = &c->other;

	if (o->cache != NULL && o->cache != c->cache)
		c->b->ops->cache_free(c->b, o->cache);
	free(o->history);
	free(o->hidden);
	free(c->row);
	c->row = NULL;
	*o = (struct aside_place){0};
	c->aside = ASIDE_NONE;
}

static void
context_release(struct context *c)
{
	if (c->b != NULL) {
		free_aside(c);
		c->b->ops->cache_free(c->b, c->cache);
		forward_free(c->f);
		c->b->ops->close(c->b);
	}
	free(c->history);
	free(c->fork_history);
	free(c->logits);
	c->b = NULL;
	c->cache = NULL;
	c->f = NULL;
	c->history = c->fork_history = NULL;
	c->logits = NULL;
}

struct context *
context_new(struct model *m, const struct context_options *o, struct err *e)
{
	struct context *c;
	int r;

	if (check_options(m, o, e) < 0)
		return NULL;
	c = calloc(1, sizeof *c);
	if (c == NULL) {
		err_set(e, EX_OSERR, "out of memory for the context");
		return NULL;
	}
	c->m = m;
	c->o = *o;
	c->last_id = -1;
	r = context_allocate(c, e);
	/* A GPU that was not asked for and has too little memory is as good as none. */
	if (r < 0 && c->b != NULL && c->b->device && (o->device == NULL || strcmp(o->device, "auto") == 0)) {
		context_release(c);
		c->o = *o;
		c->o.device = "cpu";
		r = context_allocate(c, e);
	}
	if (r < 0) {
		context_free(c);
		return NULL;
	}
	return c;
}

void
context_free(struct context *c)
{
	if (c == NULL)
		return;
	context_release(c);
	free(c);
}

/* Score n tokens against the rows from `row`; the stream's first token has no score. */
static int
score(struct context *c, int row, const int32_t *ids, int n, float *nll, struct err *e)
{
	int unscored = c->tokens == 0 && row == 0;

	if (unscored)
		nll[0] = NAN;
	if (n == unscored)
		return 0;
	return forward_score(c->f, row + unscored, n - unscored, ids + unscored, nll + unscored, e);
}

int
context_grow(struct context *c, int64_t n, struct err *e)
{
	int64_t slots = c->shape.slots;

	if (c->o.policy != POLICY_DENSE)
		return 0;
	while (slots < n)
		slots *= 2;
	if (slots == c->shape.slots)
		return 0;
	if (c->b->ops->cache_grow(c->b, c->cache, slots, e) < 0)
		return -1;
	c->shape.slots = slots;
	return 0;
}

/*
 * Everything that came of the last n hidden rows is finite. nll[0] is that of the row before them. A device's hidden
 * rows are read only where nothing else would tell soon: a score tells of the row before.
 */
static int
context_is_sound(struct context *c, int n, const float *nll, const float *logits, struct err *e)
{
	int unscored = c->tokens == 0;

	if (nll != NULL && !floats_are_finite(nll + unscored, n - unscored))
		return 0;
	if (logits != NULL && !floats_are_finite(logits, (int64_t)n * c->m->h.n_vocab))
		return 0;
	if (forward_check_is_dear(c->f) && (n == 1 || nll != NULL || logits != NULL))
		return 1;
	return forward_check(c->f, forward_last_row(c->f) - n + 1, n, e);
}

/* The pass that gave nll or logits, or neither, is checked; a number that is not finite is the context's end. */
static int
check_pass(struct context *c, const int32_t *ids, int n, const float *nll, const float *logits, struct err *e)
{
	struct fault_pass p = { .ids = ids, .n = n, .first = c->tokens + c->pinned, .start = c->o.start - c->pinned,
		.rows = { logits != NULL || c->tokens == 0 ? 1 : 0, logits != NULL ? n + 1 : nll != NULL ? n : 0 },
		.before = c->last_id, .number = c->tokens, .of = "the stream" };
	int rc = context_is_sound(c, n, nll, logits, e);

	return rc == 0 ? fault_report(c, &p, e) : rc < 0 ? -1 : 0;
}

/* A chunk through the forward pass; nll[n] and logits[n][n_vocab] where not NULL. */
static int
feed_chunk(struct context *c, const int32_t *ids, int n, float *nll, float *logits, struct err *e)
{
	if (context_grow(c, c->tokens + n, e) < 0)
		return -1;
	/* A token is rotated at its place in the stream, which the pinned block does not move. */
	forward_run(c->f, c->cache, &c->shape, ids, n, c->tokens + c->pinned, c->o.start - c->pinned);
	if (nll != NULL && score(c, 0, ids, n, nll, e) < 0)
		return -1;
	if (logits != NULL && forward_logits(c->f, 1, n, logits, e) < 0)
		return -1;
	/* A token that is generated waits for the logits that come next: both are one piece of work for a GPU. */
	if ((n > 1 || nll != NULL || logits != NULL) && c->b->ops->sync(c->b, e) < 0)
		return -1;
	if (check_pass(c, ids, n, nll, logits, e) < 0)
		return -1;
	c->tokens += n;
	return 0;
}

/* The logits, or the score, of the last token fed: its hidden row was found finite. */
static int
check_last(struct context *c, const float *x, int64_t n, struct err *e)
{
	int row = forward_last_row(c->f);
	struct fault_pass p = { .rows = { row, row + 1 }, .before_row = row, .before = c->last_id, .number = c->tokens,
		.of = "the stream" };

	return floats_are_finite(x, n) ? 0 : fault_report(c, &p, e);
}

int
context_check_file(struct context *c, struct err *e)
{
	if (gguf_check(c->m->file, e) == 0)
		return 0;
	c->broken = true;
	return -1;
}

int
context_break(struct context *c, struct err *e)
{
	const float none = NAN;

	return check_last(c, &none, 1, e);
}

/* The tokens of the window are computed from the first one that is not in the cache. */
static int
recompute_window(struct context *c, struct err *e)
{
	struct fault_pass p = { .ids = c->history, .n = (int)c->n_history, .start = c->o.start,
		.number = c->tokens + 1 - c->n_history, .of = "the stream" };
	int rc = 1;

	for (int64_t n; c->n_cached < c->n_history && rc > 0; c->n_cached += n) {
		n = c->n_history - c->n_cached < c->o.chunk ? c->n_history - c->n_cached : c->o.chunk;
		forward_run(c->f, c->cache, &c->shape, c->history + c->n_cached, (int)n, c->n_cached, c->o.start);
		rc = forward_check_is_dear(c->f) ? 1 : forward_check(c->f, 1, (int)n, e);
	}
	return rc == 0 ? fault_report(c, &p, e) : rc < 0 ? -1 : 0;
}

/* Policy recompute: a fresh dense pass over the last W tokens, the new one included. */
static int
recompute_token(struct context *c, int32_t id, float *nll, float *logits, struct err *e)
{
	if (nll != NULL &&
	    (score(c, forward_last_row(c->f), &id, 1, nll, e) < 0 || (c->tokens > 0 && check_last(c, nll, 1, e) < 0)))
		return -1;
	if (c->n_history == c->o.window) {
		memmove(c->history, c->history + 1, (size_t)(c->n_history - 1) * sizeof *c->history);
		c->n_history--;
		c->n_cached = 0;
	}
	c->history[c->n_history++] = id;
	if (recompute_window(c, e) < 0)
		return -1;
	if (logits != NULL && forward_logits(c->f, forward_last_row(c->f), 1, logits, e) < 0)
		return -1;
	if (c->b->ops->sync(c->b, e) < 0)
		return -1;
	c->tokens++;
	c->last_id = id;
	return logits != NULL ? check_last(c, logits, c->m->h.n_vocab, e) : 0;
}

/*
 * Greedy decoding. While the likeliest token is on its way to the caller the
 * pass that feeds it can begin: the backend knows the token. That pass writes a
 * spare slot and the hidden row behind the last token's, so that giving it up
 * takes nothing but forgetting it.
 */
static bool
can_begin(const struct context *c)
{
	return c->ahead.expected && forward_can_ask(c->f) && c->o.policy != POLICY_RECOMPUTE &&
	    (!c->forked || c->tokens < c->fork_at + c->o.fork_tokens);
}

static int
begin_next(struct context *c, struct err *e)
{
	if (context_grow(c, c->tokens + 1, e) < 0)
		return -1;
	forward_run(c->f, c->cache, &c->shape, NULL, 1, c->tokens + c->pinned, c->o.start - c->pinned);
	forward_ask_likeliest(c->f, forward_last_row(c->f));
	c->ahead.begun = true;
	return 0;
}

/* The pass that was begun is that of this token. */
static bool
adopt(struct context *c, const int32_t *ids, size_t n, const float *nll, const float *logits)
{
	if (!c->ahead.begun || n != 1 || nll != NULL || logits != NULL || ids[0] != c->ahead.id)
		return false;
	c->ahead.begun = false;
	c->ahead.asked = true;
	c->tokens++;
	c->last_id = ids[0];
	return true;
}

void
context_settle(struct context *c)
{
	struct err e;
	int32_t id;

	if (!c->ahead.begun && !c->ahead.asked)
		return;
	/* An error is the device's, and comes again with whatever is done next. */
	(void)forward_tell_likeliest(c->f, &id, &e);
	if (c->ahead.begun)
		forward_drop(c->f);
	c->ahead.begun = c->ahead.asked = false;
}

static int
check_feed(const struct context *c, const int32_t *ids, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++)
		if (ids[i] < 0 || ids[i] >= c->m->h.n_vocab)
			return err_set(e, EX_DATAERR, "token %d is outside the vocabulary of %d tokens", ids[i],
			    c->m->h.n_vocab);
	if (c->forked && (int64_t)n > c->fork_at + c->o.fork_tokens - c->tokens)
		return err_set(e, EX_SOFTWARE, "a fork has room for %d tokens only", c->o.fork_tokens);
	return 0;
}

/*
 * Tokens that can go through one pass. Recompute: while nothing has been
 * evicted the cache is the beginning of the next dense pass, which is
 * continued; after that 0: every token has a pass of its own.
 */
static int
plan_chunk(const struct context *c, size_t n)
{
	int64_t room = c->o.chunk;

	if (c->o.policy == POLICY_RECOMPUTE) {
		if (c->n_cached < c->n_history)
			return 0;
		room = room < c->o.window - c->n_history ? room : c->o.window - c->n_history;
	}
	return (int)((int64_t)n < room ? (int64_t)n : room);
}

static int
feed(struct context *c, const int32_t *ids, size_t n, float *nll, float *logits, struct err *e)
{
	if (check_feed(c, ids, n, e) < 0)
		return -1;
	if (c->broken)
		return err_set(e, EX_SOFTWARE, "the context is of no more use since it failed");
	if (adopt(c, ids, n, nll, logits))
		return 0;
	context_settle(c);
	for (size_t i = 0; i < n;) {
		int part = plan_chunk(c, n - i);
		float *part_nll = nll != NULL ? nll + i : NULL;
		float *part_logits = logits != NULL ? logits + i * (size_t)c->m->h.n_vocab : NULL;

		if (part == 0) {
			part = 1;
			if (recompute_token(c, ids[i], part_nll, part_logits, e) < 0)
				return -1;
		} else {
			if (feed_chunk(c, ids + i, part, part_nll, part_logits, e) < 0)
				return -1;
			if (c->o.policy == POLICY_RECOMPUTE) {
				memcpy(c->history + c->n_history, ids + i, (size_t)part * sizeof *ids);
				c->n_history = c->n_cached += part;
			}
		}
		i += (size_t)part;
		c->last_id = ids[i - 1];
	}
	/* Afterwards: what came of a file that changed is not handed out. */
	return context_check_file(c, e);
}

void
context_set_pinned(struct context *c, int64_t n)
{
	if (c->pinned == n)
		return;
	c->pinned = n;
	c->shape.sinks = c->o.sinks + n;
	c->b->ops->cache_set_sinks(c->b, c->cache, c->shape.sinks);
}

/* Tokens number i .. of the pinned block. */
static int
pin_part(struct context *c, const int32_t *ids, int n, int64_t i, struct err *e)
{
	struct fault_pass p = { .ids = ids, .n = n, .first = c->o.sinks + i, .number = i, .of = "the pinned block" };
	int rc;

	forward_run(c->f, c->cache, &c->shape, ids, n, p.first, 0);
	rc = forward_check(c->f, 1, n, e);
	return rc == 0 ? fault_report(c, &p, e) : rc < 0 ? -1 : 0;
}

/*
 * The ring's slots are counted from the end of the sinks, and keys in it are
 * rotated at their place in the stream: a block of another length changes
 * neither, only the distances from which sinks and block are seen.
 */
int
context_pin(struct context *c, const int32_t *ids, size_t n, struct err *e)
{
	if (n > (size_t)c->o.block)
		return err_set(e, EX_DATAERR, "a block of %zu tokens cannot be pinned, there is room for %d", n,
		    c->o.block);
	if (c->forked || c->tokens < c->o.sinks)
		return err_set(e, EX_SOFTWARE, "a block cannot be pinned on a fork, nor before there are %d sinks",
		    c->o.sinks);
	if (check_feed(c, ids, n, e) < 0)
		return -1;
	context_settle(c);
	forward_mark(c->f);
	context_set_pinned(c, (int64_t)n);
	for (size_t i = 0; i < n;) {
		int part = n - i < (size_t)c->o.chunk ? (int)(n - i) : c->o.chunk;

		if (pin_part(c, ids + i, part, (int64_t)i, e) < 0)
			return -1;
		i += (size_t)part;
	}
	forward_rewind(c->f);
	return c->b->ops->sync(c->b, e) < 0 ? -1 : context_check_file(c, e);
}

int
context_feed(struct context *c, const int32_t *ids, size_t n, float *nll, struct err *e)
{
	return feed(c, ids, n, nll, NULL, e);
}

int
context_feed_logits(struct context *c, const int32_t *ids, size_t n, float *logits, struct err *e)
{
	return feed(c, ids, n, NULL, logits, e);
}

int
context_get_logits(struct context *c, float *logits, struct err *e)
{
	if (c->tokens == 0)
		return err_set(e, EX_SOFTWARE, "there are no logits before the first token");
	context_settle(c);
	if (forward_logits(c->f, forward_last_row(c->f), 1, logits, e) < 0)
		return -1;
	return check_last(c, logits, c->m->h.n_vocab, e);
}

/* A device could not tell the likeliest token: it failed, or a logit is NaN. */
static int
report_likeliest(struct context *c, const struct err *why, struct err *e)
{
	if (why->code != EX_DATAERR) {
		if (e != NULL)
			*e = *why;
		return -1;
	}
	context_settle(c);
	return context_break(c, e);
}

static int
find_likeliest(struct context *c, int32_t *id, struct err *e)
{
	struct err why;

	if (forward_likeliest(c->f, forward_last_row(c->f), c->logits, id, &why) < 0)
		return report_likeliest(c, &why, e);
	return forward_can_ask(c->f) ? 0 : check_last(c, c->logits, c->m->h.n_vocab, e);
}

int
context_get_likeliest(struct context *c, int32_t *id, struct err *e)
{
	struct err why;

	if (c->tokens == 0)
		return err_set(e, EX_SOFTWARE, "there are no logits before the first token");
	if (c->ahead.begun) {
		*id = c->ahead.id;
		return 0;
	}
	if (!c->ahead.asked && !can_begin(c))
		return find_likeliest(c, id, e);
	if (!c->ahead.asked)
		forward_ask_likeliest(c->f, forward_last_row(c->f));
	c->ahead.asked = true;
	if (can_begin(c) && begin_next(c, e) < 0)
		return -1;
	c->ahead.asked = false;
	if (forward_tell_likeliest(c->f, &c->ahead.id, &why) < 0)
		return report_likeliest(c, &why, e);
	*id = c->ahead.id;
	return 0;
}

void
context_expect_likeliest(struct context *c, bool expected)
{
	c->ahead.expected = expected;
}

bool
context_is_broken(const struct context *c)
{
	return c->broken;
}

void
context_get_info(const struct context *c, struct context_info *info)
{
	bool dense = c->o.policy == POLICY_DENSE;
	int64_t capacity = (int64_t)c->o.sinks + c->o.window;

	memset(info, 0, sizeof *info);
	info->tokens = c->tokens;
	info->capacity = dense ? 0 : (int32_t)capacity;
	info->evictions = dense || c->tokens <= capacity ? 0 : c->tokens - capacity;
	info->pinned = (int32_t)c->pinned;
	info->attended = (int32_t)(c->tokens - info->evictions) + info->pinned;
	info->threads = c->b->threads;
	info->chunk = c->o.chunk;
	info->kv = c->shape.type;
	info->kv_bytes = c->b->ops->cache_bytes(c->cache);
	info->kv_token_bytes = (uint64_t)c->m->h.n_layer * c->b->ops->cache_token_bytes(c->cache);
	info->path = c->b->path;
	info->gpu = c->b->device;
}
