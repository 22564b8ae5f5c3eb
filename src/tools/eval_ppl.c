/* sinkeval ppl: perplexity of texts under a policy, in whole and along a stream of any length. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tools/eval.h"
#include "tools/eval_machine.h"

struct values {
	struct eval_context c;
	int64_t tokens, per, sample, repeat, cut;
	char *csv;
};

static const struct option_row rows[] = {
	EVAL_CONTEXT_ROWS,
	{ "tokens", 'n', OPTION_INT, "count", offsetof(struct values, tokens), "0", 0, INT64_MAX / 4, NULL, 0,
	    "Predict this many tokens. 0: all of the texts. A text that is too short is an error." },
	{ "repeat", 0, OPTION_INT, "count", offsetof(struct values, repeat), "1", 0, 1 << 30, NULL, 0,
	    "Read the texts this many times in one stream. 0: as often as --tokens needs." },
	{ "cut", 0, OPTION_INT, "tokens", offsetof(struct values, cut), "0", 0, INT64_MAX / 4, NULL, 0,
	    "Use only this many tokens from the beginning of the texts. 0: all." },
	{ "per", 0, OPTION_INT, "count", offsetof(struct values, per), "1024", 1, INT64_MAX / 4, NULL, 0,
	    "Length of the stretches whose perplexities are printed, in predicted tokens." },
	{ "csv", 0, OPTION_STRING, "file", offsetof(struct values, csv), NULL, 0, 0, NULL, 0,
	    "Write a line for each stretch as soon as it is read: number of its last token in the stream, in its pass "
	    "over the texts, and of the pass; perplexity, mean nll, seconds, processor seconds, KiB of resident "
	    "memory." },
	{ "sample", 0, OPTION_INT, "count", offsetof(struct values, sample), "0", 0, INT64_MAX / 4, NULL, 0,
	    "Predict only this many tokens, evenly spaced along the stream. It is meant for the policy "
	    "recompute, which is slow. The result says \"sampled\"." },
	{ .name = NULL },
};

/* The tokens to read: a BOS token where the model wants one, then the texts, repeated. */
struct stream {
	int32_t bos;   /* or -1 */
	int32_t *ids;
	int64_t n_ids; /* >= 1 */
	int64_t n;     /* length of the stream, >= 2 */
};

static int32_t
get_token(const struct stream *s, int64_t i)
{
	if (s->bos < 0)
		return s->ids[i % s->n_ids];
	return i == 0 ? s->bos : s->ids[(i - 1) % s->n_ids];
}

/* Sums of scores and times, of all and of the stretch at hand. */
struct tally {
	const struct stream *s;
	int64_t per, n, stretch_n;
	double nll, stretch_nll;
	double begin, stretch_begin, stretch_cpu;
	double *stretches; /* perplexities */
	int64_t n_stretches;
	FILE *csv;         /* or NULL */
};

static void
begin_stretch(struct tally *t)
{
	t->stretch_n = 0;
	t->stretch_nll = 0;
	t->stretch_begin = clock_get_seconds();
	t->stretch_cpu = machine_get_cpu_seconds();
}

/* last: number in the stream of the stretch's last token. */
static void
end_stretch(struct tally *t, int64_t last)
{
	double nll = t->stretch_nll / (double)t->stretch_n;
	int64_t in_text = last - (t->s->bos >= 0);
	struct machine_memory memory;

	t->stretches[t->n_stretches++] = exp(nll);
	if (t->csv != NULL) {
		machine_get_memory(&memory);
		fprintf(t->csv, "%lld,%lld,%lld,%.6g,%.7g,%.3f,%.3f,%lld\n", (long long)last,
		    (long long)(in_text % t->s->n_ids), (long long)(in_text / t->s->n_ids + 1), exp(nll), nll,
		    clock_get_seconds() - t->stretch_begin, machine_get_cpu_seconds() - t->stretch_cpu,
		    (long long)memory.resident / 1024);
		fflush(t->csv);
	}
	begin_stretch(t);
}

/* The score of token number i of the stream. */
static void
count(struct tally *t, int64_t i, float nll)
{
	t->n++;
	t->nll += nll;
	t->stretch_n++;
	t->stretch_nll += nll;
	if (t->stretch_n == t->per)
		end_stretch(t, i);
}

/* What cannot be written down need not be computed. */
static int
check_csv(const struct tally *t, const struct values *v, struct err *e)
{
	if (t->csv != NULL && ferror(t->csv))
		return err_set(e, EX_IOERR, "%s cannot be written", v->csv);
	return 0;
}

enum { STEP = 8192 };

/* Feed the tokens from..to-1 of the stream. With nll[STEP] they are scored, and all but the stream's first count. */
static int
read_tokens(struct context *c, const struct values *v, struct tally *t, int64_t from, int64_t to, float *nll,
    struct err *e)
{
	int32_t ids[STEP];

	for (int64_t i = from, part; i < to; i += part) {
		part = to - i < STEP ? to - i : STEP;
		/* What is timed by the stretch is fed by the stretch. */
		if (nll != NULL && part > t->per - t->stretch_n)
			part = t->per - t->stretch_n;
		for (int64_t j = 0; j < part; j++)
			ids[j] = get_token(t->s, i + j);
		if (context_feed(c, ids, (size_t)part, nll, e) < 0)
			return -1;
		for (int64_t j = 0; nll != NULL && j < part; j++)
			if (i + j > 0)
				count(t, i + j, nll[j]);
		if (check_csv(t, v, e) < 0)
			return -1;
		if (nll != NULL)
			eval_progress(&v->c, "tokens", i + part, t->s->n);
	}
	return 0;
}

/*
 * Only some tokens are predicted, each with what a stream would see there.
 * Recompute forgets everything but the last W tokens, so that each sample is
 * a short stream of its own; the other policies read the whole stream.
 */
static int
score_samples(struct context *c, const struct values *v, struct tally *t, struct err *e)
{
	int64_t fed = 0, n = t->s->n;
	float nll;

	for (int64_t i = 0; i < v->sample; i++) {
		int64_t at = n - 1 - (v->sample - 1 - i) * (n - 1) / v->sample;
		int32_t id = get_token(t->s, at);

		if (v->c.policy == POLICY_RECOMPUTE) {
			context_reset(c);
			fed = at > v->c.window ? at - v->c.window : 0;
		}
		if (read_tokens(c, v, t, fed, at, NULL, e) < 0 || context_feed(c, &id, 1, &nll, e) < 0)
			return -1;
		fed = at + 1;
		count(t, at, nll);
		eval_progress(&v->c, "samples", i + 1, v->sample);
	}
	return 0;
}

static void
print_result(FILE *out, struct model *m, struct context *c, const struct values *v, const struct tally *t)
{
	struct machine_memory memory;

	machine_get_memory(&memory);
	fputc('{', out);
	eval_print_head(out, m, &v->c, c);
	fprintf(out, "\"per\":%lld,\"stretches\":[", (long long)v->per);
	for (int64_t i = 0; i < t->n_stretches; i++)
		fprintf(out, "%s%.5g", i > 0 ? "," : "", t->stretches[i]);
	fprintf(out, "],\"sampled\":%s,\"n\":%lld,\"nll\":%.7g,\"ppl\":%.7g,\"seconds\":%.3f,\"resident\":%lld}\n",
	    v->sample > 0 ? "true" : "false", (long long)t->n, t->nll / (double)t->n, exp(t->nll / (double)t->n),
	    clock_get_seconds() - t->begin, (long long)memory.resident);
}

/* Every token after the first is predicted, or the samples. */
static int
score_tokens(struct model *m, struct context *c, const struct values *v, const struct stream *s, FILE *csv, FILE *out,
    struct err *e)
{
	int64_t n = v->sample > 0 ? v->sample : s->n - 1;
	struct tally t = { .s = s, .per = v->per, .csv = csv, .begin = clock_get_seconds() };
	float nll[STEP];
	int r;

	t.stretches = calloc((size_t)(n / v->per + 1), sizeof *t.stretches);
	if (t.stretches == NULL)
		return err_set(e, EX_OSERR, "out of memory for the perplexities");
	begin_stretch(&t);
	r = v->sample > 0 ? score_samples(c, v, &t, e) : read_tokens(c, v, &t, 0, s->n, nll, e);
	if (r == 0 && t.stretch_n > 0)
		end_stretch(&t, s->n - 1);
	if (r == 0)
		r = check_csv(&t, v, e);
	if (r == 0)
		print_result(out, m, c, v, &t);
	free(t.stretches);
	return r;
}

/* The same with the CSV file open, if one is wanted. */
static int
score_with_csv(struct model *m, struct context *c, const struct values *v, const struct stream *s, FILE *out,
    struct err *e)
{
	FILE *csv;
	int r;

	if (v->csv == NULL)
		return score_tokens(m, c, v, s, NULL, out, e);
	csv = fopen(v->csv, "w");
	if (csv == NULL)
		return err_set(e, EX_CANTCREAT, "%s: %s", v->csv, strerror(errno));
	fputs("token,text_token,pass,ppl,nll,seconds,cpu_seconds,resident_kib\n", csv);
	r = score_tokens(m, c, v, s, csv, out, e);
	if (fclose(csv) != 0 && r == 0)
		r = err_set(e, EX_IOERR, "%s cannot be written", v->csv);
	return r;
}

/* The tokens of all texts, one after the other. */
static int
read_texts(struct model *m, char **paths, struct stream *s, struct err *e)
{
	if (paths[0] == NULL)
		return err_set(e, EX_USAGE, "text file is missing");
	for (; *paths != NULL; paths++) {
		int64_t n;
		int32_t *ids = eval_read_tokens(m, *paths, &n, e), *more;

		if (ids == NULL)
			return -1;
		more = realloc(s->ids, (size_t)(s->n_ids + n) * sizeof *more);
		if (more != NULL)
			memcpy(more + s->n_ids, ids, (size_t)n * sizeof *ids);
		free(ids);
		if (more == NULL)
			return err_set(e, EX_OSERR, "%s: out of memory", *paths);
		s->ids = more;
		s->n_ids += n;
	}
	return 0;
}

static int
make_stream(struct model *m, const struct values *v, char **paths, struct stream *s, struct err *e)
{
	const struct model_info *info = model_get_info(m);
	int64_t longest;

	if (v->repeat == 0 && v->tokens == 0)
		return err_set(e, EX_USAGE, "--repeat 0 needs --tokens");
	if (read_texts(m, paths, s, e) < 0)
		return -1;
	if (s->n_ids < v->cut)
		return err_set(e, EX_DATAERR, "--cut %lld: the texts have only %lld tokens", (long long)v->cut,
		    (long long)s->n_ids);
	if (v->cut > 0)
		s->n_ids = v->cut;
	s->bos = info->add_bos ? info->bos : -1;
	longest = v->repeat > 0 ? v->repeat * s->n_ids + info->add_bos : INT64_MAX / 2;
	s->n = v->tokens > 0 ? v->tokens + 1 : longest;
	if (s->n < 2 || s->n > longest || s->n - 1 < v->sample)
		return err_set(e, EX_DATAERR, "%s%s: only %lld tokens to predict", paths[0],
		    paths[1] != NULL ? " ..." : "", (long long)((s->n < longest ? s->n : longest) - 1));
	return 0;
}

static int
run_ppl(void *values, char **operands, FILE *out, struct err *e)
{
	struct values *v = values;
	struct stream s = { .bos = -1 };
	struct model *m = eval_open_model(&v->c, 0, e);
	struct context *c = NULL;
	int r = -1;

	if (m != NULL && make_stream(m, v, operands, &s, e) == 0 && (c = eval_new_context(m, &v->c, 0, e)) != NULL)
		r = score_with_csv(m, c, v, &s, out, e);
	free(s.ids);
	context_free(c);
	model_close(m);
	return r;
}

const struct eval_command eval_ppl = {
	{ "sinkeval ppl", "text ...", "Perplexity of texts under a policy.", rows },
	sizeof(struct values),
	run_ppl,
};
