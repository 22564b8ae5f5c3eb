/* The engine thread; see worker.h. */
#include "daemon/worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/queue.h"

enum {
	GROUP_TOKENS = 512,   /* no further event joins a group that has as many */
	GROUP_RECORDS = 256,
	SCRATCH = 8192,       /* tokens that scratch memory may keep between groups */
	PIN_MAX = 16 << 20,   /* bytes of a pinned text */
};

struct group {
	struct record *records[GROUP_RECORDS];
	size_t ends[GROUP_RECORDS]; /* of each record's tokens, in ids */
	size_t n, done;                 /* records gathered, and of these handed back */
	size_t tokens;
	int32_t *ids; /* [cap] */
	float *nll;   /* [cap] */
	size_t cap;
};

struct worker {
	struct model *model;
	struct tokenizer *tokenizer;
	struct context *context;
	struct queue *in, *out;
	struct group group;
	pthread_t thread;
	bool started;
	struct err failure;  /* written before ended */
	atomic_bool stopping, ended;
	atomic_llong tokens;
};

/* ---- start ---------------------------------------------------------- */

static int
read_pin(const char *path, char **text, size_t *len, struct err *e)
{
	FILE *f = fopen(path, "re");
	int rc = 0;

	if (f == NULL)
		return err_set(e, EX_NOINPUT, "cannot open the text to pin, %s: %s", path, strerror(errno));
	if ((*text = malloc(PIN_MAX + 1)) == NULL)
		rc = err_set(e, EX_OSERR, "out of memory for %s", path);
	else {
		*len = fread(*text, 1, PIN_MAX + 1, f);
		if (ferror(f))
			rc = err_set(e, EX_NOINPUT, "cannot read the text to pin, %s: %s", path, strerror(errno));
		else if (*len > PIN_MAX)
			rc = err_set(e, EX_DATAERR, "the text to pin, %s, is larger than %d bytes", path, PIN_MAX);
	}
	fclose(f);
	return rc;
}

/*
 * What the stream begins with: BOS, where the model asks for one, and the
 * pinned text. The operator wrote it, so special tokens in it are such.
 * *ids is the caller's to free.
 */
static int
encode_prefix(struct worker *w, const char *pin, int32_t **ids, size_t *n, struct err *e)
{
	const struct model_info *info = model_get_info(w->model);
	const int32_t *tokens = NULL;
	char *text = NULL;
	size_t len = 0;
	int64_t count = 0;
	int rc = -1;

	*n = 0;
	if (pin != NULL && read_pin(pin, &text, &len, e) < 0)
		goto out;
	if (len > 0 && (count = tokenizer_encode(w->tokenizer, text, len, TOKENIZER_PARSE_SPECIAL, &tokens, e)) < 0)
		goto out;
	if ((*ids = malloc(((size_t)count + 1) * sizeof **ids)) == NULL) {
		err_set(e, EX_OSERR, "out of memory for the start of the stream");
		goto out;
	}
	if (info->add_bos && info->bos >= 0)
		(*ids)[(*n)++] = info->bos;
	if (count > 0)
		memcpy(*ids + *n, tokens, (size_t)count * sizeof **ids);
	*n += (size_t)count;
	rc = 0;
out:
	free(text);
	return rc;
}

static int
open_context(struct worker *w, const struct worker_options *o, struct err *e)
{
	struct context_options c = o->context;
	int32_t *ids = NULL, n_ctx = model_get_info(w->model)->n_ctx_train;
	size_t n;
	int rc = -1;

	if (encode_prefix(w, o->pin, &ids, &n, e) < 0)
		goto out;
	if (o->pin != NULL && (size_t)c.sinks < n && c.policy == POLICY_SINK)
		c.sinks = (int32_t)n;
	if (c.policy != POLICY_SINK)
		c.sinks = 0;
	if (n_ctx > 0 && c.sinks >= n_ctx) {
		err_set(e, EX_USAGE, "%d sinks are too many: the model was trained with a context of %d tokens",
		    c.sinks, n_ctx);
		goto out;
	}
	if ((w->context = context_new(w->model, &c, e)) == NULL)
		goto out;
	if (n > 0 && context_feed(w->context, ids, n, NULL, e) < 0)
		goto out;
	rc = 0;
out:
	free(ids);
	return rc;
}

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

struct worker *
worker_new(const struct worker_options *o, struct err *e)
{
	struct worker *w = calloc(1, sizeof *w);

	if (w == NULL || set_capacity(&w->group, SCRATCH) < 0) {
		err_set(e, EX_OSERR, "out of memory for the engine thread");
		goto fail;
	}
	if ((w->model = model_open(o->model, 0, e)) == NULL ||
	    (w->tokenizer = tokenizer_new(w->model, e)) == NULL ||
	    open_context(w, o, e) < 0 ||
	    (w->in = queue_new(o->records, e)) == NULL ||
	    (w->out = queue_new(o->records, e)) == NULL)
		goto fail;
	return w;
fail:
	worker_free(w);
	return NULL;
}

void
worker_free(struct worker *w)
{
	if (w == NULL)
		return;
	if (w->started) {
		worker_stop(w);
		pthread_join(w->thread, NULL);
	}
	queue_free(w->out);
	queue_free(w->in);
	context_free(w->context);
	tokenizer_free(w->tokenizer);
	model_close(w->model);
	free(w->group.ids);
	free(w->group.nll);
	free(w);
}

/* ---- the thread ----------------------------------------------------- */

/* Add a record and its tokens to the group. */
static int
join(struct worker *w, struct record *r)
{
	struct group *g = &w->group;
	const int32_t *ids;
	int64_t n = 0;

	g->records[g->n] = r;
	g->ends[g->n++] = g->tokens;
	if (r->type != RECORD_EVENT || r->text_len == 0)
		return 0;
	if ((n = tokenizer_encode(w->tokenizer, r->text, r->text_len, 0, &ids, &w->failure)) < 0)
		return -1;
	if (g->tokens + (size_t)n > g->cap && set_capacity(g, g->tokens + (size_t)n) < 0)
		return err_set(&w->failure, EX_OSERR, "out of memory for an event of %zu bytes", r->text_len);
	memcpy(g->ids + g->tokens, ids, (size_t)n * sizeof *ids);
	g->tokens += (size_t)n;
	g->ends[g->n - 1] = g->tokens;
	return 0;
}

/* Take a record and all that wait behind it, as far as they fit. */
static int
gather(struct worker *w, struct record *first)
{
	struct group *g = &w->group;

	g->n = g->done = g->tokens = 0;
	for (struct record *r = first; r != NULL; r = queue_pop(w->in)) {
		if (join(w, r) < 0)
			return -1;
		if (g->n == GROUP_RECORDS || g->tokens >= GROUP_TOKENS)
			break;
	}
	return 0;
}

/* Hand back the records whose tokens are among the first n of the group, or, if it failed, all. */
static void
hand_back(struct worker *w, size_t n, bool failed)
{
	struct group *g = &w->group;

	for (; g->done < g->n && (g->ends[g->done] <= n || failed); g->done++) {
		struct record *r = g->records[g->done];
		size_t start = g->done == 0 ? 0 : g->ends[g->done - 1];
		bool pushed;

		if (failed && r->type == RECORD_EVENT)
			record_fail(r, w->failure.text);
		else if (r->type == RECORD_EVENT && r->text_len > 0)
			score_compute(&r->score, w->tokenizer, r->text, r->text_len, g->ids + start, g->nll + start,
			    g->ends[g->done] - start);
		pushed = queue_push(w->out, r);
		assert(pushed);
		(void)pushed;
	}
}

/*
 * Mostly one call. An event of very many tokens is fed in pieces, so that those
 * before it need not wait for its end, and progress can be seen.
 */
static int
compute(struct worker *w)
{
	struct group *g = &w->group;

	for (size_t i = 0; i < g->tokens;) {
		size_t n = g->tokens - i < 2 * GROUP_TOKENS ? g->tokens - i : GROUP_TOKENS;

		if (context_feed(w->context, g->ids + i, n, g->nll + i, &w->failure) < 0)
			return -1;
		i += n;
		atomic_fetch_add_explicit(&w->tokens, (long long)n, memory_order_relaxed);
		hand_back(w, i, false);
	}
	hand_back(w, g->tokens, false);
	return 0;
}

/* A group from its first record to its last. */
static int
work(struct worker *w, struct record *first)
{
	int rc = gather(w, first) < 0 || compute(w) < 0 ? -1 : 0;

	if (rc < 0)
		hand_back(w, 0, true);
	if (w->group.cap > SCRATCH)
		set_capacity(&w->group, SCRATCH); /* a failure leaves what was there */
	return rc;
}

static void *
run(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&w->stopping)) {
		struct record *first = queue_pop(w->in);

		if (first == NULL)
			queue_wait(w->in);
		else if (work(w, first) < 0)
			break;
	}
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
	bool pushed = queue_push(w->in, r);

	assert(pushed);
	(void)pushed;
}

struct record *
worker_collect(struct worker *w)
{
	return queue_pop(w->out);
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

void
worker_stop(struct worker *w)
{
	atomic_store(&w->stopping, true);
	queue_wake(w->in);
}

bool
worker_has_ended(const struct worker *w, struct err *e)
{
	if (!atomic_load(&w->ended))
		return false;
	*e = w->failure;
	return true;
}

void
worker_get_counters(const struct worker *w, struct worker_counters *c)
{
	c->tokens = atomic_load_explicit(&w->tokens, memory_order_relaxed);
	c->waiting = queue_get_count(w->in);
}
