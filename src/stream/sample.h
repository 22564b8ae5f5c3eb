/* Choosing the next token: greedily, or at random with a temperature among the likeliest. */
#ifndef SINKD_STREAM_SAMPLE_H
#define SINKD_STREAM_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct sample_options {
	double temperature; /* 0: always the likeliest, and of equals the one with the lower id */
	double top_p;       /* 0 to 1: choose among the likeliest that have this share of the probability together */
	double min_p;       /* 0 to 1: and that have this share of the likeliest one's probability */
	uint64_t seed;      /* the same seed makes the same choices */
};

/* Which tokens may be chosen at all. */
struct sample_filter {
	bool (*allows)(void *arg, int32_t id);
	void *arg;
};

struct sampler;

/* For vocabularies of n_vocab tokens. NULL with *e set (EX_OSERR). */
struct sampler *sampler_new(int32_t n_vocab, struct err *e);
void sampler_free(struct sampler *s);

/* What sampler_choose does from now on. */
void sampler_start(struct sampler *s, const struct sample_options *o);

/* The seed with which sampler_start would go on as this sampler does. */
uint64_t sampler_get_seed(const struct sampler *s);

/* A token by its logits, [n_vocab], that the filter (or NULL) allows; -1 if it allows none. */
int32_t sampler_choose(struct sampler *s, const float *logits, const struct sample_filter *filter);

#endif
