/* The engine thread; see worker.h. */
#include "daemon/worker.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "daemon/queue.h"

enum {
	GROUP_TOKENS = 8192,  /* no further event joins a group that has as many, or as many as are computed at once */
	GROUP_RECORDS = 1024,
	SCRATCH = 8192,       /* tokens that scratch memory may keep between groups */
	REPLY_LINES = 256,    /* pieces of answers that may wait for the loop */
};

/* What waits in the order of the stream: one of the two. */
struct work {
	struct record *record;
	struct request *request;
};

struct group {
	struct record *records[GROUP_RECORDS];
	size_t ends[GROUP_RECORDS]; /* of each record's tokens, in ids */
	size_t n, done;                 /* records gathered, and of these handed back */
	size_t tokens;
	int64_t events;                 /* with text */
	int32_t *ids; /* [cap] */
	float *nll;   /* [cap] */
	size_t cap;
};

struct worker {
	struct worker_options o;
	struct stream *stream;
	struct context_info info; /* at the start */
	struct queue *in, *out;           /* of struct work, of struct result: the order of the stream */
	struct queue *requests, *replies; /* of struct request *, of struct result */
	struct group group;
	size_t group_tokens;
	struct request *held;     /* taken from `in`: to be served after the group */
	struct request *next;     /* taken from `requests`, not served yet */
	pthread_t thread;
	bool started;
	size_t ordered;           /* the loop's: requests submitted in order and not collected */
	struct err failure;       /* written before failed and ended */
	atomic_bool stopping, failed, ended, busy;
	atomic_llong tokens, answers, digests, steps, position, evictions;
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

/* For the loop, which must not look into the context. */
static void
publish(struct worker *w)
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
	publish(w);
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

static void
step(struct worker *w)
{
	atomic_fetch_add_explicit(&w->steps, 1, memory_order_relaxed);
}

/* Waits for room. A result that nobody will take any more, because the thread is to end, is dropped. */
static void
push(struct worker *w, struct queue *to, struct result *r)
{
	if (!queue_push_wait(to, r, &w->stopping))
		result_drop(r);
}

/* The line in buf goes out, and buf is empty afterwards. */
static int
push_line(struct worker *w, struct queue *to, struct request *q, struct buf *line)
{
	struct result r = {.type = RESULT_LINE, .request = q, .line = line->data, .len = line->len};

	if (line->failed) {
		buf_fini(line);
		return err_set(&w->failure, EX_OSERR, "out of memory for a line of output");
	}
	*line = (struct buf){0};
	push(w, to, &r);
	return 0;
}

/* ---- the thread: requests ------------------------------------------- */

/* A request being served, and where its lines go. */
struct service {
	struct worker *w;
	struct request *q; /* NULL: a digest that is due */
	struct queue *to;
	bool failed; /* w->failure says why */
};

static void
on_piece(void *arg, const char *text, size_t len)
{
	struct service *v = arg;
	struct buf line = {0};

	result_write_delta(&line, v->w->o.key, v->q, text, len);
	v->failed |= push_line(v->w, v->to, v->q, &line) < 0;
}

static bool
on_ask_cancelled(void *arg)
{
	struct service *v = arg;

	return v->failed || (v->q != NULL && atomic_load(&v->q->cancelled)) || atomic_load(&v->w->stopping);
}

static void
on_progress(void *arg)
{
	struct service *v = arg;

	step(v->w);
}

/* The peer is told; what breaks the engine ends the thread. */
static int
refuse(struct service *v, const struct err *e)
{
	bool broken = e->code == EX_TEMPFAIL || context_is_broken(v->w->stream->context);
	bool theirs = v->q != NULL && !broken && (e->code == EX_DATAERR || e->code == EX_USAGE);
	struct buf line = {0};

	result_write_error(&line, v->w->o.key, v->q, theirs ? "request" : "server", e->text);
	if (push_line(v->w, v->to, v->q, &line) < 0)
		return -1;
	if (broken) {
		v->w->failure = *e;
		return -1;
	}
	return 0;
}

static int
answer(struct service *v)
{
	struct reply_hooks hooks = {v, v->q->reply.stream ? on_piece : NULL, on_ask_cancelled, on_progress};
	double waited = clock_get_seconds() - v->q->asked;
	struct buf line = {0};
	struct reply r;
	struct err e = {0};
	int rc;

	if (reply_make(v->w->stream, v->q->text, v->q->text_len, &v->q->reply, &hooks, &r, &e) < 0)
		rc = refuse(v, &e);
	else {
		atomic_fetch_add_explicit(&v->w->answers, 1, memory_order_relaxed);
		result_write_reply(&line, v->w->o.key, v->q, &r, waited);
		rc = push_line(v->w, v->to, v->q, &line);
	}
	buf_fini(&r.text);
	return v->failed ? -1 : rc;
}

/* Without one of its digests the stream would be another one: the thread ends, and after a restart it is made. */
static int
fail_digest(struct service *v, bool scheduled, const struct err *e)
{
	if (!scheduled || e->code != EX_OSERR)
		return refuse(v, e);
	v->w->failure = *e;
	return -1;
}

/* Nobody asked for a digest on schedule: its line is the stream's. */
static int
digest(struct service *v, const struct digest_options *o)
{
	struct reply_hooks hooks = {v, NULL, on_ask_cancelled, on_progress};
	struct worker *w = v->w;
	struct request *q = o->scheduled ? NULL : v->q;
	struct buf line = {0};
	struct digest d;
	struct err e = {0};
	int rc;

	if (digest_make(w->stream, o, &hooks, &d, &e) < 0 ||
	    (o->scheduled && w->o.digests.rolling && d.events > 0 && digest_pin(w->stream, &d, &e) < 0))
		rc = fail_digest(v, o->scheduled, &e);
	else if (o->scheduled && d.events == 0)
		rc = 0;
	else {
		atomic_fetch_add_explicit(&w->digests, 1, memory_order_relaxed);
		result_begin(&line, w->o.key, q, "digest");
		digest_write(&line, w->stream, &d);
		rc = push_line(w, v->to, q, &line);
	}
	digest_fini(&d);
	return rc;
}

/* The work stands still, as it would if a device did not come back. */
static int
stall(struct service *v)
{
	while (!on_ask_cancelled(v))
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	return 0;
}

/* From the engine thread's hands into the loop's. */
static int
serve(struct worker *w, struct request *q, struct queue *to)
{
	struct service v = {.w = w, .q = q, .to = to};
	struct result done = {.type = RESULT_DONE, .request = q};
	int rc = 0;

	switch (q->op) {
	case REQUEST_ASK:
		rc = answer(&v);
		break;
	case REQUEST_DIGEST:
		rc = digest(&v, &q->digest);
		break;
	case REQUEST_CHECKPOINT:
		q->failure = (struct err){0};
		assert(w->o.folder != NULL);
		state_write(w->o.folder, w->stream, q->blob, q->blob_len, &q->bytes, &q->failure);
		break;
	case REQUEST_HASH:
		q->failure = (struct err){0};
		state_hash(w->stream, &q->hash, &q->failure);
		break;
	case REQUEST_STALL:
		rc = stall(&v);
		break;
	}
	if (q->failure.code != 0 && context_is_broken(w->stream->context)) {
		w->failure = q->failure;
		rc = -1;
	}
	if (rc < 0)
		atomic_store(&w->failed, true);
	step(w);
	publish(w);
	push(w, to, &done);
	return rc;
}

/*
 * One of the requests that may be served at any time. An aside may come within
 * an event of very many tokens; what changes the stream comes between events.
 * Returns 1, 0 if there is none, or -1.
 */
static int
serve_next(struct worker *w, bool between)
{
	struct request *q;

	if (w->next == NULL && !queue_pop(w->requests, &w->next))
		return 0;
	q = w->next;
	if (!between && (q->op != REQUEST_ASK || q->reply.join))
		return 0;
	w->next = NULL;
	return serve(w, q, w->replies) < 0 ? -1 : 1;
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
	} while (g->n < GROUP_RECORDS && g->tokens < w->group_tokens && !is_due(w, g->events) &&
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
		push(w, w->out, &result);
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

		if (i > 0 && serve_next(w, false) < 0)
			return -1;
		if (stream_feed(w->stream, g->ids + i, n, g->nll + i, &w->failure) < 0)
			return -1;
		i += n;
		atomic_fetch_add_explicit(&w->tokens, (long long)n, memory_order_relaxed);
		publish(w);
		step(w);
		hand_back(w, i, false);
	}
	hand_back(w, g->tokens, false);
	return 0;
}

/* What stands behind a group: a digest that is due, then a request. */
static int
follow(struct worker *w)
{
	struct service v = {.w = w, .to = w->out};
	struct digest_options o = w->o.digests.options;
	struct request *q = w->held;

	o.scheduled = true;
	if (is_due(w, 0) && digest(&v, &o) < 0)
		return -1;
	w->held = NULL;
	return q != NULL ? serve(w, q, w->out) : 0;
}

/* A group from its first record to its last, and what stands behind it. */
static int
work(struct worker *w, struct work first)
{
	int rc = 0;

	if (first.record != NULL) {
		rc = gather(w, first.record) < 0 || compute(w) < 0 ? -1 : 0;
		if (rc < 0) {
			atomic_store(&w->failed, true);
			hand_back(w, 0, true);
		}
		if (w->group.cap > SCRATCH)
			set_capacity(&w->group, SCRATCH); /* a failure leaves what was there */
	} else
		w->held = first.request;
	return rc < 0 ? -1 : follow(w);
}

static void *
run(void *arg)
{
	struct worker *w = arg;
	struct work first;
	int served = 0;

	atomic_store(&w->busy, true);
	while (!atomic_load(&w->stopping) && (served = serve_next(w, true)) >= 0) {
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
