/*
 * The vector code paths, written once: a file includes this with KERNELS (the
 * name of its table), MICRO_ROWS and MICRO_PANELS (the register block) defined,
 * and is compiled for its instruction set. Every sum over k has one accumulator
 * per result and runs in order, so neither the register block nor the number of
 * rows shows in a result.
 */
#include <math.h>

#include "engine/cpu/kernels.h"
#include "engine/cpu/simd.h"
#include "engine/quant.h"
#include "engine/quant_decode.h"

enum { PANEL_VECS = PANEL / LANES };

#ifdef __AVX512BF16__
static inline __m512i
round_pair(const float *lo)
{
	return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(lo + 16), _mm512_loadu_ps(lo));
}

#endif

static inline uint16_t
round_bf16(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof bits);
	return x != x ? (uint16_t)(bits >> 16 | 0x40) : (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static void
to_bf16(const float *x, int64_t n, uint16_t *y)
{
	int64_t i = 0;

#ifdef __AVX512BF16__
	for (; i + 32 <= n; i += 32)
		_mm512_storeu_si512(y + i, round_pair(x + i));
#endif
	for (; i < n; i++)
		y[i] = round_bf16(x[i]);
	if (n % 2 != 0)
		y[n] = 0;
}

#ifdef __AVX512F__
#include "engine/cpu/kernels_words.h"
#endif
#ifdef __AVX512BF16__
#include "engine/cpu/kernels_bf16.h"
#endif
#ifdef __AVX512VNNI__
#include "engine/cpu/kernels_q8.h"
#endif

static enum panel_kind
simd_kind(uint32_t type)
{
	/* F32 and F16 weights have more digits than bfloat16 keeps. */
	if (type == QUANT_F32 || type == QUANT_F16)
		return PANEL_F32;
#ifdef __AVX512BF16__
	if (type == QUANT_BF16)
		return PANEL_BF16;
#endif
#ifdef __AVX512VNNI__
	if (type != QUANT_BF16)
		return PANEL_Q8;
#endif
	return PANEL_F32;
}

static void
simd_to_f16(const float *x, int64_t n, uint16_t *y)
{
	int64_t i = 0;

#ifdef __F16C__
	for (; i + 8 <= n; i += 8) {
		const __m256 most = _mm256_set1_ps(65504), minus = _mm256_set1_ps(-0.0f), f = _mm256_loadu_ps(x + i);
		__m256 infinite = _mm256_cmp_ps(_mm256_andnot_ps(minus, f), _mm256_set1_ps(INFINITY), _CMP_EQ_OQ);
		/* The bound comes first: NaN stays NaN. */
		__m256 v = _mm256_min_ps(most, _mm256_max_ps(_mm256_xor_ps(minus, most), f));

		v = _mm256_blendv_ps(v, f, infinite);
		_mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
	}
#endif
	for (; i < n; i++)
		y[i] = encode_half(x[i]);
}

static void
simd_from_f16(const uint16_t *x, int64_t n, float *y)
{
	int64_t i = 0;

#ifdef __F16C__
	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
#endif
	for (; i < n; i++)
		y[i] = decode_half(x[i]);
}

static void
simd_from_pairs(const uint16_t *restrict x, int64_t lanes, int64_t pairs, float *restrict y)
{
	for (int64_t p = 0; p < pairs; p++, x += 2 * lanes, y += 2 * lanes)
		for (int64_t i = 0; i < lanes; i++) {
			y[i] = decode_bf16(x[2 * i]);
			y[lanes + i] = decode_bf16(x[2 * i + 1]);
		}
}

static float
simd_to_q8(const float *x, int64_t n, int8_t *y)
{
	uint32_t bits = 0;
	float largest;

	/* Magnitudes compare like their bits, and NaN is the largest. */
	for (int64_t i = 0; i < n; i++) {
		uint32_t b;

		memcpy(&b, &x[i], sizeof b);
		b &= 0x7fffffff;
		bits = b > bits ? b : bits;
	}
	memcpy(&largest, &bits, sizeof largest);
	if (!isfinite(largest)) {
		memset(y, 0, (size_t)n);
		return NAN;
	}
	/* Adding 1.5 * 2^23 rounds to the nearest even integer, as lrintf does. */
	for (int64_t i = 0; i < n; i++)
		y[i] = (int8_t)(int32_t)((x[i] * (largest > 0 ? 127 / largest : 0) + 0x1.8p23f) - 0x1.8p23f);
	return largest / 127;
}

static void
simd_from_q8(const int8_t *restrict x, int64_t n, const float *restrict scales, bool lanes, float *restrict y)
{
	if (!lanes) {
		for (int64_t i = 0; i < n; i++)
			y[i] = (float)x[i] * scales[0];
		return;
	}
	for (int64_t i = 0; i < n; i += PANEL)
		for (int l = 0; l < PANEL; l++)
			y[i + l] = (float)x[i + l] * scales[l];
}

/* rows[PANEL][ld] -> panel[k][PANEL] */
static void
interleave_f32(const float *rows, int64_t ld, int64_t k, float *panel)
{
	int64_t i = 0;

#ifdef __AVX512F__
	for (; i + 16 <= k; i += 16) {
		__m512i r[16];

		for (int j = 0; j < 16; j++)
			r[j] = _mm512_loadu_si512(rows + j * ld + i);
		transpose16(r);
		for (int j = 0; j < 16; j++)
			_mm512_storeu_si512(panel + (i + j) * PANEL, r[j]);
	}
#endif
	for (; i < k; i++)
		for (int j = 0; j < PANEL; j++)
			panel[i * PANEL + j] = rows[j * ld + i];
}

/* One panel of up to PANEL rows, decoded to scratch and interleaved. */
static void
pack_rows(const struct weight *w, int64_t first, int rows, int64_t k0, int64_t k, float *panel, float *scratch)
{
	size_t row_size = quant_row_size(w->type, w->cols), offset = quant_row_size(w->type, k0);
	const char *src = (const char *)w->data + (size_t)first * row_size + offset;

	for (int r = 0; r < PANEL; r++) {
		if (r < rows)
			decode_row(w->type, src + (size_t)r * row_size, k, scratch + r * k);
		else
			memset(scratch + r * k, 0, (size_t)k * sizeof *scratch);
	}
	interleave_f32(scratch, k, k, panel);
}

/* Is a type read by way of words? */
static bool
simd_wants_words(uint32_t type)
{
#ifdef __AVX512F__
	return simd_kind(type) == PANEL_Q8 || type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16;
#else
	(void)type;
	return false;
#endif
}

#ifdef __AVX512F__
/* Columns whose words are unpacked in one go: they stay in the first-level cache. */
enum { WORDS_K = 512 };

/* As pack_panel, for types that are read by way of words; those of all columns, or NULL. */
static void
pack_words(enum panel_kind kind, const struct weight *w, int64_t first, int rows, int64_t k0, int64_t k,
    const uint32_t *words, void *panel, float *scratch)
{
	if (w->type == QUANT_F32 || kind == PANEL_BF16) { /* words are what a panel is made of */
		words_transpose(w, first, rows, k0, k, panel);
		return;
	}
	for (int64_t i = 0; i < k; i += WORDS_K) {
		int64_t n = k - i < WORDS_K ? k - i : WORDS_K;
		const uint32_t *part = words != NULL ? words + quant_row_size(w->type, k0 + i) / 4 * PANEL
		    : (uint32_t *)scratch;

		if (words == NULL)
			words_transpose(w, first, rows, k0 + i, n, (uint32_t *)scratch);
#ifdef __AVX512VNNI__
		if (kind == PANEL_Q8) {
			q8_unpack(w->type, part, n, (uint8_t *)panel + i / Q8_BLOCK *
			    Q8_PANEL_BLOCK(q8_scales(w->type)));
			continue;
		}
#endif
		words_to_f32(w->type, part, n, (float *)panel + i * PANEL);
	}
}
#endif

static void
pack_panel(enum panel_kind kind, const struct weight *w, int64_t first, int rows, int64_t k0, int64_t k, void *panel,
    float *scratch)
{
	(void)kind;
#ifdef __AVX512F__
	if (simd_wants_words(w->type)) {
		pack_words(kind, w, first, rows, k0, k, kernels_kept_words(w, first), panel, scratch);
		return;
	}
#endif
	pack_rows(w, first, rows, k0, k, panel, scratch);
}

/* Bytes of a panel. */
static int64_t
panel_size(enum panel_kind kind, uint32_t type, int64_t k)
{
	(void)type;
#ifdef __AVX512VNNI__
	if (kind == PANEL_Q8)
		return k / Q8_BLOCK * Q8_PANEL_BLOCK(q8_scales(type));
#endif
	return kind == PANEL_BF16 ? (k + k % 2) * PANEL * (int64_t)sizeof(uint16_t)
	    : k * PANEL * (int64_t)sizeof(float);
}

static const void *
simd_pack(enum panel_kind kind, const struct weight *w, int64_t first, int rows, int64_t k0, int64_t k, void *panels,
    float *scratch, int64_t *stride)
{
	int64_t size = panel_size(kind, w->type, k);

	if (kernels_keeps_panels(kind, w)) {
		*stride = kernels_count_words(w) * (int64_t)sizeof(uint32_t);
		return kernels_kept_words(w, first) + quant_row_size(w->type, k0) / sizeof(uint32_t) * PANEL;
	}
	*stride = size;
	for (int p = 0; p * PANEL < rows; p++)
		pack_panel(kind, w, first + p * PANEL, rows - p * PANEL < PANEL ? rows - p * PANEL : PANEL, k0, k,
		    (char *)panels + p * size, scratch);
	return panels;
}

/* The register block: rows x panels results, each with an accumulator of its own. Both counts are constants. */
static inline __attribute__((always_inline)) void
micro(int rows, int panels, const float *x, int64_t ldx, int64_t k, const float *panel, int64_t pstride,
    int64_t kstride, float *y, int64_t ldy, bool add)
{
	vec acc[MICRO_ROWS][MICRO_PANELS * PANEL_VECS];

	for (int i = 0; i < rows; i++)
		for (int p = 0; p < panels; p++)
			for (int v = 0; v < PANEL_VECS; v++)
				acc[i][p * PANEL_VECS + v] = add ? vec_load(y + i * ldy + p * PANEL + v * LANES)
				    : vec_set(0);
	for (int64_t c = 0; c < k; c++) {
		vec w[MICRO_PANELS * PANEL_VECS];

		for (int p = 0; p < panels; p++)
			for (int v = 0; v < PANEL_VECS; v++)
				w[p * PANEL_VECS + v] = vec_load(panel + p * pstride + c * kstride + v * LANES);
		for (int i = 0; i < rows; i++) {
			vec b = vec_set(x[i * ldx + c]);

			for (int j = 0; j < panels * PANEL_VECS; j++)
				acc[i][j] = vec_fma(b, w[j], acc[i][j]);
		}
	}
	for (int i = 0; i < rows; i++)
		for (int p = 0; p < panels; p++)
			for (int v = 0; v < PANEL_VECS; v++)
				vec_store(y + i * ldy + p * PANEL + v * LANES, acc[i][p * PANEL_VECS + v]);
}

/* All rows against a constant number of panels. */
#define ROWS_CASE(r) \
	case r: \
		micro(r, panels, x, ldx, k, panel, pstride, kstride, y, ldy, add); \
		break

static inline __attribute__((always_inline)) void
strip(int panels, const float *x, int64_t ldx, int n, int64_t k, const float *panel, int64_t pstride, int64_t kstride,
    float *y, int64_t ldy, bool add)
{
	for (; n >= MICRO_ROWS; n -= MICRO_ROWS, x += MICRO_ROWS * ldx, y += MICRO_ROWS * ldy)
		micro(MICRO_ROWS, panels, x, ldx, k, panel, pstride, kstride, y, ldy, add);
	switch (n) {
#if MICRO_ROWS > 6
		ROWS_CASE(7);
		ROWS_CASE(6);
#endif
#if MICRO_ROWS > 4
		ROWS_CASE(5);
		ROWS_CASE(4);
#endif
#if MICRO_ROWS > 2
		ROWS_CASE(3);
		ROWS_CASE(2);
#endif
		ROWS_CASE(1);
	}
}
#undef ROWS_CASE

static void
simd_product(const float *x, int64_t ldx, int n, int64_t k, const float *panel, int64_t pstride, int64_t kstride,
    int n_panels, float *y, int64_t ldy, bool add)
{
	while (n_panels > 0) {
		/* four panels are better cut into two and two than into three and one */
		int panels = n_panels < MICRO_PANELS ? n_panels : MICRO_PANELS;

		if (n_panels == MICRO_PANELS + 1 && MICRO_PANELS > 1)
			panels = (n_panels + 1) / 2;
		if (panels == 1)
			strip(1, x, ldx, n, k, panel, pstride, kstride, y, ldy, add);
#if MICRO_PANELS > 1
		else if (panels == 2)
			strip(2, x, ldx, n, k, panel, pstride, kstride, y, ldy, add);
		else
			strip(3, x, ldx, n, k, panel, pstride, kstride, y, ldy, add);
#endif
		n_panels -= panels;
		panel += panels * pstride;
		y += panels * PANEL;
	}
}

static float
sum_of(const float *x, int64_t n)
{
	vec sum = vec_set(0);
	float tail = 0;
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		sum += vec_load(x + i);
	for (; i < n; i++)
		tail += x[i];
	return vec_sum(sum) + tail;
}

/* The sum of (x - mean)^2 */
static float
squares_of(const float *x, int64_t n, float mean)
{
	vec sum = vec_set(0), m = vec_set(mean);
	float tail = 0;
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		vec d = vec_load(x + i) - m;

		sum = vec_fma(d, d, sum);
	}
	for (; i < n; i++)
		tail += (x[i] - mean) * (x[i] - mean);
	return vec_sum(sum) + tail;
}

static void
simd_norm(enum norm_kind kind, float eps, const float *weight, const float *bias, const float *x, int64_t n, float *y)
{
	float mean = kind == NORM_LAYER ? sum_of(x, n) / (float)n : 0;
	float scale = 1 / sqrtf(squares_of(x, n, mean) / (float)n + eps);

	for (int64_t i = 0; i < n; i++)
		y[i] = (x[i] - mean) * scale * weight[i];
	for (int64_t i = 0; bias != NULL && i < n; i++)
		y[i] += bias[i];
}

static float
simd_exp_sum(float *x, int64_t n, float m)
{
	vec sum[PANEL_VECS], largest = vec_set(m);

	for (int v = 0; v < PANEL_VECS; v++)
		sum[v] = vec_set(0);
	for (int64_t i = 0; i < n; i += PANEL)
		for (int v = 0; v < PANEL_VECS; v++) {
			vec e = vec_exp(vec_load(x + i + v * LANES) - largest);

			vec_store(x + i + v * LANES, e);
			sum[v] += e;
		}
	for (int v = 1; v < PANEL_VECS; v++)
		sum[0] += sum[v];
	return vec_sum(sum[0]);
}

static float
simd_max(const float *x, int64_t n)
{
	vec m = vec_load(x);

	for (int64_t i = LANES; i < n; i += LANES)
		m = vec_max(m, vec_load(x + i));
	return vec_largest(m);
}

/* x / (1 + exp(-f)): the logistic function of f times x, which all three activations are or contain */
static inline vec
vec_logistic(vec x, vec f)
{
	return x / (vec_set(1) + vec_exp(vec_set(0) - f));
}

/* GELU in its tanh form: 0.5 x (1 + tanh(u)) = x * logistic(2 u) */
static inline vec
vec_gelu_tanh(vec x)
{
	vec u = vec_fma(x * x * x, vec_set(0.044715f), x);

	return vec_logistic(x, u * vec_set(1.5957691216057308f));
}

static void
simd_activate(enum activation act, const float *gate, const float *up, int64_t n, float *y)
{
	int64_t i = 0;

	if (act == ACT_GELU) { /* the exact form; erff is the C library's */
		for (; i < n; i++)
			y[i] = 0.5f * gate[i] * (1 + erff(gate[i] * 0.70710678118654752f)) * (up != NULL ? up[i] : 1);
		return;
	}
	for (; i < n; i += LANES) {
		int64_t part = n - i < LANES ? n - i : LANES;
		float buf[LANES] = { 0 }, other[LANES] = { 0 };
		vec x, v;

		if (part == LANES) {
			x = vec_load(gate + i);
		} else {
			memcpy(buf, gate + i, (size_t)part * sizeof *buf);
			x = vec_load(buf);
		}
		v = act == ACT_SILU ? vec_logistic(x, x) : vec_gelu_tanh(x);
		if (part == LANES) {
			if (up != NULL)
				v = v * vec_load(up + i);
			vec_store(y + i, v);
			continue;
		}
		if (up != NULL) {
			memcpy(other, up + i, (size_t)part * sizeof *other);
			v = v * vec_load(other);
		}
		vec_store(buf, v);
		memcpy(y + i, buf, (size_t)part * sizeof *buf);
	}
}

/* Pairs (2 i, 2 i + 1): a value times its cosine, plus its partner times the sine, negative for the first of a pair. */
static void
rotate_pairs(const float *cosines, const float *sines, int n, const float *x, float *y)
{
	int i = 0;

	for (; i + LANES <= n; i += LANES) {
		vec v = vec_load(x + i);

		vec_store(y + i, v * vec_load(cosines + i) + vec_swap(v) * vec_load(sines + i));
	}
	for (; i < n; i += 2) {
		float a = x[i], b = x[i + 1];

		y[i] = a * cosines[i] + b * sines[i];
		y[i + 1] = b * cosines[i + 1] + a * sines[i + 1];
	}
}

/* n pairs (i, i + apart) */
static void
rotate_halves(const float *cosines, const float *sines, int n, int apart, const float *x, float *y)
{
	int i = 0;

	for (; i + LANES <= n; i += LANES) {
		vec a = vec_load(x + i), b = vec_load(x + apart + i), c = vec_load(cosines + i),
		    s = vec_load(sines + i);

		vec_store(y + i, a * c - b * s);
		vec_store(y + apart + i, a * s + b * c);
	}
	for (; i < n; i++) {
		float a = x[i], b = x[apart + i];

		y[i] = a * cosines[i] - b * sines[i];
		y[apart + i] = a * sines[i] + b * cosines[i];
	}
}

/* Pairs whose angles are laid out at a time, for all heads. */
enum { ROTATE_PAIRS = 256 };

static void
simd_rotate(const struct rope *r, const float *table, const float *x, int heads, int d, float *y)
{
	float cosines[2 * ROTATE_PAIRS], sines[2 * ROTATE_PAIRS];
	bool neighbours = r->style == ROPE_PAIRS;
	int half = r->n_rot / 2;

	for (int first = 0; first < half; first += ROTATE_PAIRS) {
		int n = half - first < ROTATE_PAIRS ? half - first : ROTATE_PAIRS;

		for (int i = 0; i < n; i++) {
			float c = table[2 * (first + i)], s = table[2 * (first + i) + 1];

			if (neighbours) {
				cosines[2 * i] = cosines[2 * i + 1] = c;
				sines[2 * i] = -s;
				sines[2 * i + 1] = s;
			} else {
				cosines[i] = c;
				sines[i] = s;
			}
		}
		for (int h = 0; h < heads; h++) {
			if (neighbours)
				rotate_pairs(cosines, sines, 2 * n, x + h * d + 2 * first, y + h * d + 2 * first);
			else
				rotate_halves(cosines, sines, n, half, x + h * d + first, y + h * d + first);
		}
	}
	for (int h = 0; h < heads && y != x; h++)
		for (int i = r->n_rot; i < d; i++)
			y[h * d + i] = x[h * d + i];
}

const struct cpu_kernels KERNELS = {
	.kind = simd_kind,
	.wants_words = simd_wants_words,
#ifdef __AVX512F__
	.transpose = words_transpose,
	.product_half = words_product_half,
#endif
	.decode = decode_row,
	.pack = simd_pack,
#ifdef __AVX512BF16__
	.product_bf16 = product_bf16,
#endif
#ifdef __AVX512VNNI__
	.to_q8_blocks = to_q8_blocks,
	.product_q8 = product_q8,
	.product_few = product_few,
#endif
	.to_bf16 = to_bf16,
	.to_f16 = simd_to_f16,
	.from_f16 = simd_from_f16,
	.from_pairs = simd_from_pairs,
	.to_q8 = simd_to_q8,
	.from_q8 = simd_from_q8,
	.product = simd_product,
	.norm = simd_norm,
	.exp_sum = simd_exp_sum,
	.max = simd_max,
	.activate = simd_activate,
	.rotate = simd_rotate,
};
