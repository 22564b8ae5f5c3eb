/* Choosing the next token: greedily, or at random with a temperature among the likeliest. */
#ifndef SINKD_TOOLS_EVAL_SAMPLE_H
#define SINKD_TOOLS_EVAL_SAMPLE_H

#include <stdint.h>

#include "base/err.h"

struct sampler;

/*
 * For vocabularies of n_vocab tokens. temperature 0: always the likeliest.
 * Otherwise one of the likeliest tokens that have top_p (0 to 1) of the
 * probability together; the same seed makes the same choices. NULL with *e set.
 */
struct sampler *sampler_new(int32_t n_vocab, double temperature, double top_p, uint64_t seed, struct err *e);
void sampler_free(struct sampler *s);

/* A token by its logits, [n_vocab]. */
int32_t sampler_choose(struct sampler *s, const float *logits);

#endif
