/*
 * Decoders of the weight types, one row at a time, and of half floats both ways. Included by
 * quant.c (the plain path) and once more by every SIMD build, so that the
 * compiler vectorises the same lines. Every product here is exact in float32
 * (half x 8-bit scale x small integer), so each value is rounded once only and
 * fused multiply-adds give the same bits as separate ones.
 */
#ifndef SINKD_ENGINE_QUANT_DECODE_H
#define SINKD_ENGINE_QUANT_DECODE_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "engine/quant.h"

#ifdef __F16C__
#include <immintrin.h>
#endif

static inline float
decode_half(uint16_t h)
{
#ifdef __F16C__
	return _cvtsh_ss(h);
#else
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 0x1f, fraction = h & 0x3ff, bits;
	float f;

	if (exponent == 0) { /* zero and subnormals: fraction * 2^-24 is exact */
		f = (float)fraction * 0x1p-24f;
		return sign != 0 ? -f : f;
	}
	if (exponent == 31)
		bits = sign | 0x7f800000 | (fraction << 13) | (fraction != 0 ? 0x400000 : 0);
	else
		bits = sign | ((exponent + 112) << 23) | (fraction << 13);
	memcpy(&f, &bits, sizeof f);
	return f;
#endif
}

static inline float
decode_half_at(const uint8_t *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof h);
	return decode_half(h);
}

/* x rounded to the nearest half (ties to even); beyond the range the largest one, but infinity stays infinity. */
static inline uint16_t
encode_half(float x)
{
	uint32_t bits, sign;
	float magnitude;

	memcpy(&bits, &x, sizeof bits);
	sign = (bits >> 16) & 0x8000;
	bits &= 0x7fffffff;
	if (bits >= 0x7f800000)
		return (uint16_t)(sign | (bits > 0x7f800000 ? 0x7e00 : 0x7c00));
	if (bits >= 0x477ff000)
		return (uint16_t)(sign | 0x7bff);
	if (bits < 0x38800000) { /* subnormal: the sum with 0.5 has the wanted digits at its end */
		memcpy(&magnitude, &bits, sizeof magnitude);
		magnitude += 0.5f;
		memcpy(&bits, &magnitude, sizeof bits);
		return (uint16_t)(sign | (bits - 0x3f000000));
	}
	bits += 0xfff + ((bits >> 13) & 1);
	return (uint16_t)(sign | ((bits - 0x38000000) >> 13));
}

static inline float
decode_bf16(uint16_t h)
{
	uint32_t bits = (uint32_t)h << 16;
	float f;

	memcpy(&f, &bits, sizeof f);
	return f;
}

/* Block layouts are given as the fields in order; all little-endian, no padding. */

/* d: half; 16 bytes: weights 0..15 in the low nibbles, 16..31 in the high ones */
static inline void
decode_q4_0(const uint8_t *restrict b, float *restrict y)
{
	float d = decode_half_at(b);

	for (int j = 0; j < 16; j++) {
		y[j] = d * (float)((b[2 + j] & 15) - 8);
		y[j + 16] = d * (float)((b[2 + j] >> 4) - 8);
	}
}

/* d, m: half; 16 bytes as above */
static inline void
decode_q4_1(const uint8_t *restrict b, float *restrict y)
{
	float d = decode_half_at(b), m = decode_half_at(b + 2);

	for (int j = 0; j < 16; j++) {
		y[j] = d * (float)(b[4 + j] & 15) + m;
		y[j + 16] = d * (float)(b[4 + j] >> 4) + m;
	}
}

/* d: half; 32 fifth bits; 16 bytes */
static inline void
decode_q5_0(const uint8_t *restrict b, float *restrict y)
{
	float d = decode_half_at(b);
	uint32_t high;

	memcpy(&high, b + 2, sizeof high);
	for (int j = 0; j < 16; j++) {
		y[j] = d * (float)((int)((b[6 + j] & 15) | ((high >> j) & 1) << 4) - 16);
		y[j + 16] = d * (float)((int)((b[6 + j] >> 4) | ((high >> (j + 16)) & 1) << 4) - 16);
	}
}

/* d, m: half; 32 fifth bits; 16 bytes */
static inline void
decode_q5_1(const uint8_t *restrict b, float *restrict y)
{
	float d = decode_half_at(b), m = decode_half_at(b + 2);
	uint32_t high;

	memcpy(&high, b + 4, sizeof high);
	for (int j = 0; j < 16; j++) {
		y[j] = d * (float)(int)((b[8 + j] & 15) | ((high >> j) & 1) << 4) + m;
		y[j + 16] = d * (float)(int)((b[8 + j] >> 4) | ((high >> (j + 16)) & 1) << 4) + m;
	}
}

/* d: half; 32 signed bytes */
static inline void
decode_q8_0(const uint8_t *restrict b, float *restrict y)
{
	float d = decode_half_at(b);

	for (int j = 0; j < 32; j++)
		y[j] = d * (float)(int8_t)b[2 + j];
}

/* 16 bytes (scale: low nibble, min: high nibble) for 16 weights each; 64 bytes of 2-bit weights; d, dmin: half */
static inline void
decode_q2_k(const uint8_t *restrict b, float *restrict y)
{
	const uint8_t *q = b + 16;
	float d = decode_half_at(b + 80), min = decode_half_at(b + 82);

	for (int g = 0; g < 16; g++) {
		const uint8_t *p = q + (g / 8) * 32 + (g & 1) * 16;
		int shift = (g % 8) / 2 * 2;
		float scale = d * (float)(b[g] & 15), offset = min * (float)(b[g] >> 4);

		for (int j = 0; j < 16; j++)
			y[g * 16 + j] = scale * (float)((p[j] >> shift) & 3) - offset;
	}
}

/* 32 bytes of third bits; 64 bytes of 2-bit weights; 12 bytes: sixteen 6-bit scales; d: half */
static inline void
decode_q3_k(const uint8_t *restrict b, float *restrict y)
{
	const uint8_t *q = b + 32, *s = b + 96;
	float d = decode_half_at(b + 108);

	for (int g = 0; g < 16; g++) {
		const uint8_t *p = q + (g / 8) * 32 + (g & 1) * 16, *h = b + (g & 1) * 16;
		int shift = (g % 8) / 2 * 2, bit = g / 2;
		int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
		int high = (s[8 + g % 4] >> (g / 4 * 2)) & 3;
		float scale = d * (float)((low | high << 4) - 32);

		for (int j = 0; j < 16; j++)
			y[g * 16 + j] = scale * (float)(((p[j] >> shift) & 3) - (((h[j] >> bit) & 1) != 0 ? 0 : 4));
	}
}

/* The j-th 6-bit scale and min of the 12 bytes that Q4_K and Q5_K share. */
static inline void
decode_k_scale(const uint8_t *s, int j, float d, float min, float *scale, float *offset)
{
	int sc, m;

	if (j < 4) {
		sc = s[j] & 63;
		m = s[j + 4] & 63;
	} else {
		sc = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
		m = (s[j + 4] >> 4) | (s[j] >> 6) << 4;
	}
	*scale = d * (float)sc;
	*offset = min * (float)m;
}

/* d, dmin: half; 12 bytes of scales and mins for 32 weights each; 128 bytes of nibbles */
static inline void
decode_q4_k(const uint8_t *restrict b, float *restrict y)
{
	float d = decode_half_at(b), min = decode_half_at(b + 2), scale, offset;

	for (int g = 0; g < 8; g++) {
		const uint8_t *q = b + 16 + g / 2 * 32;
		int shift = (g & 1) * 4;

		decode_k_scale(b + 4, g, d, min, &scale, &offset);
		for (int j = 0; j < 32; j++)
			y[g * 32 + j] = scale * (float)((q[j] >> shift) & 15) - offset;
	}
}

/* as Q4_K with 32 bytes of fifth bits (bit g for group g) before the nibbles */
static inline void
decode_q5_k(const uint8_t *restrict b, float *restrict y)
{
	float d = decode_half_at(b), min = decode_half_at(b + 2), scale, offset;

	for (int g = 0; g < 8; g++) {
		const uint8_t *h = b + 16, *q = b + 48 + g / 2 * 32;
		int shift = (g & 1) * 4;

		decode_k_scale(b + 4, g, d, min, &scale, &offset);
		for (int j = 0; j < 32; j++)
			y[g * 32 + j] = scale * (float)(((q[j] >> shift) & 15) | ((h[j] >> g) & 1) << 4) - offset;
	}
}

/* 128 bytes of low nibbles; 64 bytes of high bit pairs; 16 signed 8-bit scales; d: half */
static inline void
decode_q6_k(const uint8_t *restrict b, float *restrict y)
{
	float d = decode_half_at(b + 208);

	for (int g = 0; g < 16; g++) {
		int half = g / 8, quarter = g % 8 / 2, part = (g & 1) * 16;
		const uint8_t *l = b + half * 64 + (quarter & 1) * 32 + part, *h = b + 128 + half * 32 + part;
		int lshift = quarter / 2 * 4, hshift = quarter * 2;
		float scale = d * (float)(int8_t)b[192 + g];

		for (int j = 0; j < 16; j++)
			y[g * 16 + j] = scale * (float)((((l[j] >> lshift) & 15) | ((h[j] >> hshift) & 3) << 4) - 32);
	}
}

/* dst[n] = the n weights of the given type at src. */
static inline void
decode_row(uint32_t type, const void *restrict src, int64_t n, float *restrict dst)
{
	const uint8_t *b = src;

#define DECODE_BLOCKS(decode, block, bytes) \
	for (int64_t i = 0; i < n; i += (block), b += (bytes)) \
		decode(b, dst + i); \
	break
	switch ((enum quant_type)type) {
	case QUANT_F32:
		memcpy(dst, src, (size_t)n * sizeof(float));
		break;
	case QUANT_F16:
		for (int64_t i = 0; i < n; i++)
			dst[i] = decode_half(((const uint16_t *)src)[i]);
		break;
	case QUANT_BF16:
		for (int64_t i = 0; i < n; i++)
			dst[i] = decode_bf16(((const uint16_t *)src)[i]);
		break;
	case QUANT_Q4_0: DECODE_BLOCKS(decode_q4_0, 32, 18);
	case QUANT_Q4_1: DECODE_BLOCKS(decode_q4_1, 32, 20);
	case QUANT_Q5_0: DECODE_BLOCKS(decode_q5_0, 32, 22);
	case QUANT_Q5_1: DECODE_BLOCKS(decode_q5_1, 32, 24);
	case QUANT_Q8_0: DECODE_BLOCKS(decode_q8_0, 32, 34);
	case QUANT_Q2_K: DECODE_BLOCKS(decode_q2_k, 256, 84);
	case QUANT_Q3_K: DECODE_BLOCKS(decode_q3_k, 256, 110);
	case QUANT_Q4_K: DECODE_BLOCKS(decode_q4_k, 256, 144);
	case QUANT_Q5_K: DECODE_BLOCKS(decode_q5_k, 256, 176);
	case QUANT_Q6_K: DECODE_BLOCKS(decode_q6_k, 256, 210);
	}
#undef DECODE_BLOCKS
}

#endif
