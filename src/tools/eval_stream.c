/* A stream of text with asides; see eval_stream.h. */
#include "tools/eval_stream.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct eval_stream {
	struct model *m;
	struct tokenizer *t;
	struct context *c;
	float *logits;
	int32_t n_vocab;

	/* Only for the policy recompute: all tokens, and how many of them the context has read; -1: others. */
	bool lazy;
	int64_t window;
	int32_t *ids;
	int64_t n, room, fork_n, n_read;
};

struct eval_stream *
eval_stream_new(struct model *m, const struct eval_context *o, int32_t fork_tokens, struct err *e)
{
	struct eval_stream *s = calloc(1, sizeof *s);

	if (s == NULL) {
		err_set(e, EX_OSERR, "out of memory");
		return NULL;
	}
	s->m = m;
	s->n_vocab = model_get_info(m)->n_vocab;
	s->lazy = o->policy == POLICY_RECOMPUTE;
	s->window = o->window;
	s->logits = malloc((size_t)s->n_vocab * sizeof *s->logits);
	if (s->logits == NULL)
		err_set(e, EX_OSERR, "out of memory for logits");
	if (s->logits == NULL || (s->t = tokenizer_new(m, e)) == NULL ||
	    (s->c = eval_new_context(m, o, fork_tokens, e)) == NULL || eval_stream_reset(s, e) < 0) {
		eval_stream_free(s);
		return NULL;
	}
	return s;
}

void
eval_stream_free(struct eval_stream *s)
{
	if (s == NULL)
		return;
	context_free(s->c);
	tokenizer_free(s->t);
	free(s->logits);
	free(s->ids);
	free(s);
}

int
eval_stream_reset(struct eval_stream *s, struct err *e)
{
	const struct model_info *info = model_get_info(s->m);

	context_reset(s->c);
	s->n = s->n_read = 0;
	return info->add_bos ? eval_stream_add(s, &info->bos, 1, e) : 0;
}

struct context *
eval_stream_get_context(struct eval_stream *s)
{
	return s->c;
}

struct tokenizer *
eval_stream_get_tokenizer(struct eval_stream *s)
{
	return s->t;
}

int64_t
eval_stream_count(const struct eval_stream *s)
{
	struct context_info ci;

	if (s->lazy)
		return s->n;
	context_get_info(s->c, &ci);
	return ci.tokens;
}

static int
remember(struct eval_stream *s, const int32_t *ids, int64_t n, struct err *e)
{
	if (s->n + n > s->room) {
		int64_t room = 2 * (s->n + n);
		int32_t *more = realloc(s->ids, (size_t)room * sizeof *more);

		if (more == NULL)
			return err_set(e, EX_OSERR, "out of memory for %lld tokens", (long long)room);
		s->ids = more;
		s->room = room;
	}
	memcpy(s->ids + s->n, ids, (size_t)n * sizeof *ids);
	s->n += n;
	return 0;
}

int
eval_stream_add(struct eval_stream *s, const int32_t *ids, int64_t n, struct err *e)
{
	return s->lazy ? remember(s, ids, n, e) : context_feed(s->c, ids, (size_t)n, NULL, e);
}

int64_t
eval_stream_add_text(struct eval_stream *s, const char *text, size_t len, unsigned flags, struct err *e)
{
	const int32_t *ids;
	int64_t n = tokenizer_encode(s->t, text, len, flags, &ids, e);

	return n < 0 || eval_stream_add(s, ids, n, e) < 0 ? -1 : n;
}

/* Recompute: what was added is read: as a continuation while nothing has left the window, afresh afterwards. */
static int
catch_up(struct eval_stream *s, struct err *e)
{
	int64_t from = s->n_read;

	if (!s->lazy || s->n_read == s->n)
		return 0;
	if (s->n > s->window || s->n_read < 0) {
		context_reset(s->c);
		from = s->n > s->window ? s->n - s->window : 0;
	}
	s->n_read = -1;
	if (context_feed(s->c, s->ids + from, (size_t)(s->n - from), NULL, e) < 0)
		return -1;
	s->n_read = s->n;
	return 0;
}

int
eval_stream_fork(struct eval_stream *s, struct err *e)
{
	s->fork_n = s->n;
	return s->lazy ? 0 : context_fork(s->c, e);
}

void
eval_stream_rewind(struct eval_stream *s)
{
	if (!s->lazy) {
		context_rewind(s->c);
		return;
	}
	s->n = s->fork_n;
	if (s->n_read > s->n)
		s->n_read = -1;
}

const float *
eval_stream_get_logits(struct eval_stream *s, struct err *e)
{
	return catch_up(s, e) == 0 && context_get_logits(s->c, s->logits, e) == 0 ? s->logits : NULL;
}

/* -ln of the probability of id. */
static double
score_token(const float *logits, int32_t n_vocab, int32_t id)
{
	double max = logits[logits_get_likeliest(logits, n_vocab)], sum = 0;

	for (int32_t i = 0; i < n_vocab; i++)
		sum += exp(logits[i] - max);
	return max + log(sum) - logits[id];
}

/* All policies but recompute score as they read. */
static int
score_block(struct eval_stream *s, const int32_t *ids, int64_t n, double *nll, struct err *e)
{
	enum { BLOCK = 64 };
	float scores[BLOCK];

	for (int64_t i = 0; i < n; i += BLOCK) {
		int64_t part = n - i < BLOCK ? n - i : BLOCK;

		if (context_feed(s->c, ids + i, (size_t)part, scores, e) < 0)
			return -1;
		for (int64_t j = 0; j < part; j++)
			*nll += scores[j];
	}
	return 0;
}

int
eval_stream_score(struct eval_stream *s, const int32_t *ids, int64_t n, double *nll, struct err *e)
{
	*nll = 0;
	if (!s->lazy)
		return score_block(s, ids, n, nll, e);
	for (int64_t i = 0; i < n; i++) {
		const float *logits = eval_stream_get_logits(s, e);

		if (logits == NULL)
			return -1;
		*nll += score_token(logits, s->n_vocab, ids[i]);
		if (eval_stream_add(s, ids + i, 1, e) < 0)
			return -1;
	}
	return 0;
}

int32_t
eval_stream_add_likeliest(struct eval_stream *s, struct err *e)
{
	int32_t id;

	if (catch_up(s, e) < 0 || context_get_likeliest(s->c, &id, e) < 0)
		return -1;
	return eval_stream_add(s, &id, 1, e) < 0 ? -1 : id;
}
