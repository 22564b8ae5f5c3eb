/* The engine thread: its start and end, its queues, and when what is done; see worker.h. */
#include "daemon/worker_inner.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { REPLY_LINES = 256 }; /* pieces of answers that may wait for the loop */

/* ---- the thread: what it hands back --------------------------------- */

void
worker_publish(struct worker *w)
{
	struct context_info info;

	context_get_info(w->stream->context, &info);
	atomic_store_explicit(&w->position, info.tokens, memory_order_relaxed);
	atomic_store_explicit(&w->evictions, info.evictions, memory_order_relaxed);
	atomic_store_explicit(&w->tokens, pipeline_get_tokens(w->pipeline), memory_order_relaxed);
}

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

/* A record is done: it goes back to the loop. */
static void
give_back(void *arg, struct record *r)
{
	struct worker *w = arg;

	worker_publish(w);
	worker_step(w);
	worker_push(w, w->out, &(struct result){.type = RESULT_RECORD, .record = r});
}

/* An event of very many tokens is half read: asides may be made, and progress can be seen. */
static int
serve_within(void *arg)
{
	struct worker *w = arg;
	int rc;

	worker_publish(w);
	worker_step(w);
	w->within = true;
	rc = worker_serve_next(w, false) < 0 || worker_make_way(w) < 0 ? -1 : 0;
	w->within = false;
	return rc;
}

/* ---- start and end -------------------------------------------------- */

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
	struct pipeline_options pipeline = {.arg = w, .deliver = give_back, .between = serve_within};

	if (w == NULL) {
		err_set(e, EX_OSERR, "out of memory for the engine thread");
		return NULL;
	}
	w->o = *o;
	if ((w->stream = stream_open(&o->stream, e)) == NULL || open_queues(w, e) < 0)
		goto fail;
	pipeline.digest_every = o->digests.every;
	if ((w->pipeline = pipeline_new(w->stream, &pipeline, e)) == NULL)
		goto fail;
	if (o->state != NULL && state_restore(o->state, w->stream, e) < 0)
		goto fail;
	context_get_info(w->stream->context, &w->info);
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
	pipeline_free(w->pipeline);
	stream_close(w->stream);
	free(w);
}

/* ---- the thread: records -------------------------------------------- */

/* Take a record and all that wait behind it, as far as they fit and nothing has to be done between. */
static int
worker_gather(struct worker *w, struct record *first)
{
	struct work next = {.record = first};

	do {
		w->held = next.request;
		if (next.request != NULL)
			break;
		if (pipeline_add(w->pipeline, next.record, &w->failure) < 0)
			return -1;
	} while (pipeline_has_room(w->pipeline) && queue_pop(w->in, &next));
	return 0;
}

/* What stands behind a group: a digest that is due, then a request. */
static int
follow(struct worker *w)
{
	struct request *q = w->held;

	if (pipeline_is_due(w->pipeline) && worker_make_digest(w) < 0)
		return -1;
	w->held = NULL;
	return q != NULL ? worker_serve(w, q, w->out) : 0;
}

/* A group from its first record to its last, and what stands behind it. */
static int
worker_work(struct worker *w, struct work first)
{
	if (first.record == NULL) {
		w->held = first.request;
		if (worker_make_way(w) < 0)
			return -1;
	} else if (worker_gather(w, first.record) < 0 || worker_make_way(w) < 0 ||
	    pipeline_run(w->pipeline, &w->failure) < 0) {
		atomic_store(&w->failed, true);
		pipeline_fail(w->pipeline, w->failure.text);
		return -1;
	}
	return follow(w);
}

static void *
worker_run(void *arg)
{
	struct worker *w = arg;
	struct work first;
	int served = 0;

	atomic_store(&w->busy, true);
	while (!atomic_load(&w->stopping) && (served = worker_serve_next(w, true)) >= 0) {
		if (queue_pop(w->in, &first)) {
			atomic_store(&w->busy, true);
			if (worker_work(w, first) < 0)
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
	int rc = pthread_create(&w->thread, NULL, worker_run, w);

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
