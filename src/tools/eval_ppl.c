/* sinkeval ppl: perplexity of a text under a policy, in whole and along the stream. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/eval.h"

struct values {
	struct eval_context c;
	int64_t tokens, per, sample;
};

static const struct option_row rows[] = {
	EVAL_CONTEXT_ROWS,
	{ "tokens", 'n', OPTION_INT, "count", offsetof(struct values, tokens), "0", 0, INT64_MAX, NULL, 0,
	    "Predicted tokens; 0: as many as the text has. A text that is too short is an error." },
	{ "per", 0, OPTION_INT, "count", offsetof(struct values, per), "1024", 1, INT64_MAX, NULL, 0,
	    "Length of the stretches whose perplexities are printed, in predicted tokens." },
	{ "sample", 0, OPTION_INT, "count", offsetof(struct values, sample), "0", 0, INT64_MAX, NULL, 0,
	    "Predict only so many tokens, evenly spaced along the stream; for the policy recompute, which is slow. The "
	    "result says \"sampled\"." },
	{ .name = NULL },
};

/* Sum of scores, of all and of the stretch at hand. */
struct tally {
	FILE *out;
	int64_t per, n, stretch_n;
	double nll, stretch_nll;
};

static void
end_stretch(struct tally *t)
{
	if (t->stretch_n > 0)
		fprintf(t->out, "%s%.5g", t->n > t->stretch_n ? "," : "", exp(t->stretch_nll / (double)t->stretch_n));
	t->stretch_n = 0;
	t->stretch_nll = 0;
}

static void
count(struct tally *t, float nll)
{
	t->n++;
	t->nll += nll;
	t->stretch_n++;
	t->stretch_nll += nll;
	if (t->stretch_n == t->per)
		end_stretch(t);
}

enum { STEP = 256 };

/* Every token after the first is predicted. */
static int
score_all(struct context *c, const struct values *v, const int32_t *ids, int64_t n, struct tally *t, struct err *e)
{
	float nll[STEP];

	for (int64_t i = 0; i < n; i += STEP) {
		int64_t part = n - i < STEP ? n - i : STEP;

		if (context_feed(c, ids + i, (size_t)part, nll, e) < 0)
			return -1;
		for (int64_t j = 0; j < part; j++)
			if (i + j > 0)
				count(t, nll[j]);
		eval_progress(&v->c, "tokens", i + part, n);
	}
	return 0;
}

/*
 * Only some tokens are predicted, each with what a stream would see there.
 * Recompute forgets everything but the last W tokens, so that each sample is
 * a short stream of its own; the other policies read the whole stream.
 */
static int
score_samples(struct context *c, const struct values *v, const int32_t *ids, int64_t n, struct tally *t, struct err *e)
{
	int64_t fed = 0;
	float nll;

	for (int64_t i = 0; i < v->sample; i++) {
		int64_t at = n - 1 - (v->sample - 1 - i) * (n - 1) / v->sample;

		if (v->c.policy == POLICY_RECOMPUTE) {
			context_reset(c);
			fed = at > v->c.window ? at - v->c.window : 0;
		}
		if (context_feed(c, ids + fed, (size_t)(at - fed), NULL, e) < 0 || context_feed(c, ids + at, 1, &nll, e) < 0)
			return -1;
		fed = at + 1;
		count(t, nll);
		eval_progress(&v->c, "samples", i + 1, v->sample);
	}
	return 0;
}

static int
print_ppl(struct model *m, struct context *c, const struct values *v, const int32_t *ids, int64_t n, FILE *out,
    struct err *e)
{
	struct tally t = { .out = out, .per = v->per };
	int r;

	fputc('{', out);
	eval_print_head(out, m, &v->c, c);
	fprintf(out, "\"per\":%lld,\"stretches\":[", (long long)v->per);
	r = v->sample > 0 ? score_samples(c, v, ids, n, &t, e) : score_all(c, v, ids, n, &t, e);
	end_stretch(&t);
	fprintf(out, "],\"sampled\":%s,\"n\":%lld,\"nll\":%.7g,\"ppl\":%.7g}\n", v->sample > 0 ? "true" : "false",
	    (long long)t.n, t.nll / (double)t.n, exp(t.nll / (double)t.n));
	return r;
}

/* The stream: BOS where the model asks for it, then the text's tokens, as many as are needed. */
static int32_t *
make_stream(struct model *m, const struct values *v, const char *path, int64_t *n, struct err *e)
{
	const struct model_info *info = model_get_info(m);
	struct tokenizer *t = tokenizer_new(m, e);
	const int32_t *ids;
	int32_t *stream = NULL;
	char *text = NULL;
	size_t len;

	if (t != NULL && (text = eval_read_file(path, &len, e)) != NULL && (*n = tokenizer_encode(t, text, len, 0, &ids, e)) >= 0)
		stream = malloc(((size_t)*n + 1) * sizeof *stream);
	if (stream != NULL) {
		memcpy(stream + info->add_bos, ids, (size_t)*n * sizeof *stream);
		if (info->add_bos)
			stream[0] = info->bos;
		*n += info->add_bos;
		if (*n < 2 || *n - 1 < v->tokens || *n - 1 < v->sample) {
			err_set(e, EX_DATAERR, "%s: the text has only %lld tokens to predict", path, (long long)(*n > 0 ? *n - 1 : 0));
			free(stream);
			stream = NULL;
		} else if (v->tokens > 0) {
			*n = v->tokens + 1;
		}
	}
	free(text);
	tokenizer_free(t);
	return stream;
}

static int
run(void *values, char **operands, FILE *out, struct err *e)
{
	struct values *v = values;
	const char *path = eval_operand(operands, "text file", e);
	struct model *m = NULL;
	struct context *c = NULL;
	int32_t *ids = NULL;
	int64_t n;
	int r = -1;

	if (path != NULL && (m = eval_open_model(&v->c, 0, e)) != NULL && (ids = make_stream(m, v, path, &n, e)) != NULL &&
	    (c = eval_new_context(m, &v->c, 0, e)) != NULL)
		r = print_ppl(m, c, v, ids, n, out, e);
	free(ids);
	context_free(c);
	model_close(m);
	return r;
}

const struct eval_command eval_ppl = {
	"ppl",
	{ "sinkeval ppl", "text", "Perplexity of a text under a policy.", rows },
	sizeof(struct values),
	run,
};
