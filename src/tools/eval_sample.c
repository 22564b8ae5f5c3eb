/* Choosing the next token; see eval_sample.h. */
#include "tools/eval_sample.h"

#include <math.h>
#include <stdlib.h>

#include "tools/eval.h"

struct candidate {
	int32_t id;
	double weight; /* probability over that of the likeliest */
};

struct sampler {
	int32_t n_vocab;
	double temperature, top_p;
	uint64_t random;
	struct candidate *candidates; /* [n_vocab] */
};

struct sampler *
sampler_new(int32_t n_vocab, double temperature, double top_p, uint64_t seed, struct err *e)
{
	struct sampler *s = calloc(1, sizeof *s);

	if (s != NULL)
		s->candidates = malloc((size_t)n_vocab * sizeof *s->candidates);
	if (s == NULL || s->candidates == NULL) {
		err_set(e, EX_OSERR, "out of memory");
		sampler_free(s);
		return NULL;
	}
	s->n_vocab = n_vocab;
	s->temperature = temperature;
	s->top_p = top_p;
	s->random = seed;
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

/* Likeliest first, and of equals the one with the lower id. */
static int
compare(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->weight != y->weight)
		return x->weight < y->weight ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

/* The tokens that are likelier than one in a hundred million of the likeliest, sorted. */
static int32_t
gather(struct sampler *s, const float *logits)
{
	double max = logits[eval_get_likeliest(logits, s->n_vocab)];
	int32_t n = 0;

	for (int32_t i = 0; i < s->n_vocab; i++) {
		double weight = exp((logits[i] - max) / s->temperature);

		if (weight > 1e-8)
			s->candidates[n++] = (struct candidate){ .id = i, .weight = weight };
	}
	qsort(s->candidates, (size_t)n, sizeof *s->candidates, compare);
	return n;
}

int32_t
sampler_choose(struct sampler *s, const float *logits)
{
	double all = 0, kept = 0, at;
	int32_t n, n_kept = 0, i = 0;

	if (s->temperature == 0)
		return eval_get_likeliest(logits, s->n_vocab);
	n = gather(s, logits);
	for (int32_t j = 0; j < n; j++)
		all += s->candidates[j].weight;
	while (n_kept < n && (n_kept == 0 || kept < s->top_p * all))
		kept += s->candidates[n_kept++].weight;
	at = kept * (double)(eval_random(&s->random) >> 11) * 0x1p-53;
	while (i < n_kept - 1 && (at -= s->candidates[i].weight) >= 0)
		i++;
	return s->candidates[i].id;
}
