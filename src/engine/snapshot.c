/*
 * A context's state as bytes, see context_save: a head of numbers that must
 * fit, then the last token's hidden row, the policy recompute's tokens, and per
 * layer the keys and values of the tokens that can still be seen.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/context.h"
#include "engine/finite.h"
#include "engine/model.h"

enum { PART = 256 }; /* tokens whose keys and values are copied at once */

/* What must be equal; the names are for the sentence. */
static const char *const fixed_names[] = {
	"format", "policy", "number of sinks", "window", "type of keys and values",
	    "bytes of a token's keys and values",
	"number of layers", "width", "start",
};
enum { FIXED = sizeof fixed_names / sizeof fixed_names[0], FORMAT = 1, FIXED_POLICY = 1, FIXED_START = FIXED - 1 };

struct head {
	int64_t fixed[FIXED];
	int64_t tokens, pinned, n_history;
};

static void
fill_fixed(const struct context *c, int64_t fixed[FIXED])
{
	const int64_t values[FIXED] = { FORMAT, c->o.policy, c->o.sinks, c->shape.window, c->shape.type,
		(int64_t)c->b->ops->cache_token_bytes(c->cache), c->m->h.n_layer, c->m->h.n_embd, c->o.start };

	memcpy(fixed, values, sizeof values);
}

/* Tokens in the cache that the next one can see, as the cache counts them: 0 .. sinks-1 and begin .. end-1. */
struct seen {
	int64_t sinks, begin, end;
};

static struct seen
find_seen(const struct context *c)
{
	struct seen s = { .end = c->tokens + c->pinned };

	if (c->o.policy == POLICY_RECOMPUTE)
		return (struct seen){ 0, 0, 0 };
	s.sinks = s.end < c->shape.sinks ? s.end : c->shape.sinks;
	s.begin = c->o.policy == POLICY_DENSE ? 0 : s.end - c->o.window + 1;
	if (s.begin < s.sinks)
		s.begin = s.sinks;
	return s;
}

/* Where the bytes go to or come from. */
struct copy {
	struct context *c;
	const struct bytes_out *to;
	const struct bytes_in *from; /* one of the two is NULL */
	char *buf; /* PART tokens of a layer, or a hidden row */
};

static int
pass(struct copy *s, void *bytes, size_t n, struct err *e)
{
	if (s->to != NULL)
		return bytes_write(s->to, bytes, n, e);
	assert(s->from != NULL);
	return bytes_read(s->from, bytes, n, e);
}

static int
pass_tokens(struct copy *s, int layer, int64_t first, int64_t end, struct err *e)
{
	struct context *c = s->c;
	const struct backend_ops *ops = c->b->ops;
	size_t size = ops->cache_token_bytes(c->cache);

	for (int64_t n; first < end; first += n) {
		n = end - first < PART ? end - first : PART;
		if (s->to != NULL && ops->cache_save(c->b, c->cache, layer, first, n, s->buf, e) < 0)
			return -1;
		if (pass(s, s->buf, (size_t)n * size, e) < 0)
			return -1;
		if (s->from != NULL && ops->cache_load(c->b, c->cache, layer, first, n, s->buf, e) < 0)
			return -1;
	}
	return 0;
}

static int
pass_hidden(struct copy *s, struct err *e)
{
	float *row = (float *)s->buf;

	if (s->to != NULL && forward_get_hidden(s->c->f, row, e) < 0)
		return -1;
	/* No pass looks at the last row of a device before it has a successor. */
	if (s->to != NULL && !floats_are_finite(row, s->c->m->h.n_embd))
		return context_break(s->c, e);
	if (pass(s, row, (size_t)s->c->m->h.n_embd * sizeof *row, e) < 0)
		return -1;
	if (s->from != NULL && !floats_are_finite(row, s->c->m->h.n_embd))
		return err_set(e, EX_DATAERR, "the saved state holds a number that is not finite");
	return s->from != NULL ? forward_set_hidden(s->c->f, row, e) : 0;
}

/* The policy recompute's tokens; those that are read are checked, since they lead into the embeddings. */
static int
pass_history(struct copy *s, struct err *e)
{
	struct context *c = s->c;

	if (c->n_history == 0)
		return 0;
	if (pass(s, c->history, (size_t)c->n_history * sizeof *c->history, e) < 0)
		return -1;
	for (int64_t i = 0; s->from != NULL && i < c->n_history; i++)
		if (c->history[i] < 0 || c->history[i] >= c->m->info.n_vocab)
			return err_set(e, EX_DATAERR, "the saved state is damaged");
	return 0;
}

/* All that follows the head. */
static int
pass_body(struct copy *s, struct err *e)
{
	struct context *c = s->c;
	size_t tokens = PART * c->b->ops->cache_token_bytes(c->cache), row = (size_t)c->m->h.n_embd * sizeof(float);
	struct seen seen = find_seen(c);
	int rc = -1;

	if ((s->buf = malloc(tokens > row ? tokens : row)) == NULL)
		return err_set(e, EX_OSERR, "out of memory for a snapshot");
	if (c->tokens > 0 && pass_hidden(s, e) < 0)
		goto out;
	if (pass_history(s, e) < 0)
		goto out;
	for (int i = 0; i < c->m->h.n_layer; i++)
		if (pass_tokens(s, i, 0, seen.sinks, e) < 0 || pass_tokens(s, i, seen.begin, seen.end, e) < 0)
			goto out;
	rc = 0;
out:
	free(s->buf);
	return rc;
}

int
context_save(struct context *c, const struct bytes_out *to, struct err *e)
{
	struct copy s = { .c = c, .to = to };
	struct head h = { .tokens = c->tokens, .pinned = c->pinned, .n_history = c->n_history };

	if (c->forked)
		return err_set(e, EX_SOFTWARE, "a context cannot be saved while it is forked");
	if (c->broken)
		return err_set(e, EX_SOFTWARE, "a context that failed cannot be saved");
	if (context_check_file(c, e) < 0)
		return -1;
	context_settle(c);
	fill_fixed(c, h.fixed);
	if (pass(&s, &h, sizeof h, e) < 0)
		return -1;
	return pass_body(&s, e);
}

/* What differs, as the user gave it. */
static int
refuse_fixed(int i, int64_t saved, int64_t here, struct err *e)
{
	if (i == FIXED_POLICY && saved >= 0 && saved <= POLICY_RECOMPUTE)
		return err_set(e, EX_CONFIG, "the state was saved with the policy %s, here it is %s",
		    context_policies[saved], context_policies[here]);
	if (i == FIXED_START)
		return err_set(e, EX_CONFIG, "the state was saved with another beginning of the stream, see --pin and "
		    "--system");
	return err_set(e, EX_CONFIG, "the state was saved with another %s: %lld, here it is %lld", fixed_names[i],
	    (long long)saved, (long long)here);
}

static int
check_head(const struct context *c, const struct head *h, struct err *e)
{
	int64_t want[FIXED];

	fill_fixed(c, want);
	for (int i = 0; i < FIXED; i++)
		if (h->fixed[i] != want[i])
			return refuse_fixed(i, h->fixed[i], want[i], e);
	if (h->pinned < 0 || h->pinned > c->o.block)
		return err_set(e, EX_CONFIG, "the state was saved with a pinned block of %lld tokens, here it may have "
		    "%d", (long long)h->pinned, c->o.block);
	if (h->tokens < 0 || h->tokens > (c->o.policy == POLICY_DENSE ? INT64_C(1) << 40 : INT64_C(1) << 60) ||
	    h->n_history < 0 || h->n_history > (c->history != NULL ? c->o.window : 0) ||
	    (h->pinned > 0 && h->tokens < c->o.sinks))
		return err_set(e, EX_DATAERR, "the saved state is damaged");
	return 0;
}

int
context_load(struct context *c, const struct bytes_in *from, struct err *e)
{
	struct copy s = { .c = c, .from = from };
	struct head h;

	context_reset(c);
	if (bytes_read(from, &h, sizeof h, e) < 0 || check_head(c, &h, e) < 0 || context_grow(c, h.tokens, e) < 0)
		return -1;
	context_set_pinned(c, h.pinned);
	c->tokens = h.tokens;
	c->n_history = h.n_history;
	if (pass_body(&s, e) == 0)
		return 0;
	context_reset(c);
	return -1;
}
