/* The engine thread: its start and end, records, and the way to and from it; see worker.h. */
#include "daemon/worker_inner.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum {
	GROUP_TOKENS = 8192, /* no further event joins a group that has as many, or as many as are computed at once */
	SCRATCH = 8192,      /* tokens that scratch memory may keep between groups */
	REPLY_LINES = 256,   /* pieces of answers that may wait for the loop */
};

/* ---- start and end -------------------------------------------------- */

static int
set_capacity(struct group *g, size_t cap)
{
	int32_t *ids = realloc(g->ids, cap * sizeof *ids);
	float *nll;

	if (ids == NULL)
		return -1;
	g->ids = ids;
	if (cap < g->cap)
		g->cap = cap;
	if ((nll = realloc(g->nll, cap * sizeof *nll)) == NULL)
		return -1;
	g->nll = nll;
	g->cap = cap;
	return 0;
}

void
worker_publish(struct worker *w)
{
	struct context_info info;

	context_get_info(w->stream->context, &info);
	atomic_store_explicit(&w->position, info.tokens, memory_order_relaxed);
	atomic_store_explicit(&w->evictions, info.evictions, memory_order_relaxed);
}

static int
open_queues(struct worker *w, struct err *e)
{
	/*
	 * All that can be on its way fits: a record and the digest behind it, a request's line and its end. So the
	 * thread never waits for who takes the stream's results, and questions are answered though nobody does.
	 */
	size_t lines = 2 * (w->o.records + WORKER_REQUESTS);

	if ((w->in = queue_new(w->o.records + WORKER_REQUESTS, sizeof(struct work), e)) == NULL ||
	    (w->out = queue_new(lines, sizeof(struct result), e)) == NULL ||
	    (w->requests = queue_new(WORKER_REQUESTS, sizeof(struct request *), e)) == NULL ||
	    (w->replies = queue_new(REPLY_LINES, sizeof(struct result), e)) == NULL)
		return -1;
	return 0;
}

struct worker *
worker_new(const struct worker_options *o, struct err *e)
{
	struct worker *w = calloc(1, sizeof *w);

	if (w == NULL || set_capacity(&w->group, SCRATCH) < 0) {
		err_set(e, EX_OSERR, "out of memory for the engine thread");
		goto fail;
	}
	w->o = *o;
	if ((w->stream = stream_open(&o->stream, e)) == NULL || open_queues(w, e) < 0)
		goto fail;
	if (o->state != NULL && state_restore(o->state, w->stream, e) < 0)
		goto fail;
	context_get_info(w->stream->context, &w->info);
	w->group_tokens = w->info.chunk < GROUP_TOKENS ? (size_t)w->info.chunk : GROUP_TOKENS;
	worker_publish(w);
	return w;
fail:
	worker_free(w);
	return NULL;
}

static void
drop_results(struct queue *q)
{
	struct result r;

	while (q != NULL && queue_pop(q, &r))
		result_drop(&r);
	queue_free(q);
}

void
worker_free(struct worker *w)
{
	struct work work;
	struct request *q;

	if (w == NULL)
		return;
	if (w->started) {
		worker_stop(w);
		pthread_join(w->thread, NULL);
	}
	while (w->in != NULL && queue_pop(w->in, &work))
		request_free(work.request);
	while (w->requests != NULL && queue_pop(w->requests, &q))
		request_free(q);
	request_free(w->held);
	request_free(w->next);
	if (w->active.service.q != NULL) {
		reply_free(w->active.answer);
		request_free(w->active.service.q);
	}
	queue_free(w->in);
	queue_free(w->requests);
	drop_results(w->out);
	drop_results(w->replies);
	stream_close(w->stream);
	free(w->group.ids);
	free(w->group.nll);
	free(w);
}

/* ---- the thread: what it hands back --------------------------------- */

void
worker_step(struct worker *w)
{
	atomic_fetch_add_explicit(&w->steps, 1, memory_order_relaxed);
}

void
worker_push(struct worker *w, struct queue *to, struct result *r)
{
	if (!queue_push_wait(to, r, &w->stopping))
		result_drop(r);
}

/* ---- the thread: records -------------------------------------------- */

/* Add a record and its tokens to the group. */
static int
join(struct worker *w, struct record *r)
{
	struct group *g = &w->group;
	const int32_t *ids;
	int64_t n = 0;

	g->records[g->n] = r;
	g->ends[g->n++] = g->tokens;
	if (r->type == RECORD_EVENT && atomic_load(&r->skip))
		r->type = RECORD_SKIPPED;
	if (r->type != RECORD_EVENT || r->text_len == 0)
		return 0;
	if ((n = tokenizer_encode(w->stream->tokenizer, r->text, r->text_len, 0, &ids, &w->failure)) < 0)
		return -1;
	if (g->tokens + (size_t)n > g->cap && set_capacity(g, g->tokens + (size_t)n) < 0)
		return err_set(&w->failure, EX_OSERR, "out of memory for an event of %zu bytes", r->text_len);
	g->events++;
	memcpy(g->ids + g->tokens, ids, (size_t)n * sizeof *ids);
	g->tokens += (size_t)n;
	g->ends[g->n - 1] = g->tokens;
	return 0;
}

/* Will a digest be due after n more events with text? */
static bool
is_due(const struct worker *w, int64_t n)
{
	const struct memory *m = w->stream->memory;

	return w->o.digests.every > 0 && m->count - m->digested + n >= w->o.digests.every;
}

/* Take a record and all that wait behind it, as far as they fit and nothing has to be done between. */
static int
gather(struct worker *w, struct record *first)
{
	struct group *g = &w->group;
	struct work next = {.record = first};

	g->n = g->done = g->tokens = 0;
	g->events = 0;
	do {
		w->held = next.request;
		if (next.request != NULL)
			break;
		if (join(w, next.record) < 0)
			return -1;
	} while (g->n < WORKER_GROUP_RECORDS && g->tokens < w->group_tokens && !is_due(w, g->events) &&
	    queue_pop(w->in, &next));
	return 0;
}

/* Hand back the records whose tokens are among the first n of the group, or, if it failed, all. */
static void
hand_back(struct worker *w, size_t n, bool failed)
{
	struct group *g = &w->group;

	for (; g->done < g->n && (g->ends[g->done] <= n || failed); g->done++) {
		struct record *r = g->records[g->done];
		struct result result = {.type = RESULT_RECORD, .record = r};
		size_t start = g->done == 0 ? 0 : g->ends[g->done - 1];

		if (failed && r->type == RECORD_EVENT)
			record_fail(r, w->failure.text);
		else if (r->type == RECORD_EVENT && r->text_len > 0) {
			score_compute(&r->score, w->stream->tokenizer, r->text, r->text_len, g->ids + start, g->nll + start,
			    g->ends[g->done] - start);
			memory_add(w->stream->memory, r);
		}
		worker_push(w, w->out, &result);
	}
}

/*
 * Mostly one call. An event of very many tokens is fed in pieces, so that those
 * before it and questions need not wait for its end, and progress can be seen.
 */
static int
compute(struct worker *w)
{
	struct group *g = &w->group;

	for (size_t i = 0; i < g->tokens;) {
		size_t n = g->tokens - i < 2 * w->group_tokens ? g->tokens - i : w->group_tokens;

		w->within = i > 0;
		if (i > 0 && (worker_serve_next(w, false) < 0 || worker_make_way(w) < 0))
			return -1;
		if (stream_feed(w->stream, g->ids + i, n, g->nll + i, &w->failure) < 0)
			return -1;
		i += n;
		atomic_fetch_add_explicit(&w->tokens, (long long)n, memory_order_relaxed);
		worker_publish(w);
		worker_step(w);
		hand_back(w, i, false);
	}
	w->within = false;
	hand_back(w, g->tokens, false);
	return 0;
}

/* What stands behind a group: a digest that is due, then a request. */
static int
follow(struct worker *w)
{
	struct request *q = w->held;

	if (is_due(w, 0) && worker_make_digest(w) < 0)
		return -1;
	w->held = NULL;
	return q != NULL ? worker_serve(w, q, w->out) : 0;
}

/* A group from its first record to its last, and what stands behind it. */
static int
work(struct worker *w, struct work first)
{
	int rc;

	if (first.record != NULL) {
		rc = gather(w, first.record) < 0 || worker_make_way(w) < 0 || compute(w) < 0 ? -1 : 0;
		if (rc < 0) {
			atomic_store(&w->failed, true);
			hand_back(w, 0, true);
		}
		if (w->group.cap > SCRATCH)
			set_capacity(&w->group, SCRATCH); /* a failure leaves what was there */
	} else {
		w->held = first.request;
		rc = worker_make_way(w);
	}
	return rc < 0 ? -1 : follow(w);
}

static void *
run(void *arg)
{
	struct worker *w = arg;
	struct work first;
	int served = 0;

	atomic_store(&w->busy, true);
	while (!atomic_load(&w->stopping) && (served = worker_serve_next(w, true)) >= 0) {
		if (queue_pop(w->in, &first)) {
			atomic_store(&w->busy, true);
			if (work(w, first) < 0)
				break;
		} else if (served == 0) {
			atomic_store(&w->busy, false);
			queue_wait(w->in);
			atomic_store(&w->busy, true);
		}
	}
	worker_cut_off(w);
	atomic_store(&w->busy, false);
	atomic_store(&w->ended, true);
	queue_wake(w->out);
	return NULL;
}

/* ---- the loop's side ------------------------------------------------ */

int
worker_start(struct worker *w, struct err *e)
{
	int rc = pthread_create(&w->thread, NULL, run, w);

	if (rc != 0)
		return err_set(e, EX_OSERR, "cannot start the engine thread: %s", strerror(rc));
	w->started = true;
	return 0;
}

void
worker_submit(struct worker *w, struct record *r)
{
	struct work work = {.record = r};
	bool pushed = queue_push(w->in, &work);

	assert(pushed);
	(void)pushed;
}

bool
worker_request(struct worker *w, struct request *q)
{
	if (q->asked == 0)
		q->asked = clock_get_seconds();
	if (!queue_push(w->requests, &q))
		return false;
	queue_wake(w->in); /* where the thread sleeps */
	return true;
}

bool
worker_submit_request(struct worker *w, struct request *q)
{
	struct work work = {.request = q};

	assert(!q->reply.stream); /* one line, see open_queues */
	if (w->ordered == WORKER_REQUESTS)
		return false;
	w->ordered++;
	q->asked = clock_get_seconds();
	return queue_push(w->in, &work);
}

bool
worker_collect(struct worker *w, struct result *r)
{
	if (!queue_pop(w->out, r))
		return false;
	if (r->type == RESULT_DONE)
		w->ordered--;
	return true;
}

int
worker_get_fd(const struct worker *w)
{
	return queue_get_fd(w->out);
}

void
worker_clear(struct worker *w)
{
	queue_clear(w->out);
}

bool
worker_collect_reply(struct worker *w, struct result *r)
{
	return queue_pop(w->replies, r);
}

int
worker_get_reply_fd(const struct worker *w)
{
	return queue_get_fd(w->replies);
}

void
worker_clear_replies(struct worker *w)
{
	queue_clear(w->replies);
}

void
worker_stop(struct worker *w)
{
	atomic_store(&w->stopping, true);
	queue_wake(w->in);
	queue_wake_pusher(w->out);
	queue_wake_pusher(w->replies);
}

bool
worker_has_ended(const struct worker *w, struct err *e)
{
	if (!atomic_load(&w->ended))
		return false;
	*e = w->failure;
	return true;
}

bool
worker_has_failed(const struct worker *w, struct err *e)
{
	if (!atomic_load(&w->failed))
		return false;
	*e = w->failure;
	return true;
}

void
worker_get_counters(const struct worker *w, struct worker_counters *c)
{
	c->tokens = atomic_load_explicit(&w->tokens, memory_order_relaxed);
	c->waiting = queue_get_count(w->in);
	c->requests = queue_get_count(w->requests);
	c->replies = atomic_load_explicit(&w->answers, memory_order_relaxed);
	c->digests = atomic_load_explicit(&w->digests, memory_order_relaxed);
	c->steps = atomic_load_explicit(&w->steps, memory_order_relaxed);
	c->busy = atomic_load(&w->busy);
	c->position = atomic_load_explicit(&w->position, memory_order_relaxed);
	c->evictions = atomic_load_explicit(&w->evictions, memory_order_relaxed);
}

const struct model_info *
worker_get_model(const struct worker *w)
{
	return model_get_info(w->stream->model);
}

const struct context_info *
worker_get_context(const struct worker *w)
{
	return &w->info;
}
