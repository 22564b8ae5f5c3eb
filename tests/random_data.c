/* Random test data; see random_data.h. */
#include "random_data.h"

#include <math.h>
#include <string.h>

#include "engine/quant.h"

uint64_t
random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

float
random_float(uint64_t *state)
{
	return (float)(int32_t)(random_next(state) >> 32) * 0x1p-31f;
}

float
random_normal(uint64_t *state, float deviation)
{
	float sum = 0;

	/* Twelve uniform numbers in [-1, 1) have a variance of 4. */
	for (int i = 0; i < 12; i += 3) {
		uint64_t bits = random_next(state);

		for (int j = 0; j < 3; j++)
			sum += (float)((int)(bits >> (21 * j) & 0x1fffff) - 0x100000) * 0x1p-20f;
	}
	return sum * deviation / 2;
}

uint16_t
random_half(float x)
{
	uint32_t bits, sign;
	float magic;

	memcpy(&bits, &x, sizeof bits);
	sign = bits >> 16 & 0x8000;
	x = fabsf(x);
	if (x < 0x1p-14f) { /* subnormal: adding 0.5 leaves x's multiple of 2^-24 in the lowest bits */
		magic = x + 0.5f;
		memcpy(&bits, &magic, sizeof bits);
		return (uint16_t)(sign | (bits - 0x3f000000));
	}
	memcpy(&bits, &x, sizeof bits);
	bits += 0xfff + (bits >> 13 & 1);
	return (uint16_t)(sign | ((bits - 0x38000000) >> 13));
}

static uint16_t
random_bf16(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof bits);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void
put_half(uint8_t *at, float x)
{
	uint16_t h = random_half(x);

	memcpy(at, &h, sizeof h);
}

/*
 * Where a block of random bits keeps its scale and its minimum, and what they
 * must be so that the weights have mean zero and deviation one: for integers q
 * in 0 .. max the scale is 1 / deviation(q) and the minimum balances the mean.
 * Scales of the K types multiply random 4- or 6-bit (or signed 8-bit) numbers.
 */
struct block_form {
	uint32_t type;
	int scale_at, min_at; /* min_at < 0: none */
	float scale, min;
};
static const struct block_form forms[] = {
	{ QUANT_Q4_0, 0, -1, 0.217f, 0 },
	{ QUANT_Q4_1, 0, 2, 0.217f, -1.63f },
	{ QUANT_Q5_0, 0, -1, 0.108f, 0 },
	{ QUANT_Q5_1, 0, 2, 0.108f, -1.68f },
	{ QUANT_Q8_0, 0, -1, 0.0135f, 0 },
	{ QUANT_Q2_K, 80, 82, 0.0717f, 0.1096f },
	{ QUANT_Q3_K, 108, -1, 0.0236f, 0 },
	{ QUANT_Q4_K, 0, 2, 0.00388f, 0.0289f },
	{ QUANT_Q5_K, 0, 2, 0.0019f, 0.0294f },
	{ QUANT_Q6_K, 208, -1, 0.00073f, 0 },
};

void
random_weights(uint64_t *state, uint32_t type, int64_t n, float deviation, void *dst)
{
	size_t size = quant_row_size(type, n), block = (size_t)quant_get_info(type)->bytes;
	uint8_t *p = dst;

	if (type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16) {
		for (int64_t i = 0; i < n; i++) {
			float x = random_normal(state, deviation);

			if (type == QUANT_F32)
				((float *)dst)[i] = x;
			else
				((uint16_t *)dst)[i] = type == QUANT_F16 ? random_half(x) : random_bf16(x);
		}
		return;
	}
	for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
		uint64_t bits = random_next(state);

		memcpy(p + i, &bits, size - i < sizeof bits ? size - i : sizeof bits);
	}
	for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++)
		for (size_t i = 0; forms[f].type == type && i < size; i += block) {
			float vary = deviation * (1 + 0.25f * random_float(state));

			put_half(p + i + forms[f].scale_at, forms[f].scale * vary);
			if (forms[f].min_at >= 0)
				put_half(p + i + forms[f].min_at, forms[f].min * vary);
		}
}
