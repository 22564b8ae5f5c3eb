/* Are numbers finite? Cheap enough to ask of every hidden row and every logit. */
#ifndef SINKD_ENGINE_FINITE_H
#define SINKD_ENGINE_FINITE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* False where one of x[n] is NaN or infinite: all bits of its exponent are set. */
static inline bool
floats_are_finite(const float *x, int64_t n)
{
	const uint32_t exponent = 0x7f800000;
	uint32_t bad = 0;

	for (int64_t i = 0; i < n; i++) {
		uint32_t bits;

		memcpy(&bits, &x[i], sizeof bits);
		bad |= (bits & exponent) == exponent;
	}
	return bad == 0;
}

#endif
