/* The measures of sinkeval bench; see eval_measures.h. */
#include "tools/eval_measures.h"

#include "base/clock.h"
#include "tools/eval.h"
#include "tools/eval_machine.h"

int
measures_read(struct bench *b, struct context *c, int64_t n, float *nll, struct err *e)
{
	for (int64_t done = 0; done < n;) {
		int64_t part = b->n_ids - b->position < n - done ? b->n_ids - b->position : n - done;

		if (context_feed(c, b->ids + b->position, (size_t)part, nll != NULL ? nll + done : NULL, e) < 0)
			return -1;
		b->position = (b->position + part) % b->n_ids;
		done += part;
	}
	return 0;
}

int
measures_generate(struct context *c, int64_t n, double *seconds, struct err *e)
{
	double begin;
	int32_t id;
	int rc = 0;

	if (context_get_likeliest(c, &id, e) < 0)
		return -1;
	context_expect_likeliest(c, true);
	begin = clock_get_seconds();
	for (int64_t i = 0; i < n && rc == 0; i++)
		if (context_feed(c, &id, 1, NULL, e) < 0 || context_get_likeliest(c, &id, e) < 0)
			rc = -1;
	*seconds = (clock_get_seconds() - begin) / (double)n;
	context_expect_likeliest(c, false);
	return rc;
}

static void
empty(struct bench *b)
{
	context_reset(b->c);
	b->position = 0;
	b->full = false;
}

static int
fill_window(struct bench *b, struct err *e)
{
	if (!b->full) {
		empty(b);
		if (measures_read(b, b->c, b->depth, NULL, e) < 0)
			return -1;
	}
	b->full = true;
	return 0;
}

static int
time_reading(struct bench *b, float *nll, double *rate, struct err *e)
{
	double begin = clock_get_seconds();

	if (measures_read(b, b->c, b->prompt, nll, e) < 0)
		return -1;
	*rate = (double)b->prompt / (clock_get_seconds() - begin);
	return 0;
}

static int
run_read_empty(struct bench *b, double *value, struct err *e)
{
	empty(b);
	return time_reading(b, NULL, value, e);
}

static int
run_score_empty(struct bench *b, double *value, struct err *e)
{
	empty(b);
	return time_reading(b, b->nll, value, e);
}

static int
time_generating(struct bench *b, double *rate, struct err *e)
{
	double seconds;

	if (measures_generate(b->c, b->generate, &seconds, e) < 0)
		return -1;
	*rate = 1 / seconds;
	return 0;
}

static int
run_generate_empty(struct bench *b, double *value, struct err *e)
{
	empty(b);
	if (measures_read(b, b->c, 1, NULL, e) < 0)
		return -1;
	return time_generating(b, value, e);
}

static int
run_read_full(struct bench *b, double *value, struct err *e)
{
	return fill_window(b, e) < 0 ? -1 : time_reading(b, NULL, value, e);
}

static int
run_score_full(struct bench *b, double *value, struct err *e)
{
	return fill_window(b, e) < 0 ? -1 : time_reading(b, b->nll, value, e);
}

static int
run_generate_full(struct bench *b, double *value, struct err *e)
{
	return fill_window(b, e) < 0 ? -1 : time_generating(b, value, e);
}

static int
run_first_token(struct bench *b, double *value, struct err *e)
{
	double begin;
	int r;

	if (fill_window(b, e) < 0)
		return -1;
	begin = clock_get_seconds();
	if (context_fork(b->c, e) < 0)
		return -1;
	r = measures_read(b, b->c, b->question, NULL, e);
	if (r == 0)
		r = context_get_logits(b->c, b->logits, e);
	(void)logits_get_likeliest(b->logits, model_get_info(b->m)->n_vocab);
	*value = 1e3 * (clock_get_seconds() - begin);
	context_rewind(b->c);
	return r;
}

static int
run_bandwidth(struct bench *b, double *value, struct err *e)
{
	struct context_info ci;

	context_get_info(b->c, &ci);
	*value = 1e-9 * machine_measure_bandwidth(ci.threads, e);
	return *value > 0 ? 0 : -1;
}

const struct measure measures[] = {
	{ "read-empty", "tokens/s", "text read from an empty stream on", run_read_empty },
	{ "score-empty", "tokens/s", "the same with a score for every token", run_score_empty },
	{ "generate-empty", "tokens/s", "greedy decoding from an empty stream on", run_generate_empty },
	{ "read-full", "tokens/s", "text read behind a full window", run_read_full },
	{ "score-full", "tokens/s", "the same with a score for every token", run_score_full },
	{ "generate-full", "tokens/s", "greedy decoding behind a full window", run_generate_full },
	{ "first-token", "ms", "from a question to its answer's first token", run_first_token },
	{ "bandwidth", "GB/s", "memory read by all threads together", run_bandwidth },
	{ .name = NULL },
};
