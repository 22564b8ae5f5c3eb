/*
 * Products in integers (vpdpbusd), for kernels_simd.h: quantised weights as
 * they are, w = s q + m with 8-bit q >= 0, times activations rounded to 8 bits
 * in blocks of 32. The sum over a block is exact; blocks are added in order in
 * float32. kernels.h says what a panel holds.
 */
enum { Q8_ROWS = 4, Q8_PANELS = 3 };

/* Magnitudes compare like their bits, and NaN is the largest. */
static inline __m512i
magnitudes(const float *x)
{
	return _mm512_and_si512(_mm512_loadu_si512(x), _mm512_set1_epi32(0x7fffffff));
}

/* The largest magnitude of each of four blocks; of a block with NaN it is NaN. */
static inline __attribute__((always_inline)) __m128
largest_of_four(const float *x)
{
	__m512i m[4], t, u;
	__m256i half;

	for (int i = 0; i < 4; i++)
		m[i] = _mm512_max_epi32(magnitudes(x + i * Q8_BLOCK), magnitudes(x + i * Q8_BLOCK + 16));
	t = _mm512_max_epi32(_mm512_unpacklo_epi32(m[0], m[1]), _mm512_unpackhi_epi32(m[0], m[1]));
	u = _mm512_max_epi32(_mm512_unpacklo_epi32(m[2], m[3]), _mm512_unpackhi_epi32(m[2], m[3]));
	t = _mm512_max_epi32(_mm512_unpacklo_epi64(t, u), _mm512_unpackhi_epi64(t, u));
	half = _mm256_max_epi32(_mm512_castsi512_si256(t), _mm512_extracti64x4_epi64(t, 1));
	return _mm_castsi128_ps(_mm_max_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

static inline __attribute__((always_inline)) void
four_q8_blocks(const float *x, struct q8_block *y)
{
	__m128 largest = largest_of_four(x), scale = _mm_div_ps(largest, _mm_set1_ps(127));
	__m128 inverse = _mm_maskz_div_ps(_mm_cmp_ps_mask(largest, _mm_setzero_ps(), _CMP_GT_OQ), _mm_set1_ps(127),
	    largest);
	__m128 rows[4];
	__m256i sums[4];
	float factor[4];

	_mm_storeu_ps(factor, inverse);
	for (int i = 0; i < 4; i++) {
		__m512 f = _mm512_set1_ps(factor[i]);
		__m512i p = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i * Q8_BLOCK), f));
		__m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i * Q8_BLOCK + 16), f));
		__m256i numbers = _mm256_set_m128i(_mm512_cvtsepi32_epi8(q), _mm512_cvtsepi32_epi8(p));

		_mm256_storeu_si256((__m256i *)y[i].q, numbers);
		sums[i] = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), numbers);
	}
	/* The sums of the first halves of four blocks below, those of the second halves above. */
	sums[0] = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
	rows[0] = scale;
	rows[1] = _mm_mul_ps(scale, _mm_cvtepi32_ps(_mm_add_epi32(_mm256_castsi256_si128(sums[0]),
	                                _mm256_extracti128_si256(sums[0], 1))));
	rows[2] = _mm_mul_ps(scale, _mm_cvtepi32_ps(_mm256_castsi256_si128(sums[0])));
	rows[3] = _mm_mul_ps(scale, _mm_cvtepi32_ps(_mm256_extracti128_si256(sums[0], 1)));
	_MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
	for (int i = 0; i < 4; i++)
		_mm_storeu_ps(&y[i].scale, rows[i]);
}

static void
to_q8_blocks(const float *x, int64_t n, struct q8_block *y)
{
	float rest[4 * Q8_BLOCK] = { 0 };
	struct q8_block blocks[4];

	for (; n >= 4 * Q8_BLOCK; n -= 4 * Q8_BLOCK, x += 4 * Q8_BLOCK, y += 4)
		four_q8_blocks(x, y);
	if (n == 0)
		return;
	memcpy(rest, x, (size_t)n * sizeof *x);
	four_q8_blocks(rest, blocks);
	memcpy(y, blocks, (size_t)(n / Q8_BLOCK) * sizeof *y);
}

/* ---- weights in words, see transpose in kernels.h -------------------- */

/* A block of weights: it begins with a whole word, or in the middle of one. */
struct q8_source {
	const __m512i *words;
	bool odd;
};

/* Bytes offset .. offset + 3 of it in every row. */
static inline __attribute__((always_inline)) __m512i
load_word(const struct q8_source *s, size_t offset)
{
	const __m512i *w = s->words + (offset + 2 * s->odd) / 4;

	if ((offset % 4 != 0) == s->odd)
		return *w;
	return _mm512_or_si512(_mm512_srli_epi32(w[0], 16), _mm512_slli_epi32(w[1], 16));
}

static inline __attribute__((always_inline)) void
load_words(const struct q8_source *s, size_t offset, __m512i w[4])
{
	for (size_t i = 0; i < 4; i++)
		w[i] = load_word(s, offset + 4 * i);
}

/*
 * 32 columns of 16 rows: numbers 4 g .. 4 g + 3 of every row in q[g]; one scale and offset for all, or one for each
 * half.
 */
struct q8_columns {
	int parts;
	__m512i q[8];
	__m512 scale[2], offset[2];
};

/* What is done with the columns of a block, which are numbered from 0. */
typedef void q8_use(void *arg, int number, const struct q8_columns *c);

static inline __m512i
low_nibbles(__m512i w)
{
	return _mm512_and_si512(w, _mm512_set1_epi8(15));
}

static inline __m512i
high_nibbles(__m512i w)
{
	return low_nibbles(_mm512_srli_epi32(w, 4));
}

/* Bits `shift` and `shift` + 1 of each byte, as bits `to` and `to` + 1. */
static inline __attribute__((always_inline)) __m512i
two_bits(__m512i w, int shift, int to)
{
	w = shift >= to ? _mm512_srli_epi32(w, (unsigned)(shift - to)) : _mm512_slli_epi32(w, (unsigned)(to - shift));
	return _mm512_and_si512(w, _mm512_set1_epi8((char)(3 << to)));
}

/* Symmetric types: numbers have `zero` added. */
static inline void
set_symmetric(struct q8_columns *c, int part, __m512 scale, float zero)
{
	c->scale[part] = scale;
	c->offset[part] = _mm512_mul_ps(scale, _mm512_set1_ps(-zero));
}

static inline __attribute__((always_inline)) void
set_nibbles(struct q8_columns *c, const struct q8_source *s, size_t offset)
{
	for (size_t j = 0; j < 4; j++) {
		__m512i w = load_word(s, offset + 4 * j);

		c->q[j] = low_nibbles(w);
		c->q[4 + j] = high_nibbles(w);
	}
}

/* With fifth bits: bit k of a row's word belongs to number k. */
static inline __attribute__((always_inline)) void
set_five_bits(struct q8_columns *c, const struct q8_source *s, size_t offset, __m512i high)
{
	set_nibbles(c, s, offset);
	for (int g = 0; g < 8; g++) {
		/* the byte that has the bits of this group, four times in each word */
		__m512i h = _mm512_shuffle_epi8(high,
		    _mm512_add_epi8(_mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0),
		    _mm512_set1_epi8((char)(g / 2))));
		__mmask64 set = _mm512_test_epi8_mask(h, _mm512_set1_epi32(g % 2 == 0 ? 0x08040201 : (int)0x80402010));

		c->q[g] = _mm512_mask_add_epi8(c->q[g], set, c->q[g], _mm512_set1_epi8(16));
	}
}

static inline __attribute__((always_inline)) void
unpack_q4_0(const struct q8_source *s, q8_use *use, void *arg)
{
	struct q8_columns c = { .parts = 1 };

	set_nibbles(&c, s, 2);
	set_symmetric(&c, 0, low_half(load_word(s, 0)), 8);
	use(arg, 0, &c);
}

static inline __attribute__((always_inline)) void
unpack_q4_1(const struct q8_source *s, q8_use *use, void *arg)
{
	__m512i d = load_word(s, 0);
	struct q8_columns c = { .parts = 1 };

	set_nibbles(&c, s, 4);
	c.scale[0] = low_half(d);
	c.offset[0] = high_half(d);
	use(arg, 0, &c);
}

static inline __attribute__((always_inline)) void
unpack_q5_0(const struct q8_source *s, q8_use *use, void *arg)
{
	struct q8_columns c = { .parts = 1 };

	set_five_bits(&c, s, 6, load_word(s, 2));
	set_symmetric(&c, 0, low_half(load_word(s, 0)), 16);
	use(arg, 0, &c);
}

static inline __attribute__((always_inline)) void
unpack_q5_1(const struct q8_source *s, q8_use *use, void *arg)
{
	__m512i d = load_word(s, 0);
	struct q8_columns c = { .parts = 1 };

	set_five_bits(&c, s, 8, load_word(s, 4));
	c.scale[0] = low_half(d);
	c.offset[0] = high_half(d);
	use(arg, 0, &c);
}

static inline __attribute__((always_inline)) void
unpack_q8_0(const struct q8_source *s, q8_use *use, void *arg)
{
	struct q8_columns c = { .parts = 1 };

	for (size_t g = 0; g < 8; g++)
		c.q[g] = _mm512_xor_si512(load_word(s, 2 + 4 * g), _mm512_set1_epi8((char)0x80));
	set_symmetric(&c, 0, low_half(load_word(s, 0)), 128);
	use(arg, 0, &c);
}

/* Byte `i` of each word, as a number; with sign where asked. */
static inline __m512
byte_of(__m512i w, int i, bool sign)
{
	w = _mm512_slli_epi32(w, (unsigned)(24 - 8 * i));
	return _mm512_cvtepi32_ps(sign ? _mm512_srai_epi32(w, 24) : _mm512_srli_epi32(w, 24));
}

static inline __attribute__((always_inline)) void
unpack_q2_k(const struct q8_source *s, q8_use *use, void *arg)
{
	__m512i scales[4], d = load_word(s, 80);
	__m512 scale = low_half(d), offset = _mm512_sub_ps(_mm512_setzero_ps(), high_half(d));

	load_words(s, 0, scales);
	for (int b = 0; b < 8; b++) {
		struct q8_columns c = { .parts = 2 };

		for (int j = 0; j < 8; j++)
			c.q[j] = two_bits(load_word(s, (size_t)(16 + b / 4 * 32 + 4 * j)), b % 4 * 2, 0);
		for (int part = 0; part < 2; part++) {
			int g = 2 * b + part;

			c.scale[part] = _mm512_mul_ps(scale, byte_of(low_nibbles(scales[g / 4]), g % 4, false));
			c.offset[part] = _mm512_mul_ps(offset, byte_of(high_nibbles(scales[g / 4]), g % 4, false));
		}
		use(arg, b, &c);
	}
}

static inline __attribute__((always_inline)) void
unpack_q3_k(const struct q8_source *s, q8_use *use, void *arg)
{
	__m512i w[3], scales[4];
	__m512 d = low_half(load_word(s, 108));

	for (size_t i = 0; i < 3; i++)
		w[i] = load_word(s, 96 + 4 * i);
	for (int i = 0; i < 4; i++) /* of groups 4 i .. 4 i + 3: four low bits here, two high bits there */
		scales[i] = _mm512_or_si512(i < 2 ? low_nibbles(w[i]) : high_nibbles(w[i - 2]),
		    two_bits(w[2], 2 * i, 4));
	for (int b = 0; b < 8; b++) {
		struct q8_columns c = { .parts = 2 };

		for (int j = 0; j < 8; j++) {
			__m512i q = two_bits(load_word(s, (size_t)(32 + b / 4 * 32 + 4 * j)), b % 4 * 2, 0);
			__mmask64 set = _mm512_test_epi8_mask(load_word(s, (size_t)(4 * j)),
			    _mm512_set1_epi8((char)(1 << b)));

			c.q[j] = _mm512_mask_add_epi8(q, set, q, _mm512_set1_epi8(4));
		}
		for (int part = 0; part < 2; part++) {
			int g = 2 * b + part;
			__m512 scale = _mm512_sub_ps(byte_of(scales[g / 4], g % 4, false), _mm512_set1_ps(32));

			set_symmetric(&c, part, _mm512_mul_ps(d, scale), 4);
		}
		use(arg, b, &c);
	}
}

static inline __attribute__((always_inline)) void
unpack_k(const struct q8_source *s, bool five, q8_use *use, void *arg)
{
	__m512i head[4], scales[2], offsets[2];
	__m512 d, min;

	load_words(s, 0, head);
	d = low_half(head[0]);
	min = _mm512_sub_ps(_mm512_setzero_ps(), high_half(head[0]));
	/* 6-bit scales and offsets, four to a word */
	scales[0] = _mm512_and_si512(head[1], _mm512_set1_epi8(63));
	offsets[0] = _mm512_and_si512(head[2], _mm512_set1_epi8(63));
	scales[1] = _mm512_or_si512(low_nibbles(head[3]), two_bits(head[1], 6, 4));
	offsets[1] = _mm512_or_si512(high_nibbles(head[3]), two_bits(head[2], 6, 4));
	for (int b = 0; b < 8; b++) {
		struct q8_columns c = { .parts = 1 };

		for (int j = 0; j < 8; j++) {
			__m512i w = load_word(s, (size_t)((five ? 48 : 16) + b / 2 * 32 + 4 * j));
			__m512i q = b % 2 == 0 ? low_nibbles(w) : high_nibbles(w);

			if (five)
				q = _mm512_mask_add_epi8(q,
				    _mm512_test_epi8_mask(load_word(s, (size_t)(16 + 4 * j)),
				    _mm512_set1_epi8((char)(1 << b))), q,
				    _mm512_set1_epi8(16));
			c.q[j] = q;
		}
		c.scale[0] = _mm512_mul_ps(d, byte_of(scales[b / 4], b % 4, false));
		c.offset[0] = _mm512_mul_ps(min, byte_of(offsets[b / 4], b % 4, false));
		use(arg, b, &c);
	}
}

static inline __attribute__((always_inline)) void
unpack_q4_k(const struct q8_source *s, q8_use *use, void *arg)
{
	unpack_k(s, false, use, arg);
}

static inline __attribute__((always_inline)) void
unpack_q5_k(const struct q8_source *s, q8_use *use, void *arg)
{
	unpack_k(s, true, use, arg);
}

/*
 * The scales of a block stand at its end and the rest is read in three places:
 * processors do not foresee that, so the next block's lines are asked for, an
 * eighth with each eighth of this one (from memory 58 -> 17 ns for 512 weights).
 */
static inline __attribute__((always_inline)) void
unpack_q6_k(const struct q8_source *s, q8_use *use, void *arg)
{
	enum { LINES = 210 / 4 + 1, EIGHTH = (LINES + 7) / 8 };
	__m512i scales[4];
	__m512 d = low_half(load_word(s, 208));

	load_words(s, 192, scales);
	for (int b = 0; b < 8; b++) {
		int half = b / 4, quarter = b % 4;
		struct q8_columns c = { .parts = 2 };

		for (int i = EIGHTH * b; i < EIGHTH * (b + 1); i++)
			_mm_prefetch((const char *)(s->words + LINES + i), _MM_HINT_T0);
		for (int j = 0; j < 8; j++) {
			__m512i low = load_word(s, (size_t)(64 * half + 32 * (quarter % 2) + 4 * j));
			__m512i high = load_word(s, (size_t)(128 + 32 * half + 4 * j));

			c.q[j] = _mm512_or_si512(quarter < 2 ? low_nibbles(low) : high_nibbles(low),
			    two_bits(high, 2 * quarter, 4));
		}
		for (int part = 0; part < 2; part++)
			set_symmetric(&c, part, _mm512_mul_ps(d, byte_of(scales[b / 2], 2 * (b % 2) + part, true)), 32);
		use(arg, b, &c);
	}
}

/* Columns that share a scale: 32 / per. */
static int
q8_scales(uint32_t type)
{
	return type == QUANT_Q2_K || type == QUANT_Q3_K || type == QUANT_Q6_K ? 2 : 1;
}

/*
 * For every block of k columns from words on: unpack it and use its columns.
 * A block whose size is no multiple of four shifts the next one by half a word.
 */
#define FOR_BLOCKS(block, bytes, unpack, use, arg) \
	for (int64_t i = 0, at = 0; i < k; i += (block), at += (bytes)) { \
		struct q8_source source = { (const __m512i *)words + at / 4, false }; \
		(arg)->columns = i / Q8_BLOCK; \
		if ((bytes) % 4 == 0 || at % 4 == 0) { \
			unpack(&source, use, arg); \
		} else { \
			source.odd = true; \
			unpack(&source, use, arg); \
		} \
	} \
	break

#define FOR_TYPES(use, arg) \
	switch ((enum quant_type)type) { \
	case QUANT_Q4_0: FOR_BLOCKS(32, 18, unpack_q4_0, use, arg); \
	case QUANT_Q4_1: FOR_BLOCKS(32, 20, unpack_q4_1, use, arg); \
	case QUANT_Q5_0: FOR_BLOCKS(32, 22, unpack_q5_0, use, arg); \
	case QUANT_Q5_1: FOR_BLOCKS(32, 24, unpack_q5_1, use, arg); \
	case QUANT_Q8_0: FOR_BLOCKS(32, 34, unpack_q8_0, use, arg); \
	case QUANT_Q2_K: FOR_BLOCKS(256, 84, unpack_q2_k, use, arg); \
	case QUANT_Q3_K: FOR_BLOCKS(256, 110, unpack_q3_k, use, arg); \
	case QUANT_Q4_K: FOR_BLOCKS(256, 144, unpack_q4_k, use, arg); \
	case QUANT_Q5_K: FOR_BLOCKS(256, 176, unpack_q5_k, use, arg); \
	case QUANT_Q6_K: FOR_BLOCKS(256, 210, unpack_q6_k, use, arg); \
	case QUANT_F32: \
	case QUANT_F16: \
	case QUANT_BF16: \
		break; \
	}

struct q8_panel {
	uint8_t *out;
	int64_t columns; /* of the block at hand, the number of its first 32 */
};

/* A block of a panel: 8 x 64 bytes of numbers, then its scales, then its offsets. */
static inline __attribute__((always_inline)) void
put_columns(void *arg, int number, const struct q8_columns *c)
{
	struct q8_panel *p = arg;
	uint8_t *out = p->out + (p->columns + number) * Q8_PANEL_BLOCK(c->parts);

	for (int g = 0; g < 8; g++)
		_mm512_store_si512(out + g * 64, c->q[g]);
	for (int part = 0; part < c->parts; part++) {
		_mm512_store_ps(out + 512 + part * 64, c->scale[part]);
		_mm512_store_ps(out + 512 + (c->parts + part) * 64, c->offset[part]);
	}
}

/* words of k columns, a multiple of the type's block -> a panel */
static void
q8_unpack(uint32_t type, const uint32_t *words, int64_t k, uint8_t *panel)
{
	struct q8_panel p = { panel, 0 };

	FOR_TYPES(put_columns, &p)
}

/* ---- products -------------------------------------------------------- */

/* One panel times few rows, unpacked as it is read: the sums of micro_q8, in its order. */
struct q8_few {
	const struct q8_block *x;
	int64_t ldx, columns;
	int rows;
	__m512 acc[FEW_ROWS];
};

static inline __attribute__((always_inline)) void
multiply_columns(void *arg, int number, const struct q8_columns *c)
{
	struct q8_few *f = arg;
	const struct q8_block *x = f->x + f->columns + number;

	for (int i = 0; i < f->rows; i++, x += f->ldx)
		for (int part = 0; part < c->parts; part++) {
			__m512i sum = _mm512_setzero_si512();
			__m512 v;

			for (int g = part * (8 / c->parts); g < (part + 1) * (8 / c->parts); g++) {
				int32_t four;

				memcpy(&four, x->q + 4 * g, sizeof four);
				sum = _mm512_dpbusd_epi32(sum, c->q[g], _mm512_set1_epi32(four));
			}
			v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), c->scale[part]);
			f->acc[i] = _mm512_fmadd_ps(v, _mm512_set1_ps(x->scale), f->acc[i]);
			f->acc[i] = _mm512_fmadd_ps(c->offset[part],
			    _mm512_set1_ps(c->parts == 1 ? x->sum : x->half_sums[part]),
			    f->acc[i]);
		}
}

#define FEW_CASE(r) \
	case r: { \
		struct q8_few f = { .x = x, .ldx = ldx, .rows = r }; \
		for (int j = 0; j < r; j++) \
			f.acc[j] = _mm512_setzero_ps(); \
		FOR_TYPES(multiply_columns, &f) \
		for (int j = 0; j < r; j++) \
			_mm512_storeu_ps(y + j * ldy, f.acc[j]); \
		break; \
	}

static void
product_few(uint32_t type, const struct q8_block *x, int64_t ldx, int n, int64_t k, const uint32_t *words, float *y,
    int64_t ldy)
{
	switch (n) {
		FEW_CASE(1)
		FEW_CASE(2)
		FEW_CASE(3)
		FEW_CASE(4)
	}
}
#undef FEW_CASE

static inline __attribute__((always_inline)) void
micro_q8(int rows, int panels, int per, const struct q8_block *x, int64_t ldx, int64_t blocks, const uint8_t *panel,
    int64_t pstride, float *y, int64_t ldy, bool add)
{
	__m512 acc[Q8_ROWS][Q8_PANELS];

	for (int i = 0; i < rows; i++)
		for (int p = 0; p < panels; p++)
			acc[i][p] = add ? _mm512_loadu_ps(y + i * ldy + p * PANEL) : _mm512_setzero_ps();
	for (int64_t b = 0; b < blocks; b++, x++, panel += Q8_PANEL_BLOCK(per))
		for (int part = 0; part < per; part++) {
			__m512i sum[Q8_ROWS][Q8_PANELS];

			for (int i = 0; i < rows; i++)
				for (int p = 0; p < panels; p++)
					sum[i][p] = _mm512_setzero_si512();
			for (int g = part * (8 / per); g < (part + 1) * (8 / per); g++) {
				__m512i w[Q8_PANELS];

				for (int p = 0; p < panels; p++)
					w[p] = _mm512_load_si512(panel + p * pstride + g * 64);
				for (int i = 0; i < rows; i++) {
					int32_t four;
					__m512i v;

					memcpy(&four, x[i * ldx].q + 4 * g, sizeof four);
					v = _mm512_set1_epi32(four);
					for (int p = 0; p < panels; p++)
						sum[i][p] = _mm512_dpbusd_epi32(sum[i][p], w[p], v);
				}
			}
			for (int p = 0; p < panels; p++) {
				__m512 scale = _mm512_load_ps(panel + p * pstride + 512 + part * 64);
				__m512 offset = _mm512_load_ps(panel + p * pstride + 512 + (per + part) * 64);

				for (int i = 0; i < rows; i++) {
					const struct q8_block *a = x + i * ldx;
					__m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[i][p]), scale);

					acc[i][p] = _mm512_fmadd_ps(v, _mm512_set1_ps(a->scale), acc[i][p]);
					acc[i][p] = _mm512_fmadd_ps(offset,
					    _mm512_set1_ps(per == 1 ? a->sum : a->half_sums[part]),
					    acc[i][p]);
				}
			}
		}
	for (int i = 0; i < rows; i++)
		for (int p = 0; p < panels; p++)
			_mm512_storeu_ps(y + i * ldy + p * PANEL, acc[i][p]);
}

static inline __attribute__((always_inline)) void
strip_q8(int panels, int per, const struct q8_block *x, int64_t ldx, int n, int64_t blocks, const uint8_t *panel,
    int64_t pstride, float *y, int64_t ldy, bool add)
{
	for (; n >= Q8_ROWS; n -= Q8_ROWS, x += Q8_ROWS * ldx, y += Q8_ROWS * ldy)
		micro_q8(Q8_ROWS, panels, per, x, ldx, blocks, panel, pstride, y, ldy, add);
	switch (n) {
	case 3:
		micro_q8(3, panels, per, x, ldx, blocks, panel, pstride, y, ldy, add);
		break;
	case 2:
		micro_q8(2, panels, per, x, ldx, blocks, panel, pstride, y, ldy, add);
		break;
	case 1:
		micro_q8(1, panels, per, x, ldx, blocks, panel, pstride, y, ldy, add);
		break;
	}
}

#define PANELS_CASE(p, per) \
	case p: \
		strip_q8(p, per, x, ldx, n, blocks, panel, pstride, y, ldy, add); \
		break

static void
product_q8(uint32_t type, const struct q8_block *x, int64_t ldx, int n, int64_t blocks, const void *panels,
    int64_t pstride, int n_panels, float *y, int64_t ldy, bool add)
{
	const uint8_t *panel = panels;
	int per = q8_scales(type);

	for (int p; n_panels > 0; n_panels -= p, panel += p * pstride, y += p * PANEL) {
		p = n_panels == 4 ? 2 : n_panels < Q8_PANELS ? n_panels : Q8_PANELS;
		switch (p + 4 * (per - 1)) {
			PANELS_CASE(1, 1);
			PANELS_CASE(2, 1);
			PANELS_CASE(3, 1);
		case 5:
			strip_q8(1, 2, x, ldx, n, blocks, panel, pstride, y, ldy, add);
			break;
		case 6:
			strip_q8(2, 2, x, ldx, n, blocks, panel, pstride, y, ldy, add);
			break;
		case 7:
			strip_q8(3, 2, x, ldx, n, blocks, panel, pstride, y, ldy, add);
			break;
		}
	}
}
#undef PANELS_CASE
