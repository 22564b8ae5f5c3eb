/*
 * Rotary embedding frequencies (Su et al. 2021) in fixed point, with the
 * scalings that GGUF metadata describes: linear, the factors of Llama 3
 * (rope_freqs), YaRN (Peng et al. 2023) and long/short factors (Phi-3).
 */
#ifndef SINKD_ENGINE_ROPE_H
#define SINKD_ENGINE_ROPE_H

#include "engine/backend.h"

struct rope_params {
	enum rope_style style;
	int n_rot;
	double base;           /* frequency base, normally 10000 */
	double factor;         /* context extension of linear and YaRN scaling; 1: none */
	bool yarn;
	double yarn_original;  /* context length before the extension, tokens */
	double yarn_fast, yarn_slow;
	double attn_factor;    /* multiplies the scale */
	const float *divisors; /* [n_rot / 2]: each frequency is divided by its own, or NULL */
};

/*
 * Fill r from p. An angle is kept as a fraction of a turn in units of 2^-64:
 * multiplying by a 64-bit position wraps exactly at whole turns, so that
 * differences of positions are exact for ever, whatever the position.
 * Returns 0 or -1 with *e set (EX_OSERR). Release with rope_fini.
 */
int rope_init(struct rope *r, const struct rope_params *p, struct err *e);
void rope_fini(struct rope *r);

/* Cosine and sine of pair i at a position, times r->scale. */
void rope_angle(const struct rope *r, int i, int64_t position, float *cosine, float *sine);

#endif
