/*
 * The plain code path: one loop per formula. It defines what the other paths
 * must compute; nothing here is tuned. Products sum in float32, in order,
 * because a sum may be cut into calls anywhere and must not show it.
 */
#include <math.h>
#include <string.h>

#include "engine/cpu/kernels.h"
#include "engine/quant.h"
#include "engine/quant_decode.h"

static enum panel_kind
plain_kind(uint32_t type)
{
	(void)type;
	return PANEL_F32;
}

static bool
plain_wants_words(uint32_t type)
{
	(void)type;
	return false;
}

static const void *
plain_pack(enum panel_kind kind, const struct weight *w, int64_t first, int rows, int64_t k0, int64_t k, void *panels,
    float *scratch, int64_t *stride)
{
	size_t row_size = quant_row_size(w->type, w->cols), offset = quant_row_size(w->type, k0);
	float *out = panels;

	(void)kind;
	for (int r = 0; r < (rows + PANEL - 1) / PANEL * PANEL; r++) {
		float *p = out + r / PANEL * k * PANEL + r % PANEL;

		if (r < rows)
			quant_dequantize(w->type, (const char *)w->data + (size_t)(first + r) * row_size + offset, k,
			    scratch);
		for (int64_t i = 0; i < k; i++)
			p[i * PANEL] = r < rows ? scratch[i] : 0;
	}
	*stride = k * PANEL * (int64_t)sizeof *out;
	return panels;
}

static void
plain_to_bf16(const float *x, int64_t n, uint16_t *y)
{
	for (int64_t i = 0; i < n; i++) {
		uint32_t bits;

		memcpy(&bits, &x[i], sizeof bits);
		y[i] = isnan(x[i]) ? (uint16_t)(bits >> 16 | 0x40)
		    : (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
	}
	if (n % 2 != 0)
		y[n] = 0;
}

static void
plain_to_f16(const float *x, int64_t n, uint16_t *y)
{
	for (int64_t i = 0; i < n; i++)
		y[i] = encode_half(x[i]);
}

static void
plain_from_f16(const uint16_t *x, int64_t n, float *y)
{
	quant_dequantize(QUANT_F16, x, n, y);
}

static void
plain_from_pairs(const uint16_t *x, int64_t lanes, int64_t pairs, float *y)
{
	for (int64_t p = 0; p < pairs; p++)
		for (int64_t i = 0; i < lanes; i++)
			for (int b = 0; b < 2; b++)
				y[(2 * p + b) * lanes + i] = decode_bf16(x[(p * lanes + i) * 2 + b]);
}

static float
plain_to_q8(const float *x, int64_t n, int8_t *y)
{
	float largest = 0;

	for (int64_t i = 0; i < n; i++) {
		if (!isfinite(x[i])) {
			memset(y, 0, (size_t)n);
			return NAN;
		}
		largest = fmaxf(largest, fabsf(x[i]));
	}
	for (int64_t i = 0; i < n; i++)
		y[i] = (int8_t)(largest > 0 ? lrintf(x[i] * (127 / largest)) : 0);
	return largest / 127;
}

static void
plain_from_q8(const int8_t *x, int64_t n, const float *scales, bool lanes, float *y)
{
	for (int64_t i = 0; i < n; i++)
		y[i] = (float)x[i] * scales[lanes ? i % PANEL : 0];
}

static void
plain_product(const float *x, int64_t ldx, int n, int64_t k, const float *panel, int64_t pstride, int64_t kstride,
    int n_panels, float *y, int64_t ldy, bool add)
{
	for (int i = 0; i < n; i++)
		for (int64_t j = 0; j < (int64_t)n_panels * PANEL; j++) {
			const float *p = panel + j / PANEL * pstride + j % PANEL;
			float sum = add ? y[i * ldy + j] : 0;

			for (int64_t c = 0; c < k; c++)
				sum += x[i * ldx + c] * p[c * kstride];
			y[i * ldy + j] = sum;
		}
}

static void
plain_norm(enum norm_kind kind, float eps, const float *weight, const float *bias, const float *x, int64_t n, float *y)
{
	double mean = 0, square = 0, scale;

	if (kind == NORM_LAYER) {
		for (int64_t i = 0; i < n; i++)
			mean += x[i];
		mean /= (double)n;
	}
	for (int64_t i = 0; i < n; i++)
		square += (x[i] - mean) * (x[i] - mean);
	scale = 1 / sqrt(square / (double)n + eps);
	for (int64_t i = 0; i < n; i++)
		y[i] = (float)((x[i] - mean) * scale) * weight[i] + (bias != NULL ? bias[i] : 0);
}

static float
plain_exp_sum(float *x, int64_t n, float m)
{
	double sum = 0;

	for (int64_t i = 0; i < n; i++)
		sum += x[i] = expf(x[i] - m);
	return (float)sum;
}

static float
plain_max(const float *x, int64_t n)
{
	float m = -INFINITY;

	for (int64_t i = 0; i < n; i++)
		m = x[i] > m ? x[i] : m;
	return m;
}

static void
plain_activate(enum activation act, const float *gate, const float *up, int64_t n, float *y)
{
	for (int64_t i = 0; i < n; i++) {
		double x = gate[i], v;

		if (act == ACT_SILU)
			v = x / (1 + exp(-x));
		else if (act == ACT_GELU)
			v = 0.5 * x * (1 + erf(x * M_SQRT1_2));
		else
			v = 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
		y[i] = (float)v * (up != NULL ? up[i] : 1);
	}
}

static void
plain_rotate(const struct rope *r, const float *table, const float *x, int heads, int d, float *y)
{
	int half = r->n_rot / 2;

	for (int h = 0; h < heads; h++, x += d, y += d) {
		for (int i = 0; i < half; i++) {
			int a = r->style == ROPE_PAIRS ? 2 * i : i, b = r->style == ROPE_PAIRS ? 2 * i + 1 : i + half;
			float c = table[2 * i], s = table[2 * i + 1], xa = x[a], xb = x[b];

			y[a] = xa * c - xb * s;
			y[b] = xa * s + xb * c;
		}
		if (y != x)
			memcpy(y + r->n_rot, x + r->n_rot, (size_t)(d - r->n_rot) * sizeof *y);
	}
}

const struct cpu_kernels kernels_plain = {
	.kind = plain_kind,
	.wants_words = plain_wants_words,
	.decode = quant_dequantize,
	.pack = plain_pack,
	.to_bf16 = plain_to_bf16,
	.to_f16 = plain_to_f16,
	.from_f16 = plain_from_f16,
	.from_pairs = plain_from_pairs,
	.to_q8 = plain_to_q8,
	.from_q8 = plain_from_q8,
	.product = plain_product,
	.norm = plain_norm,
	.exp_sum = plain_exp_sum,
	.max = plain_max,
	.activate = plain_activate,
	.rotate = plain_rotate,
};
