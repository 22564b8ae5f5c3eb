/* Choosing the next token; see sample.h. */
#include "stream/sample.h"

#include <math.h>
#include <stdlib.h>

#include "base/random.h"
#include "engine/engine.h"

struct candidate {
	int32_t id;
	double weight; /* probability over that of the likeliest */
};

struct sampler {
	int32_t n_vocab;
	struct sample_options o;
	uint64_t random;
	struct candidate *candidates; /* [n_vocab] */
};

struct sampler *
sampler_new(int32_t n_vocab, struct err *e)
{
	struct sampler *s = calloc(1, sizeof *s);

	if (s != NULL)
		s->candidates = malloc((size_t)n_vocab * sizeof *s->candidates);
	if (s == NULL || s->candidates == NULL) {
		err_set(e, EX_OSERR, "out of memory for %d candidates", n_vocab);
		sampler_free(s);
		return NULL;
	}
	s->n_vocab = n_vocab;
	return s;
}

void
sampler_free(struct sampler *s)
{
	if (s == NULL)
		return;
	free(s->candidates);
	free(s);
}

void
sampler_start(struct sampler *s, const struct sample_options *o)
{
	s->o = *o;
	s->random = o->seed;
}

uint64_t
sampler_get_seed(const struct sampler *s)
{
	return s->random;
}

static bool
allows(const struct sample_filter *filter, int32_t id)
{
	return filter == NULL || filter->allows(filter->arg, id);
}

/* The likeliest token that the filter allows; it is asked only about those that would be chosen. */
static int32_t
find_likeliest_allowed(const struct sampler *s, const float *logits, const struct sample_filter *filter)
{
	int32_t best = logits_get_likeliest(logits, s->n_vocab);

	if (allows(filter, best))
		return best;
	best = -1;
	for (int32_t i = 0; i < s->n_vocab; i++)
		if ((best < 0 || logits[i] > logits[best]) && allows(filter, i))
			best = i;
	return best;
}

/* Likeliest first, and of equals the one with the lower id. */
static int
compare_candidates(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->weight != y->weight)
		return x->weight < y->weight ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

/* The allowed tokens that are likelier than one in a hundred million of the likeliest, sorted. */
static int32_t
gather_candidates(struct sampler *s, const float *logits, int32_t likeliest, const struct sample_filter *filter)
{
	int32_t n = 0;

	for (int32_t i = 0; i < s->n_vocab; i++) {
		double weight = exp(((double)logits[i] - logits[likeliest]) / s->o.temperature);

		if (weight > 1e-8 && weight >= s->o.min_p && allows(filter, i))
			s->candidates[n++] = (struct candidate){ .id = i, .weight = weight };
	}
	qsort(s->candidates, (size_t)n, sizeof *s->candidates, compare_candidates);
	return n;
}

int32_t
sampler_choose(struct sampler *s, const float *logits, const struct sample_filter *filter)
{
	int32_t likeliest = find_likeliest_allowed(s, logits, filter), n, n_kept = 0, i = 0;
	double all = 0, kept = 0, at;

	if (s->o.temperature == 0 || likeliest < 0)
		return likeliest;
	n = gather_candidates(s, logits, likeliest, filter);
	for (int32_t j = 0; j < n; j++)
		all += s->candidates[j].weight;
	while (n_kept < n && (n_kept == 0 || kept < s->o.top_p * all))
		kept += s->candidates[n_kept++].weight;
	at = kept * (double)(random_next(&s->random) >> 11) * 0x1p-53;
	while (i < n_kept - 1 && (at -= s->candidates[i].weight) >= 0)
		i++;
	return s->candidates[i].id;
}
