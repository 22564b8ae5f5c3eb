/*
 * What the engine thread does for requests; see worker.h. Answers are made in
 * turns with the records: after each part of an answer the records that wait are
 * computed, and the fork on which it is made waits meanwhile.
 */
#include <assert.h>

#include "base/clock.h"
#include "daemon/worker_inner.h"

enum { TURN_TOKENS = 16 }; /* of an answer, while others wait */

/* ---- lines ---------------------------------------------------------- */

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
	worker_push(w, to, &r);
	return 0;
}

/* The request goes back to the loop, after all of its lines. */
static void
push_done(struct worker *w, struct request *q, struct queue *to, bool failed)
{
	struct result done = {.type = RESULT_DONE, .request = q};

	if (failed)
		atomic_store(&w->failed, true);
	worker_step(w);
	worker_publish(w);
	worker_push(w, to, &done);
}

/* The peer is told; what breaks the engine ends the thread. */
static int
worker_requests_refuse(struct worker_service *v, const struct err *e)
{
	bool broken = stream_is_broken(v->w->stream, e);
	enum fault fault = v->q == NULL || broken ? FAULT_SERVER : fault_of_request(e);
	struct buf line = {0};

	result_write_error(&line, v->w->o.key, v->q, fault, e->text);
	if (push_line(v->w, v->to, v->q, &line) < 0)
		return -1;
	if (broken) {
		v->w->failure = *e;
		return -1;
	}
	return 0;
}

static int
push_reply(struct worker_service *v, const struct reply *r, double waited)
{
	struct buf line = {0};

	atomic_fetch_add_explicit(&v->w->answers, 1, memory_order_relaxed);
	result_write_reply(&line, v->w->o.key, v->q, r, waited);
	return push_line(v->w, v->to, v->q, &line) < 0 || v->failed ? -1 : 0;
}

/* The line of a digest on schedule is the stream's, not the request's. */
static int
push_digest(struct worker_service *v, const struct digest *d, bool scheduled)
{
	struct request *q = scheduled ? NULL : v->q;
	struct buf line = {0};

	atomic_fetch_add_explicit(&v->w->digests, 1, memory_order_relaxed);
	result_begin(&line, v->w->o.key, q, "digest");
	digest_write(&line, v->w->stream, d);
	return push_line(v->w, v->to, q, &line);
}

/* ---- hooks of answers ----------------------------------------------- */

static void
on_piece(void *arg, const char *text, size_t len)
{
	struct worker_service *v = arg;
	struct buf line = {0};

	result_write_delta(&line, v->w->o.key, v->q, text, len);
	v->failed |= push_line(v->w, v->to, v->q, &line) < 0;
}

static bool
is_cancelled(void *arg)
{
	struct worker_service *v = arg;

	return v->failed || (v->q != NULL && atomic_load(&v->q->cancelled)) || atomic_load(&v->w->stopping);
}

static void
on_progress(void *arg, size_t tokens)
{
	struct worker_service *v = arg;

	v->w->active.tokens += tokens;
	worker_step(v->w);
}

/* Others wait, and the answer has had its turn. */
static bool
must_pause(void *arg)
{
	const struct worker *w = ((struct worker_service *)arg)->w;

	return w->active.tokens >= TURN_TOKENS &&
	    (w->within || queue_get_count(w->in) > 0 || queue_get_count(w->requests) > 0);
}

static struct reply_hooks
get_hooks(struct worker_service *v)
{
	bool pieces = v->q != NULL && v->q->op == REQUEST_ASK && v->q->reply.stream;

	return (struct reply_hooks){v, pieces ? on_piece : NULL, is_cancelled, on_progress, must_pause};
}

/* ---- served at once ------------------------------------------------- */

static int
answer(struct worker_service *v)
{
	struct reply_hooks hooks = get_hooks(v);
	double waited = clock_get_seconds() - v->q->asked;
	struct reply r;
	struct err e = {0};
	int rc;

	if (reply_make(v->w->stream, v->q->text, v->q->text_len, &v->q->reply, &hooks, &r, &e) < 0)
		rc = worker_requests_refuse(v, &e);
	else
		rc = push_reply(v, &r, waited);
	buf_fini(&r.text);
	return rc;
}

/* Without one of its digests the stream would be another one: the thread ends, and after a restart it is made. */
static int
fail_digest(struct worker_service *v, bool scheduled, const struct err *e)
{
	if (!scheduled || e->code != EX_OSERR)
		return worker_requests_refuse(v, e);
	v->w->failure = *e;
	return -1;
}

static int
digest(struct worker_service *v, const struct digest_options *o)
{
	struct reply_hooks hooks = get_hooks(v);
	struct worker *w = v->w;
	struct digest d;
	struct err e = {0};
	int rc;

	if (digest_make(w->stream, o, &hooks, &d, &e) < 0 ||
	    (o->scheduled && w->o.digests.rolling && d.events > 0 && digest_pin(w->stream, &d, &e) < 0))
		rc = fail_digest(v, o->scheduled, &e);
	else
		rc = o->scheduled && d.events == 0 ? 0 : push_digest(v, &d, o->scheduled);
	digest_fini(&d);
	return rc;
}

int
worker_make_digest(struct worker *w)
{
	struct worker_service v = {.w = w, .to = w->out};
	struct digest_options o = w->o.digests.options;

	o.scheduled = true;
	return digest(&v, &o);
}

int
worker_serve(struct worker *w, struct request *q, struct queue *to)
{
	struct worker_service v = {.w = w, .q = q, .to = to};
	int rc = 0;

	q->failure = (struct err){0};
	switch (q->op) {
	case REQUEST_ASK:
		rc = answer(&v);
		break;
	case REQUEST_DIGEST:
		rc = digest(&v, &q->digest);
		break;
	case REQUEST_CHECKPOINT:
		assert(w->o.folder != NULL);
		state_write(w->o.folder, w->stream, q->blob, q->blob_len, &q->bytes, &q->failure);
		break;
	case REQUEST_HASH:
		state_hash(w->stream, &q->hash, &q->failure);
		break;
	}
	if (stream_is_broken(w->stream, &q->failure)) {
		w->failure = q->failure;
		rc = -1;
	}
	push_done(w, q, to, rc < 0);
	return rc;
}

/* ---- in turns with the records -------------------------------------- */

static bool
is_active(const struct worker *w)
{
	return w->active.service.q != NULL;
}

/* The answer is made, or given up. */
static void
end_active(struct worker *w, bool failed)
{
	struct request *q = w->active.service.q;
	struct queue *to = w->active.service.to;

	reply_free(w->active.answer);
	digest_fini(&w->active.digest);
	w->active = (struct worker_active){0};
	push_done(w, q, to, failed);
}

static int
fail_active(struct worker *w, const struct err *e)
{
	int rc = worker_requests_refuse(&w->active.service, e);

	end_active(w, rc < 0);
	return rc;
}

/* Begin an answer, or a digest, which may be done at once. */
static int
begin_active(struct worker *w, struct request *q)
{
	struct worker_active *a = &w->active;
	struct reply_hooks hooks;
	struct err e = {0};
	int rc;

	*a = (struct worker_active){.service = {.w = w, .q = q, .to = w->replies}};
	hooks = get_hooks(&a->service);
	a->waited = clock_get_seconds() - q->asked;
	if (q->op == REQUEST_ASK)
		a->answer = reply_begin(w->stream, q->text, q->text_len, &q->reply, &hooks, &e);
	else if (digest_begin(w->stream, &q->digest, &a->digest, &e) == 0 && !digest_is_written(&a->digest)) {
		rc = push_digest(&a->service, &a->digest, false);
		end_active(w, rc < 0);
		return rc;
	} else if (e.code == 0)
		a->answer = digest_begin_text(w->stream, &q->digest, &a->digest, &hooks, &e);
	return a->answer == NULL ? fail_active(w, &e) : 0;
}

/* The answer is made: its line, and what it is in the stream. */
static int
finish_active(struct worker *w)
{
	struct worker_active *a = &w->active;
	struct reply r = {0};
	struct err e = {0};
	int rc;

	if (reply_end(a->answer, &r, &e) < 0)
		rc = worker_requests_refuse(&a->service, &e);
	else if (a->service.q->op == REQUEST_ASK)
		rc = push_reply(&a->service, &r, a->waited);
	else {
		a->digest.reply = r;
		r.text = (struct buf){0};
		rc = push_digest(&a->service, &a->digest, false);
	}
	buf_fini(&r.text);
	end_active(w, rc < 0);
	return rc;
}

static int
worker_requests_go_on(struct worker *w)
{
	struct err e = {0};
	int rc = reply_go_on(w->active.answer, &e);

	if (rc < 0)
		return fail_active(w, &e);
	return rc > 0 ? finish_active(w) : 0;
}

int
worker_make_way(struct worker *w)
{
	struct err e = {0};

	if (!is_active(w))
		return 0;
	w->active.tokens = 0;
	return reply_make_way(w->active.answer, &e) < 0 ? fail_active(w, &e) : 0;
}

static int
serve_short(struct worker *w, struct request *q)
{
	return worker_make_way(w) < 0 ? -1 : worker_serve(w, q, w->replies);
}

/* An aside may come within an event of very many tokens; what changes or saves the stream comes between events. */
int
worker_serve_next(struct worker *w, bool between)
{
	struct request *q = w->next;
	bool active = is_active(w), is_long;

	if (q == NULL && queue_pop(w->requests, &w->next))
		q = w->next;
	is_long = q != NULL && (q->op == REQUEST_ASK || q->op == REQUEST_DIGEST);
	if (q != NULL && !is_long && between) {
		w->next = NULL;
		return serve_short(w, q) < 0 ? -1 : 1;
	}
	if (!active && is_long && (between || q->op == REQUEST_ASK)) {
		w->next = NULL;
		if (begin_active(w, q) < 0)
			return -1;
		if (!is_active(w))
			return 1;
		active = true;
	}
	if (!active || (!between && w->active.service.q->reply.join))
		return 0;
	return worker_requests_go_on(w) < 0 ? -1 : 1;
}

void
worker_cut_off(struct worker *w)
{
	if (is_active(w) && w->failure.code == 0)
		(void)worker_requests_go_on(w);
}
