/* What the model's likelihoods say of one event. */
#ifndef SINKD_STREAM_SCORE_H
#define SINKD_STREAM_SCORE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

enum { SCORE_PEAK_MAX = 80 }; /* bytes */

struct score {
	int64_t tokens;   /* that the event's text has */
	int64_t scored;   /* of these with a finite likelihood: the very first of a stream has none */
	double nll;       /* sum over the scored ones, nats */
	float peak_nll;   /* the least expected token that is not white space, nats */
	size_t peak_len;  /* 0: there is none */
	char peak[SCORE_PEAK_MAX]; /* the word around it, valid UTF-8, not NUL-terminated */
};

/* Surprise: nats per scored token; 0 if no token has a score. */
static inline double
score_get_surprise(double nll, int64_t scored)
{
	return scored > 0 ? nll / (double)scored : 0;
}

/*
 * Score an event: text[len] (valid UTF-8) was encoded by t as ids[n], and
 * nll[n] are their negative log-likelihoods, NAN where there is none.
 */
void score_compute(struct score *s, struct tokenizer *t, const char *text, size_t len, const int32_t *ids,
    const float *nll, size_t n);

#endif
