/* The way of an event; see pipeline.h. */
#include "stream/pipeline.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "stream/stage.h"

enum {
	GROUP_RECORDS = 1024,
	GROUP_TOKENS = 8192, /* a group that has as many, or as many as are computed at once, takes no further record */
	SCRATCH = 8192,      /* tokens that scratch memory may keep between groups */
};

struct pipeline {
	struct pipeline_options o;
	struct stream *s;
	size_t part;                   /* tokens computed at once */
	int64_t read;                  /* tokens, of all events so far */
	struct record *records[GROUP_RECORDS];
	size_t ends[GROUP_RECORDS];    /* of each record's tokens, in ids */
	size_t n, done;                /* records in the group, and of these delivered */
	size_t tokens;
	int64_t events;                /* with text */
	int32_t *ids;                  /* [cap] */
	float *nll;                    /* [cap] */
	size_t cap;
};

/* A failure leaves what was there. */
static int
set_token_room(struct pipeline *p, size_t cap)
{
	int32_t *ids = realloc(p->ids, cap * sizeof *ids);
	float *nll;

	if (ids == NULL)
		return -1;
	p->ids = ids;
	if (cap < p->cap)
		p->cap = cap;
	if ((nll = realloc(p->nll, cap * sizeof *nll)) == NULL)
		return -1;
	p->nll = nll;
	p->cap = cap;
	return 0;
}

struct pipeline *
pipeline_new(struct stream *s, const struct pipeline_options *o, struct err *e)
{
	struct pipeline *p = calloc(1, sizeof *p);
	struct context_info info;

	if (p == NULL || set_token_room(p, SCRATCH) < 0) {
		err_set(e, EX_OSERR, "out of memory for a group of events");
		pipeline_free(p);
		return NULL;
	}
	context_get_info(s->context, &info);
	p->part = info.chunk < GROUP_TOKENS ? (size_t)info.chunk : GROUP_TOKENS;
	p->o = *o;
	p->s = s;
	return p;
}

void
pipeline_free(struct pipeline *p)
{
	if (p == NULL)
		return;
	free(p->ids);
	free(p->nll);
	free(p);
}

int
pipeline_add(struct pipeline *p, struct record *r, struct err *e)
{
	const int32_t *ids;
	int64_t n;

	assert(p->n < GROUP_RECORDS);
	p->records[p->n] = r;
	p->ends[p->n++] = p->tokens;
	if (r->type == RECORD_EVENT)
		stages_before(p->s->stages, r);
	if (r->type != RECORD_EVENT || r->text_len == 0)
		return 0;
	if ((n = tokenizer_encode(p->s->tokenizer, r->text, r->text_len, 0, &ids, e)) < 0)
		return -1;
	if (p->tokens + (size_t)n > p->cap && set_token_room(p, p->tokens + (size_t)n) < 0)
		return err_set(e, EX_OSERR, "out of memory for an event of %zu bytes", r->text_len);
	p->events++;
	memcpy(p->ids + p->tokens, ids, (size_t)n * sizeof *ids);
	p->tokens += (size_t)n;
	p->ends[p->n - 1] = p->tokens;
	return 0;
}

/* Will a digest be due after n more events with text? */
static bool
is_due_after(const struct pipeline *p, int64_t n)
{
	const struct memory *m = p->s->memory;

	return p->o.digest_every > 0 && m->count - m->digested + n >= p->o.digest_every;
}

bool
pipeline_is_due(const struct pipeline *p)
{
	return is_due_after(p, 0);
}

bool
pipeline_has_room(const struct pipeline *p)
{
	return p->n < GROUP_RECORDS && p->tokens < p->part && !is_due_after(p, p->events);
}

/* Deliver the records whose tokens are among the first n of the group. */
static void
deliver(struct pipeline *p, size_t n)
{
	for (; p->done < p->n && p->ends[p->done] <= n; p->done++) {
		struct record *r = p->records[p->done];
		size_t start = p->done == 0 ? 0 : p->ends[p->done - 1];

		if (r->type == RECORD_EVENT && r->text_len > 0)
			stages_after(p->s->stages, &(struct stage_event){.record = r, .tokenizer = p->s->tokenizer,
			    .ids = p->ids + start, .nll = p->nll + start, .n = p->ends[p->done] - start});
		p->o.deliver(p->o.arg, r);
	}
}

static void
end_group(struct pipeline *p)
{
	p->n = p->done = p->tokens = 0;
	p->events = 0;
	if (p->cap > SCRATCH)
		set_token_room(p, SCRATCH);
}

/*
 * Mostly one call of the model. An event of very many tokens is read part by part, so that the records before it, and
 * the caller's other work, need not wait for its end.
 */
int
pipeline_run(struct pipeline *p, struct err *e)
{
	for (size_t i = 0; i < p->tokens;) {
		size_t n = p->tokens - i < 2 * p->part ? p->tokens - i : p->part;

		if (i > 0 && p->o.between != NULL && p->o.between(p->o.arg) < 0)
			return -1;
		if (stream_feed(p->s, p->ids + i, n, p->nll + i, e) < 0)
			return -1;
		i += n;
		p->read += (int64_t)n;
		deliver(p, i);
	}
	deliver(p, p->tokens);
	end_group(p);
	return 0;
}

void
pipeline_fail(struct pipeline *p, const char *reason)
{
	for (; p->done < p->n; p->done++) {
		if (p->records[p->done]->type == RECORD_EVENT)
			record_fail(p->records[p->done], reason);
		p->o.deliver(p->o.arg, p->records[p->done]);
	}
	end_group(p);
}

int64_t
pipeline_get_tokens(const struct pipeline *p)
{
	return p->read;
}
