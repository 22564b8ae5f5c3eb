/* Rotary embedding frequencies; see rope.h. */
#include "engine/rope.h"

#include <math.h>
#include <stdlib.h>

static const long double pi = 3.141592653589793238462643383279502884L;

/*
 * The pair at which a wavelength makes `turns` turns within the original
 * context (YaRN, section 3.2, equation 17 solved for the dimension).
 */
static double
yarn_pair(const struct rope_params *p, double turns)
{
	return p->n_rot * log(p->yarn_original / (turns * 2 * (double)pi)) / (2 * log(p->base));
}

/* Radians per position of pair i, after scaling. */
static long double
frequency(const struct rope_params *p, int i)
{
	long double plain = powl((long double)p->base, -2.0L * i / p->n_rot), scaled;

	if (p->divisors != NULL)
		plain /= p->divisors[i];
	scaled = plain / p->factor;
	if (p->yarn) {
		double low = fmax(0, floor(yarn_pair(p, p->yarn_fast)));
		double high = fmin(p->n_rot - 1, ceil(yarn_pair(p, p->yarn_slow)));
		double ramp = (i - low) / fmax(0.001, high - low);
		double keep = 1 - fmin(1, fmax(0, ramp));

		return scaled * (1 - keep) + plain * keep;
	}
	return scaled;
}

int
rope_init(struct rope *r, const struct rope_params *p, struct err *e)
{
	r->style = p->style;
	r->n_rot = p->n_rot;
	r->scale = (float)p->attn_factor;
	if (p->yarn) /* YaRN, section 3.4: temperature of the softmax as a length of queries and keys */
		r->scale *= (float)(1 + 0.1 * log(p->factor));
	r->turn = calloc((size_t)p->n_rot / 2 + 1, sizeof *r->turn);
	if (r->turn == NULL)
		return err_set(e, EX_OSERR, "out of memory for the rotary table");
	for (int i = 0; i < p->n_rot / 2; i++) {
		long double turns = frequency(p, i) / (2 * pi);

		turns -= floorl(turns);
		/* 2^64 itself (rounding up) is a whole turn: 0 */
		turns = roundl(turns * 0x1p64L);
		r->turn[i] = turns >= 0x1p64L ? 0 : (uint64_t)turns;
	}
	return 0;
}

void
rope_fini(struct rope *r)
{
	free(r->turn);
	r->turn = NULL;
}

void
rope_angle(const struct rope *r, int i, int64_t position, float *cosine, float *sine)
{
	uint64_t turn = (uint64_t)position * r->turn[i];
	double angle = (double)(int64_t)turn * (2 * (double)pi * 0x1p-64);

	*cosine = (float)cos(angle) * r->scale;
	*sine = (float)sin(angle) * r->scale;
}
