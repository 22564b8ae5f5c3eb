/*
 * Asides: a fork of the stream, see context_fork. While a fork is fed and
 * nothing else is, it lies in spare slots of the stream's own cache. A fork that
 * waits while the stream goes on gets a copy of that cache at its first pause,
 * and stays there.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/context.h"
#include "engine/model.h"

int
context_fork(struct context *c, struct err *e)
{
	if (c->forked)
		return err_set(e, EX_SOFTWARE, "the context is forked already");
	if (c->o.fork_tokens == 0)
		return err_set(e, EX_SOFTWARE, "the context was made without room for a fork");
	context_settle(c);
	forward_mark(c->f);
	c->forked = true;
	c->fork_at = c->tokens;
	c->fork_n_history = c->n_history;
	if (c->history != NULL)
		memcpy(c->fork_history, c->history, (size_t)c->n_history * sizeof *c->history);
	return 0;
}

/*
 * The slots after the fork are as good as never written: a window token finds
 * its slot by its number, and the ring has room for the fork beside the window.
 */
static void
rewind_cache(struct context *c)
{
	forward_rewind(c->f);
	c->last_id = -1;
	c->forked = false;
	c->tokens = c->fork_at;
	c->n_history = c->fork_n_history;
	c->n_cached = 0;
	if (c->history != NULL)
		memcpy(c->history, c->fork_history, (size_t)c->n_history * sizeof *c->history);
}

bool
context_keep(struct context *c)
{
	if (!c->forked || c->aside != ASIDE_NONE)
		return false;
	c->forked = false;
	return true;
}

/* ---- forks that wait ------------------------------------------------ */

/* Room for the place of a fork that waits. Recompute has all that it needs in the tokens of its history. */
static int
aside_prepare(struct context *c, struct err *e)
{
	struct aside_place *o = &c->other;
	struct cache_shape shape = c->shape;
	size_t row = (size_t)c->m->h.n_embd * sizeof *c->row;

	if (o->cache != NULL && o->cache != c->cache && o->shape.slots != shape.slots) {
		c->b->ops->cache_free(c->b, o->cache); /* dense has grown */
		o->cache = NULL;
	}
	shape.sinks = c->o.sinks;
	if (c->o.policy == POLICY_RECOMPUTE)
		o->cache = c->cache;
	else if (o->cache == NULL && (o->cache = c->b->ops->cache_new(c->b, &shape, e)) == NULL)
		return -1;
	if (o->hidden == NULL)
		o->hidden = malloc(row);
	if (c->row == NULL)
		c->row = malloc(row);
	if (o->history == NULL && c->history != NULL)
		o->history = malloc((size_t)c->o.window * sizeof *o->history);
	if (o->hidden == NULL || c->row == NULL || (o->history == NULL && c->history != NULL))
		return err_set(e, EX_OSERR, "out of memory for an answer that waits while events are read");
	return 0;
}

/* The fork gets a cache of its own, and the stream is what it was before it. */
static int
take_apart(struct context *c, struct err *e)
{
	struct aside_place *o = &c->other;

	if (aside_prepare(c, e) < 0 || forward_get_hidden(c->f, o->hidden, e) < 0)
		return -1;
	if (o->cache != c->cache && c->b->ops->cache_copy(c->b, o->cache, c->cache, e) < 0)
		return -1;
	o->shape = c->shape;
	o->tokens = c->tokens;
	o->pinned = c->pinned;
	o->fork_at = c->fork_at;
	o->n_history = c->n_history;
	if (c->history != NULL)
		memcpy(o->history, c->history, (size_t)c->n_history * sizeof *c->history);
	rewind_cache(c);
	return 0;
}

/* The fork and the stream change places. */
static int
exchange(struct context *c, struct err *e)
{
	struct aside_place *o = &c->other, was = {
		.cache = c->cache,
		.shape = c->shape,
		.tokens = c->tokens,
		.pinned = c->pinned,
		.fork_at = c->fork_at,
		.history = c->history,
		.n_history = c->n_history,
		.hidden = c->row,
	};

	if (forward_get_hidden(c->f, c->row, e) < 0 || forward_set_hidden(c->f, o->hidden, e) < 0)
		return -1;
	c->cache = o->cache;
	c->shape = o->shape;
	c->tokens = o->tokens;
	c->pinned = o->pinned;
	c->fork_at = o->fork_at;
	c->history = o->history;
	c->n_history = o->n_history;
	c->n_cached = 0;
	c->last_id = -1;
	c->row = o->hidden;
	*o = was;
	return 0;
}

int
context_suspend(struct context *c, struct err *e)
{
	if (!c->forked || c->aside == ASIDE_WAITS)
		return err_set(e, EX_SOFTWARE, c->forked ? "a fork waits already" : "there is no fork that could wait");
	context_settle(c);
	if ((c->aside == ASIDE_NONE ? take_apart(c, e) : exchange(c, e)) < 0)
		return -1;
	c->forked = false;
	c->aside = ASIDE_WAITS;
	return 0;
}

int
context_resume(struct context *c, struct err *e)
{
	if (c->forked || c->aside != ASIDE_WAITS)
		return err_set(e, EX_SOFTWARE, "there is no fork that waits, or another one is in its place");
	context_settle(c);
	if (exchange(c, e) < 0)
		return -1;
	c->forked = true;
	c->aside = ASIDE_GOES_ON;
	return 0;
}

/* An error is the device's, and comes again with whatever is done next. */
void
context_rewind(struct context *c)
{
	struct err e;

	if (c->forked) {
		context_settle(c);
		if (c->aside != ASIDE_GOES_ON) {
			rewind_cache(c);
			return;
		}
		(void)exchange(c, &e);
		c->forked = false;
	}
	c->aside = ASIDE_NONE;
}

void
context_reset(struct context *c)
{
	context_rewind(c);
	context_rewind(c); /* a fork that waits, too */
	context_settle(c);
	c->last_id = -1;
	c->tokens = c->n_history = c->n_cached = 0;
	context_set_pinned(c, 0);
}
