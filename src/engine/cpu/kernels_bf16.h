/*
 * Products in bfloat16 with float32 sums (vdpbf16ps), for kernels_simd.h. A
 * panel holds pairs of columns: [k/2][PANEL][2]. Activations are rounded to
 * nearest even.
 */
enum { BF16_ROWS = 8, BF16_PANELS = 3, BF16_WIDE = 4 };

static inline __attribute__((always_inline)) void
micro_bf16(int rows, int panels, const uint16_t *x, int64_t ldx, int64_t pairs, const uint16_t *panel, int64_t pstride,
    int64_t kstride, float *y, int64_t ldy, bool add)
{
	__m512 acc[BF16_ROWS][BF16_WIDE];

	for (int i = 0; i < rows; i++)
		for (int p = 0; p < panels; p++)
			acc[i][p] = add ? _mm512_loadu_ps(y + i * ldy + p * PANEL) : _mm512_setzero_ps();
	for (int64_t c = 0; c < pairs; c++) {
		__m512bh w[BF16_WIDE];

		for (int p = 0; p < panels; p++)
			w[p] = (__m512bh)_mm512_loadu_si512(panel + p * pstride + c * kstride);
		for (int i = 0; i < rows; i++) {
			int32_t pair;
			__m512bh b;

			memcpy(&pair, x + i * ldx + 2 * c, sizeof pair);
			b = (__m512bh)_mm512_set1_epi32(pair);
			for (int p = 0; p < panels; p++)
				acc[i][p] = _mm512_dpbf16_ps(acc[i][p], b, w[p]);
		}
	}
	for (int i = 0; i < rows; i++)
		for (int p = 0; p < panels; p++)
			_mm512_storeu_ps(y + i * ldy + p * PANEL, acc[i][p]);
}

#define ROWS_CASE(r) \
	case r: \
		micro_bf16(r, panels, x, ldx, pairs, panel, pstride, kstride, y, ldy, add); \
		break

static inline __attribute__((always_inline)) void
strip_bf16(int panels, const uint16_t *x, int64_t ldx, int n, int64_t pairs, const uint16_t *panel, int64_t pstride,
    int64_t kstride, float *y, int64_t ldy, bool add)
{
	for (; n >= BF16_ROWS; n -= BF16_ROWS, x += BF16_ROWS * ldx, y += BF16_ROWS * ldy)
		micro_bf16(BF16_ROWS, panels, x, ldx, pairs, panel, pstride, kstride, y, ldy, add);
	switch (n) {
		ROWS_CASE(7);
		ROWS_CASE(6);
		ROWS_CASE(5);
		ROWS_CASE(4);
		ROWS_CASE(3);
		ROWS_CASE(2);
		ROWS_CASE(1);
	}
}

static void
few_strip_bf16(const uint16_t *x, int64_t ldx, int n, int64_t pairs, const uint16_t *panel, int64_t pstride,
    int64_t kstride, float *y, int64_t ldy, bool add)
{
	enum { panels = BF16_WIDE };

	switch (n) {
		ROWS_CASE(4);
		ROWS_CASE(3);
		ROWS_CASE(2);
		ROWS_CASE(1);
	}
}
#undef ROWS_CASE

/* Few rows, when it is memory that counts: panels are read in the order in which they lie there. */
static void
product_few_bf16(const uint16_t *x, int64_t ldx, int n, int64_t pairs, const uint16_t *panel, int64_t pstride,
    int64_t kstride, int n_panels, float *y, int64_t ldy, bool add)
{
	bool wide = pstride < kstride;

	for (int panels; n_panels > 0; n_panels -= panels, panel += panels * pstride, y += panels * PANEL) {
		panels = !wide ? 1 : n_panels < BF16_WIDE ? n_panels : BF16_WIDE;
		if (panels == 1)
			strip_bf16(1, x, ldx, n, pairs, panel, pstride, kstride, y, ldy, add);
		else if (panels == 2)
			strip_bf16(2, x, ldx, n, pairs, panel, pstride, kstride, y, ldy, add);
		else if (panels == 3)
			strip_bf16(3, x, ldx, n, pairs, panel, pstride, kstride, y, ldy, add);
		else
			few_strip_bf16(x, ldx, n, pairs, panel, pstride, kstride, y, ldy, add);
	}
}

static void
product_bf16(const uint16_t *x, int64_t ldx, int n, int64_t k, const uint16_t *panel, int64_t pstride, int64_t kstride,
    int n_panels, float *y, int64_t ldy, bool add)
{
	int64_t pairs = (k + 1) / 2;

	if (n <= FEW_ROWS) {
		product_few_bf16(x, ldx, n, pairs, panel, pstride, kstride, n_panels, y, ldy, add);
		return;
	}
	for (int panels; n_panels > 0; n_panels -= panels, panel += panels * pstride, y += panels * PANEL) {
		/* four panels are better cut into two and two than into three and one */
		panels = n_panels == 4 ? 2 : n_panels < BF16_PANELS ? n_panels : BF16_PANELS;
		if (panels == 1)
			strip_bf16(1, x, ldx, n, pairs, panel, pstride, kstride, y, ldy, add);
		else if (panels == 2)
			strip_bf16(2, x, ldx, n, pairs, panel, pstride, kstride, y, ldy, add);
		else
			strip_bf16(3, x, ldx, n, pairs, panel, pstride, kstride, y, ldy, add);
	}
}
