/*
 * Weights in words, for kernels_simd.h with AVX-512: sixteen rows of the file
 * side by side, 32 bits of each at a time. In this order they are read from
 * memory as one stream, and what remains to be done is bits within a lane.
 */

enum { WORDS_PANELS = 3 };

/* Transpose 16 rows of 16 32-bit values in registers. */
static inline void
transpose16(__m512i r[16])
{
	__m512i t[16];

	for (int i = 0; i < 16; i += 2) {
		t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
	}
	for (int i = 0; i < 16; i += 4) {
		r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (int i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
	}
	for (int i = 0; i < 4; i++) {
		r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
		r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
		r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
		r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
	}
}

static void
words_transpose(const struct weight *w, int64_t first, int rows, int64_t k0, int64_t k, uint32_t *words)
{
	size_t stride = quant_row_size(w->type, w->cols), length = quant_row_size(w->type, k);
	const char *src = (const char *)w->data + (size_t)first * stride + quant_row_size(w->type, k0);

	for (size_t i = 0; i < length; i += 64, words += 16 * PANEL) {
		__mmask64 there = length - i < 64 ? (UINT64_C(1) << (length - i)) - 1 : ~UINT64_C(0);
		size_t n = length - i < 64 ? (length - i + 3) / 4 : 16;
		__m512i t[16];

		for (int r = 0; r < 16; r++)
			t[r] = _mm512_maskz_loadu_epi8(r < rows ? there : 0,
			    src + (r < rows ? (size_t)r * stride : 0) + i);
		transpose16(t);
		for (size_t j = 0; j < n; j++)
			_mm512_store_si512(words + j * PANEL, t[j]);
	}
}

/* The low and the high halves of words as float16, in float32. */
static inline __m512
low_half(__m512i w)
{
	return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(w));
}

static inline __m512
high_half(__m512i w)
{
	return low_half(_mm512_srli_epi32(w, 16));
}

/* words of pairs of halves or of bfloat16 -> panel[k][PANEL] */
static void
words_to_f32(uint32_t type, const uint32_t *words, int64_t k, float *panel)
{
	for (int64_t i = 0; i < k; i += 2, words += PANEL) {
		__m512i w = _mm512_load_si512(words);
		__m512 low = type == QUANT_F16 ? low_half(w) : _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
		__m512 high = type == QUANT_F16 ? high_half(w)
		                                : _mm512_castsi512_ps(_mm512_and_si512(w,
		                                _mm512_set1_epi32((int)0xffff0000)));

		_mm512_store_ps(panel + i * PANEL, low);
		if (i + 1 < k)
			_mm512_store_ps(panel + (i + 1) * PANEL, high);
	}
}

/* A row of x times panels of float16 weights, unpacked as they are read: the sums of product, in its order. */
static inline __attribute__((always_inline)) void
micro_half(int panels, const float *x, int64_t k, const uint32_t *words, int64_t pstride, float *y)
{
	__m512 acc[WORDS_PANELS];

	for (int p = 0; p < panels; p++)
		acc[p] = _mm512_setzero_ps();
	for (int64_t i = 0; i < k; i += 2, words += PANEL) {
		__m512 first = _mm512_set1_ps(x[i]), second = _mm512_set1_ps(i + 1 < k ? x[i + 1] : 0);

		for (int p = 0; p < panels; p++) {
			__m512i w = _mm512_load_si512(words + p * pstride);

			acc[p] = _mm512_fmadd_ps(first, low_half(w), acc[p]);
			if (i + 1 < k)
				acc[p] = _mm512_fmadd_ps(second, high_half(w), acc[p]);
		}
	}
	for (int p = 0; p < panels; p++)
		_mm512_storeu_ps(y + p * PANEL, acc[p]);
}

static void
words_product_half(const float *x, int64_t ldx, int n, int64_t k, const uint32_t *words, int64_t pstride, int n_panels,
    float *y, int64_t ldy)
{
	for (int r = 0; r < n; r++, x += ldx, y += ldy)
		for (int p = 0; p < n_panels; p += WORDS_PANELS) {
			if (n_panels - p == 1)
				micro_half(1, x, k, words + p * pstride, pstride, y + p * PANEL);
			else if (n_panels - p == 2)
				micro_half(2, x, k, words + p * pstride, pstride, y + p * PANEL);
			else
				micro_half(3, x, k, words + p * pstride, pstride, y + p * PANEL);
		}
}
