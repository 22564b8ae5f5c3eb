/* Choosing what a digest quotes; see extract.h. */
#include "stream/extract.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	ASKED_PER_LINE = 3,  /* candidates that the model is asked about, for each line wanted */
	ASKED_MAX = 24,
	QUESTION_TOKENS = 64, /* it has one a byte at most */
	ANSWER_TOKENS = 32,  /* of a candidate's text */
};

static const char question[] = "The most important line is:\n";

/* ---- candidates ----------------------------------------------------- */

struct order {
	uint64_t shape;
	int64_t number;
};

static int
compare_shapes(const void *a, const void *b)
{
	const struct order *x = a, *y = b;

	if (x->shape != y->shape)
		return x->shape < y->shape ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

/* A shape that was there before the digest's events is no news, however rare. */
static double
get_novelty(int64_t count, int64_t all, bool old)
{
	return log((double)all / (double)count) + (old ? 0 : 1);
}

/*
 * One candidate for each shape among the events from .. end-1; order holds all
 * that are remembered, sorted. Returns their number.
 */
static int64_t
extract_gather(const struct memory *m, const struct order *order, int64_t n, int64_t from, int64_t end,
    struct extract_line *lines)
{
	int64_t n_lines = 0;

	for (int64_t i = 0, next; i < n; i = next) {
		struct extract_line *l = &lines[n_lines];
		bool old = order[i].number < from;

		*l = (struct extract_line){.answer = NAN};
		for (next = i; next < n && order[next].shape == order[i].shape; next++) {
			const struct memory_event *v = memory_get(m, order[next].number);
			double surprise = memory_get_surprise(v);

			if (order[next].number < from || order[next].number >= end)
				continue;
			if (l->count++ == 0)
				l->first = v->seq;
			l->last = v->seq;
			if (l->count == 1 || surprise > l->surprise) {
				l->surprise = surprise;
				l->number = order[next].number;
			}
		}
		if (l->count > 0) {
			l->novelty = get_novelty(l->count, end - from, old);
			n_lines++;
		}
	}
	return n_lines;
}

/* ---- the model's opinion -------------------------------------------- */

/* The likelihood of a line as the answer, nats per token. prompt[asked]: the question's tokens. */
static int
ask(struct stream *s, struct tokens *prompt, size_t asked, struct extract_line *l, struct err *e)
{
	const struct memory_event *v = memory_get(s->memory, l->number);
	float nll[QUESTION_TOKENS + ANSWER_TOKENS];
	double sum = 0;
	size_t n;
	int rc;

	prompt->n = asked;
	if (stream_encode(s, v->text, (size_t)v->len, 0, prompt, e) < 0)
		return -1;
	n = prompt->n - asked < ANSWER_TOKENS ? prompt->n - asked : ANSWER_TOKENS;
	if (n == 0 || asked > QUESTION_TOKENS || asked + n > (size_t)s->room)
		return 0;
	if (context_fork(s->context, e) < 0)
		return -1;
	rc = context_feed(s->context, prompt->ids, asked + n, nll, e);
	context_rewind(s->context);
	for (size_t i = asked; i < asked + n && rc == 0; i++)
		sum -= nll[i];
	l->answer = sum / (double)n;
	return rc;
}

static int
ask_all(struct stream *s, struct extract_line *lines, int64_t n, struct err *e)
{
	struct tokens prompt = {0};
	int rc = stream_encode(s, question, strlen(question), 0, &prompt, e);
	size_t asked = prompt.n;

	for (int64_t i = 0; i < n && rc == 0; i++)
		rc = ask(s, &prompt, asked, &lines[i], e);
	tokens_fini(&prompt);
	return rc;
}

/* ---- rating --------------------------------------------------------- */

/* Mean and deviation of one of a line's measures, so that measures can be added. */
struct scale {
	double mean, deviation;
};

/* Nats per token of a line that could not be asked about: it is as if the model had never named it. */
static const double UNASKED = -20;

enum measure { SURPRISE, NOVELTY, ANSWER, MEASURES };

static double
get_measure(const struct extract_line *l, enum measure m)
{
	double v = m == SURPRISE ? l->surprise : m == NOVELTY ? l->novelty : l->answer;

	return isfinite(v) ? v : UNASKED;
}

static struct scale
get_scale(const struct extract_line *lines, int64_t n, enum measure m)
{
	struct scale s = {0};

	for (int64_t i = 0; i < n; i++)
		s.mean += get_measure(&lines[i], m) / (double)n;
	for (int64_t i = 0; i < n; i++) {
		double d = get_measure(&lines[i], m) - s.mean;

		s.deviation += d * d / (double)n;
	}
	s.deviation = sqrt(s.deviation);
	return s;
}

struct rated {
	struct extract_line line;
	double rating;
};

/* The best first, and of equals the older one. */
static int
compare_ratings(const void *a, const void *b)
{
	const struct rated *x = a, *y = b;

	if (x->rating != y->rating)
		return x->rating < y->rating ? 1 : -1;
	return (x->line.number > y->line.number) - (x->line.number < y->line.number);
}

/* Sort lines by the sum of the first `measures` measures, each in deviations from its mean. */
static int
extract_rate(struct extract_line *lines, int64_t n, int measures, struct err *e)
{
	struct rated *rated = malloc((size_t)n * sizeof *rated);
	struct scale scales[MEASURES];

	if (rated == NULL)
		return err_set(e, EX_OSERR, "out of memory for a digest");
	for (int m = 0; m < measures; m++)
		scales[m] = get_scale(lines, n, (enum measure)m);
	for (int64_t i = 0; i < n; i++) {
		rated[i] = (struct rated){.line = lines[i]};
		for (int m = 0; m < measures; m++)
			if (scales[m].deviation > 0)
				rated[i].rating +=
				    (get_measure(&lines[i], (enum measure)m) - scales[m].mean) / scales[m].deviation;
	}
	qsort(rated, (size_t)n, sizeof *rated, compare_ratings);
	for (int64_t i = 0; i < n; i++)
		lines[i] = rated[i].line;
	free(rated);
	return 0;
}

static int
compare_places(const void *a, const void *b)
{
	const struct extract_line *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

/* ---- all of it ------------------------------------------------------ */

static int
choose(struct stream *s, struct extract_line *all, int64_t n_all, int n, struct err *e)
{
	int64_t asked = (int64_t)n * ASKED_PER_LINE < ASKED_MAX ? (int64_t)n * ASKED_PER_LINE : ASKED_MAX;

	if (asked < n)
		asked = n;
	if (n_all == 0 || extract_rate(all, n_all, ANSWER, e) < 0)
		return n_all == 0 ? 0 : -1;
	if (asked > n_all)
		asked = n_all;
	if (n_all > n && (ask_all(s, all, asked, e) < 0 || extract_rate(all, asked, MEASURES, e) < 0))
		return -1;
	if (n > n_all)
		n = (int)n_all;
	qsort(all, (size_t)n, sizeof *all, compare_places);
	return n;
}

int
extract_choose(struct stream *s, int64_t from, int64_t end, int n, struct extract_line *lines, int64_t *shapes,
    struct err *e)
{
	int64_t first = memory_get_first(s->memory), count = s->memory->count - first;
	struct order *order = malloc(((size_t)count + 1) * sizeof *order);
	struct extract_line *all = malloc(((size_t)count + 1) * sizeof *all);
	int rc = -1;

	if (order == NULL || all == NULL) {
		err_set(e, EX_OSERR, "out of memory for a digest");
		goto out;
	}
	for (int64_t i = 0; i < count; i++)
		order[i] = (struct order){memory_get(s->memory, first + i)->shape, first + i};
	qsort(order, (size_t)count, sizeof *order, compare_shapes);
	*shapes = extract_gather(s->memory, order, count, from, end, all);
	if ((rc = choose(s, all, *shapes, n, e)) > 0)
		memcpy(lines, all, (size_t)rc * sizeof *lines);
out:
	free(order);
	free(all);
	return rc;
}
