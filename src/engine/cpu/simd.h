/*
 * A vector of floats, as wide as the file that includes this is compiled for,
 * and the few operations on it that plain C operators do not give. Everything
 * else in kernels_simd.h is written once for all widths.
 *
 * NaN: vec_max and vec_min give their second operand where either is NaN, so a
 * bound comes first and NaN stays NaN. vec_clear_below(a, x, bound) is 0 where
 * x < bound, else a: also where x is NaN.
 */
#ifndef SINKD_ENGINE_SIMD_H
#define SINKD_ENGINE_SIMD_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)

enum { LANES = 16 };
typedef __m512 vec;

static inline vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
static inline vec vec_set(float x) { return _mm512_set1_ps(x); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec vec_min(vec a, vec b) { return _mm512_min_ps(a, b); }
static inline vec vec_round(vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/* a * 2^n for integral n */
static inline vec vec_scale(vec a, vec n) { return _mm512_scalef_ps(a, n); }
static inline vec vec_clear_below(vec a, vec x, vec bound)
{
	return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ), a);
}
/* lanes 2i and 2i + 1 exchanged */
static inline vec vec_swap(vec a) { return _mm512_permute_ps(a, 0xb1); }

#elif defined(__AVX2__)

enum { LANES = 8 };
typedef __m256 vec;

static inline vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
static inline vec vec_set(float x) { return _mm256_set1_ps(x); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec vec_min(vec a, vec b) { return _mm256_min_ps(a, b); }
static inline vec vec_round(vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vec vec_scale(vec a, vec n)
{
	__m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);

	return _mm256_mul_ps(a, _mm256_castsi256_ps(e));
}
static inline vec vec_clear_below(vec a, vec x, vec bound)
{
	return _mm256_and_ps(a, _mm256_cmp_ps(x, bound, _CMP_NLT_UQ));
}
static inline vec vec_swap(vec a) { return _mm256_permute_ps(a, 0xb1); }

#else

/* The compiler's own four lanes: SSE2, NEON or scalars, whatever the processor has. */
enum { LANES = 4 };
typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_int __attribute__((vector_size(16)));

static inline vec vec_load(const float *p) { vec v; memcpy(&v, p, sizeof v); return v; }
static inline void vec_store(float *p, vec v) { memcpy(p, &v, sizeof v); }
static inline vec vec_set(float x) { return (vec){ x, x, x, x }; }
static inline vec vec_fma(vec a, vec b, vec c) { return a * b + c; }
static inline vec vec_select(vec_int m, vec a, vec b) { return (vec)((m & (vec_int)a) | (~m & (vec_int)b)); }
static inline vec vec_max(vec a, vec b) { return vec_select(a > b, a, b); }
static inline vec vec_min(vec a, vec b) { return vec_select(a < b, a, b); }
/* Rounds by adding 1.5 * 2^23; for |a| < 2^22 only. */
static inline vec vec_round(vec a) { vec big = vec_set(0x1.8p23f); return (a + big) - big; }
static inline vec vec_scale(vec a, vec n)
{
	vec_int e = (__builtin_convertvector(n, vec_int) + 127) * (1 << 23);

	return a * (vec)e;
}
static inline vec vec_clear_below(vec a, vec x, vec bound) { return (vec)(~(x < bound) & (vec_int)a); }
static inline vec vec_swap(vec a) { return (vec){ a[1], a[0], a[3], a[2] }; }

#endif

/* The sum and the maximum over the lanes, in a fixed order. */
static inline float
vec_sum(vec v)
{
	float x[LANES];

	vec_store(x, v);
	for (int n = LANES / 2; n > 0; n /= 2)
		for (int i = 0; i < n; i++)
			x[i] += x[i + n];
	return x[0];
}

static inline float
vec_largest(vec v)
{
	float x[LANES];

	vec_store(x, v);
	for (int n = LANES / 2; n > 0; n /= 2)
		for (int i = 0; i < n; i++)
			x[i] = x[i] > x[i + n] ? x[i] : x[i + n];
	return x[0];
}

/*
 * exp(x) to about 1 ulp for x <= 88; below -87.3 (results that are no normal
 * numbers) it is 0. NaN stays NaN. Range reduction and polynomial as in Cephes'
 * expf.
 */
static inline vec
vec_exp(vec x)
{
	vec y = vec_min(vec_set(88.3f), vec_max(vec_set(-87.3f), x));
	vec n = vec_round(y * vec_set(1.44269504088896341f));
	vec r = vec_fma(n, vec_set(-0.693359375f), y), p;

	r = vec_fma(n, vec_set(2.12194440e-4f), r);
	p = vec_set(1.9875691500e-4f);
	p = vec_fma(p, r, vec_set(1.3981999507e-3f));
	p = vec_fma(p, r, vec_set(8.3334519073e-3f));
	p = vec_fma(p, r, vec_set(4.1665795894e-2f));
	p = vec_fma(p, r, vec_set(1.6666665459e-1f));
	p = vec_fma(p, r, vec_set(5.0000001201e-1f));
	p = vec_fma(p, r * r, r + vec_set(1));
	return vec_clear_below(vec_scale(p, n), x, vec_set(-87.3f));
}

#endif
