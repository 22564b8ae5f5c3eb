/*
 * Numbers that are not finite: what goes in as such comes out as such, in the
 * rows that read it and in no other. A fault that an operation turns into an
 * ordinary number would go on unseen.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/quant.h"
#include "ops.h"

static const float faults[] = { NAN, INFINITY };
enum { N_FAULTS = sizeof faults / sizeof faults[0] };

/* A device that computes in halves makes what is too large the largest half, an infinity too. */
static int
count_kinds(const struct ops *o)
{
	return o->tested->device ? 1 : N_FAULTS;
}

static const uint32_t types[] = {
	QUANT_F32, QUANT_F16, QUANT_BF16, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0,
	QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K,
};
enum { N_TYPES = sizeof types / sizeof types[0] };

static int64_t
count_faults(const float *x, int64_t n)
{
	int64_t count = 0;

	for (int64_t i = 0; i < n; i++)
		count += !isfinite(x[i]);
	return count;
}

static void
expect(struct ops *o, bool right, const char *what, float fault, int n, int row)
{
	o->shapes++;
	if (right)
		return;
	o->bad++;
	snprintf(o->where, sizeof o->where, "%s, %d rows, %g in row %d", what, n, (double)fault, row);
}

/* All of y[n][width] is finite but for `row`, of which at least `least` numbers are not. Releases y. */
static void
expect_row(struct ops *o, float *y, int n, int64_t width, int row, int64_t least, const char *what, float fault)
{
	int64_t in = count_faults(y + row * width, width);

	expect(o, in >= least && count_faults(y, n * width) == in, what, fault, n, row);
	free(y);
}

/* ---- row by row ------------------------------------------------------ */

enum { WIDTH = 96 };

static void
test_rows(struct ops *o, int n, int row, float fault)
{
	static const enum activation acts[] = { ACT_SILU, ACT_GELU, ACT_GELU_TANH };
	float *x = ops_random(o, n * WIDTH), *ones = ops_random(o, n * WIDTH), *in, *out, *up;
	struct vector weight = ops_load_vector(o->tested, ones, WIDTH), none = { 0 };

	x[row * WIDTH + 5] = fault;
	for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++) {
		in = ops_upload(o->tested, x, n * WIDTH);
		out = ops_poisoned(o->tested, n * WIDTH);
		o->tested->ops->norm(o->tested, (enum norm_kind)kind, 1e-5f, &weight, &none, in, n, WIDTH, out);
		expect_row(o, ops_download(o->tested, out, n * WIDTH), n, WIDTH, row, 1, "norm", fault);
		o->tested->ops->free(o->tested, in);
	}
	for (int i = 0; i < 3; i++) {
		in = ops_upload(o->tested, x, n * WIDTH);
		up = ops_upload(o->tested, ones, n * WIDTH);
		o->tested->ops->activate(o->tested, acts[i], in, i == 1 ? NULL : up, n * WIDTH, in);
		expect_row(o, ops_download(o->tested, in, n * WIDTH), n, WIDTH, row, 1, "activate", fault);
		in = ops_upload(o->tested, ones, n * WIDTH);
		out = ops_upload(o->tested, x, n * WIDTH);
		o->tested->ops->activate(o->tested, acts[i], in, out, n * WIDTH, in);
		expect_row(o, ops_download(o->tested, in, n * WIDTH), n, WIDTH, row, 1, "activate, up", fault);
		o->tested->ops->free(o->tested, out);
		o->tested->ops->free(o->tested, up);
	}
	o->tested->ops->unload_vector(o->tested, &weight);
	free(x);
	free(ones);
}

/* ---- products -------------------------------------------------------- */

enum { ROWS = 40 };

/* Make a number of the first block of a row one that is not finite: a weight itself, or the scale of the block. */
static void
spoil(struct weight *w, int64_t row)
{
	static const size_t scale_at[] = { [QUANT_Q2_K] = 80, [QUANT_Q3_K] = 108, [QUANT_Q6_K] = 208 };
	size_t at = w->type < sizeof scale_at / sizeof scale_at[0] ? scale_at[w->type] : 0;
	char *p = (char *)(uintptr_t)w->data + (size_t)row * quant_row_size(w->type, w->cols) + at;
	const uint16_t half = 0x7e00, brain = 0x7fc0;
	const float single = NAN;

	if (w->type == QUANT_F32)
		memcpy(p, &single, sizeof single);
	else
		memcpy(p, w->type == QUANT_BF16 ? &brain : &half, sizeof half);
}

static float *
multiply(struct backend *b, const struct weight *weight, const float *x, int n, float clamp)
{
	struct weight w = *weight;
	struct vector none = { 0 };
	float *in = ops_upload(b, x, n * w.cols), *out = ops_poisoned(b, n * w.rows);
	struct linear l = { .x = in, .n = n, .count = 1, .clamp = clamp };
	struct err e;

	ops_must(b->ops->load_weight(b, &w, &e), &e);
	l.out[0].w = &w;
	l.out[0].bias = &none;
	l.out[0].y = out;
	b->ops->linear(b, &l);
	out = ops_download(b, out, n * w.rows);
	b->ops->unload_weight(b, &w);
	b->ops->free(b, in);
	return out;
}

/* A fault in one row of activations spoils that row. */
static void
test_linear(struct ops *o, struct backend *b, uint32_t type, int n, int row, float fault)
{
	int64_t cols = ops_fit_columns(type, 320);
	struct weight w = ops_make_weight(o, type, ROWS, cols, 1);
	float *x = ops_random(o, n * cols);

	x[row * cols + 70] = fault;
	expect_row(o, multiply(b, &w, x, n, 0), n, ROWS, row, ROWS, "linear", fault);
	if (isnan(fault))
		expect_row(o, multiply(b, &w, x, n, 1000), n, ROWS, row, ROWS, "linear, clamp", fault);
	free(x);
	free((void *)(uintptr_t)w.data);
}

/* One in the weights spoils a column. */
static void
test_weights(struct ops *o, struct backend *b, uint32_t type, int n)
{
	int64_t cols = ops_fit_columns(type, 320);
	struct weight w = ops_make_weight(o, type, ROWS, cols, 1);
	float *x = ops_random(o, n * cols), *y;
	int64_t in = 0, all;

	spoil(&w, 17);
	y = multiply(b, &w, x, n, 0);
	for (int i = 0; i < n; i++)
		in += !isfinite(y[i * ROWS + 17]);
	all = count_faults(y, n * ROWS);
	expect(o, in == n && all == n, "linear, a weight", NAN, n, 17);
	free(y);
	free(x);
	free((void *)(uintptr_t)w.data);
}

static void
test_embed(struct ops *o, uint32_t type)
{
	const int32_t ids[] = { 3, 17, 4 };
	int64_t cols = ops_fit_columns(type, 96);
	struct weight w = ops_make_weight(o, type, ROWS, cols, 1);
	float *y = ops_poisoned(o->tested, 3 * cols);
	struct err e;

	spoil(&w, 17);
	w.embeds_only = true;
	ops_must(o->tested->ops->load_weight(o->tested, &w, &e), &e);
	o->tested->ops->embed(o->tested, &w, ids, 3, 1.5f, y);
	expect_row(o, ops_download(o->tested, y, 3 * cols), 3, cols, 1, 1, "embed", NAN);
	o->tested->ops->unload_weight(o->tested, &w);
	free((void *)(uintptr_t)w.data);
}

/* Scores and logits: a row of x spoils its score, a row of the matrix those of all tokens. */
static void
test_output(struct ops *o, uint32_t type, int n, float softcap)
{
	int64_t cols = ops_fit_columns(type, 320), rows = 300;
	struct backend *b = o->tested;

	for (int spoilt = 0; spoilt < 2; spoilt++) {
		struct weight w = ops_make_weight(o, type, rows, cols, 1);
		float *x = ops_random(o, n * cols), *nll = ops_allocate((size_t)n * sizeof *nll), *in;
		float *logits = ops_allocate((size_t)(n * rows) * sizeof *logits);
		int32_t *targets = ops_allocate((size_t)n * sizeof *targets);
		struct vector none = { 0 };
		struct err e;

		for (int i = 0; i < n; i++)
			targets[i] = i % 7;
		if (spoilt != 0)
			spoil(&w, 170);
		else
			x[(n - 1) * cols + 3] = NAN;
		in = ops_upload(b, x, n * cols);
		ops_must(b->ops->load_weight(b, &w, &e), &e);
		ops_must(b->ops->score(b, &w, &none, softcap, in, n, targets, nll, &e), &e);
		ops_must(b->ops->logits(b, &w, &none, softcap, in, n, logits, &e), &e);
		expect(o, count_faults(nll, n) == (spoilt != 0 ? n : 1) &&
		    !isfinite(nll[n - 1]), "score", NAN, n, spoilt);
		expect(o, count_faults(logits, n * rows) == (spoilt != 0 ? n : rows), "logits", NAN, n, spoilt);
		b->ops->unload_weight(b, &w);
		b->ops->free(b, in);
		free(x);
		free(nll);
		free(logits);
		free(targets);
		free((void *)(uintptr_t)w.data);
	}
}

/* ---- attention ------------------------------------------------------- */

enum { HEADS = 4, HEADS_KV = 2, HEAD = 64, TOKENS = 20, BAD = 11 };

/* Tokens fed one by one; one of token BAD's vectors has a fault: those before it are as they were. */
static void
test_attention(struct ops *o, enum kv_type type, int which, float fault)
{
	struct backend *b = o->tested;
	struct cache_shape shape = { .n_layer = 1, .n_head_kv = HEADS_KV, .d_k = HEAD, .d_v = HEAD, .sinks = 2,
	    .window = 30,
		.type = type, .slots = 64 };
	float *x[3] = { ops_random(o, TOKENS * HEADS_KV * HEAD), ops_random(o, TOKENS * HEADS_KV * HEAD),
		ops_random(o, TOKENS * HEADS * HEAD) };
	static const char *const names[] = { "attend, a key", "attend, a value", "attend, a query" };
	struct cache *c;
	struct err e;

	x[which][BAD * (which == 2 ? HEADS : HEADS_KV) * HEAD + 3] = fault;
	c = b->ops->cache_new(b, &shape, &e);
	ops_must(c != NULL ? 0 : -1, &e);
	for (int t = 0; t < TOKENS; t++) {
		float *k = ops_upload(b, x[0] + t * HEADS_KV * HEAD, HEADS_KV * HEAD);
		float *v = ops_upload(b, x[1] + t * HEADS_KV * HEAD, HEADS_KV * HEAD);
		float *q = ops_upload(b, x[2] + t * HEADS * HEAD, HEADS * HEAD), *y = ops_poisoned(b, HEADS * HEAD);
		struct attend a = { .cache = c, .first = t, .n = 1, .n_head = HEADS, .q_window = q, .q_sink = q,
		    .out = y,
			.scale = 0.1f };
		bool bad = which == 2 ? t == BAD : t >= BAD;

		b->ops->store(b, c, 0, t, 1, k, v);
		b->ops->attend(b, &a);
		y = ops_download(b, y, HEADS * HEAD);
		expect(o, (count_faults(y, HEADS * HEAD) > 0) == bad, names[which], fault, TOKENS, t);
		free(y);
		b->ops->free(b, k);
		b->ops->free(b, v);
		b->ops->free(b, q);
	}
	b->ops->cache_free(b, c);
	for (int i = 0; i < 3; i++)
		free(x[i]);
}

void
ops_faults(struct ops *o)
{
	static const int counts[] = { 1, 3, 9 };
	static const struct { const char *name; enum kv_type type; } caches[] = {
		{ "f32", KV_F32 }, { "f16", KV_F16 }, { "bf16", KV_BF16 }, { "q8_0", KV_Q8_0 },
	};

	ops_begin(o, 0, "faults show: rows");
	for (int i = 0; i < 3; i++)
		for (int f = 0; f < N_FAULTS; f++)
			test_rows(o, counts[i], counts[i] / 2, faults[f]);
	ops_end(o);
	for (int t = 0; t < N_TYPES; t++) {
		ops_begin(o, 0, "faults show: products with %s", quant_get_name(types[t]));
		for (int i = 0; i < 3; i++) {
			for (int f = 0; f < count_kinds(o); f++)
				test_linear(o, o->tested, types[t], counts[i], counts[i] / 2, faults[f]);
			test_weights(o, o->tested, types[t], counts[i]);
			if (o->mapped != NULL)
				test_weights(o, o->mapped, types[t], counts[i]);
			test_output(o, types[t], counts[i], i == 1 ? 30 : 0);
		}
		test_embed(o, types[t]);
		ops_end(o);
	}
	for (int i = 0; i < 4; i++) {
		ops_begin(o, 0, "faults show: attention, %s", caches[i].name);
		for (int which = 0; which < 3; which++)
			/* An infinite score may rightly be a weight of 0. */
			for (int f = 0; f < (which == 1 ? count_kinds(o) : 1); f++)
				test_attention(o, caches[i].type, which, faults[f]);
		ops_end(o);
	}
}
