/*
 * Operations one after the other, as a layer has them: a backend may make one
 * of several, and need not keep what lies between them.
 */
#include <math.h>
#include <stdlib.h>

#include "engine/engine.h"
#include "engine/quant.h"
#include "ops.h"

/* x += down(act(gate(norm(x))) * up(norm(x))), or without up. */
struct feed_forward {
	struct weight gate, up, down;  /* not loaded; up without data: not gated */
	const float *norm_weight, *norm_bias, *x;
	enum norm_kind norm;
	enum activation act;
	int n;
};

static float *
run_feed_forward(struct backend *b, const struct feed_forward *f)
{
	struct weight gate = f->gate, up = f->up, down = f->down;
	int64_t width = down.rows, inner = gate.rows;
	struct vector weight = ops_load_vector(b, f->norm_weight, width), bias = ops_load_vector(b, f->norm_bias, width);
	struct vector none = { 0 };
	float *x = ops_upload(b, f->x, f->n * width), *h = ops_poisoned(b, f->n * width), *y = ops_poisoned(b, f->n * width);
	float *g = ops_poisoned(b, f->n * inner), *u = up.data != NULL ? ops_poisoned(b, f->n * inner) : NULL;
	struct linear in = { .x = h, .n = f->n, .count = u != NULL ? 2 : 1, .out = { { &gate, &none, g }, { &up, &none, u } } };
	struct linear out = { .x = g, .n = f->n, .count = 1, .out = { { &down, &none, y } } };
	struct err e;

	ops_must(b->ops->load_weight(b, &gate, &e), &e);
	if (u != NULL)
		ops_must(b->ops->load_weight(b, &up, &e), &e);
	ops_must(b->ops->load_weight(b, &down, &e), &e);
	b->ops->norm(b, f->norm, 1e-5f, &weight, &bias, x, f->n, width, h);
	b->ops->linear(b, &in);
	b->ops->activate(b, f->act, g, u, f->n * inner, g);
	b->ops->linear(b, &out);
	b->ops->add(b, x, y, f->n * width);
	if (b->ops->end != NULL)
		b->ops->end(b, x);
	x = ops_download(b, x, f->n * width);
	b->ops->unload_weight(b, &gate);
	if (u != NULL)
		b->ops->unload_weight(b, &up);
	b->ops->unload_weight(b, &down);
	b->ops->unload_vector(b, &weight);
	b->ops->unload_vector(b, &bias);
	b->ops->free(b, h);
	b->ops->free(b, y);
	b->ops->free(b, g);
	if (u != NULL)
		b->ops->free(b, u);
	return x;
}

static void
test_feed_forward(struct ops *o, uint32_t type)
{
	static const struct {
		int64_t width, inner;
		int n;
		bool gated, layer;
		enum activation act;
	} shapes[] = {
		{ 96, 160, 1, true, false, ACT_SILU }, { 100, 33, 1, false, true, ACT_GELU }, { 37, 70, 2, true, false, ACT_GELU_TANH },
		{ 577, 97, 1, true, true, ACT_SILU }, { 544, 1601, 1, true, false, ACT_SILU }, { 2080, 224, 3, false, false, ACT_GELU },
		{ 4096, 64, 1, true, false, ACT_SILU }, { 4100, 70, 1, true, true, ACT_SILU }, { 96, 160, 8, true, false, ACT_SILU },
		{ 160, 96, 9, true, true, ACT_GELU_TANH }, { 96, 97, 33, false, false, ACT_GELU },
	};

	/* Activations between the products may be rounded as those before them are. */
	ops_begin(o, 2 * ops_tolerance(o, type), "feed forward %s", quant_get_name(type));
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		int64_t width = ops_fit_columns(type, shapes[i].width), inner = ops_fit_columns(type, shapes[i].inner);
		/* Results of products are about as large as what they are made of. */
		float in = 1 / sqrtf((float)width), out = 1 / sqrtf((float)inner);
		float *x = ops_random(o, shapes[i].n * width), *weight = ops_random(o, width), *bias = ops_random(o, width);
		struct feed_forward f = {
			.gate = ops_make_weight(o, type, inner, width, in), .down = ops_make_weight(o, type, width, inner, out), .x = x,
			.norm_weight = weight, .norm_bias = shapes[i].layer ? bias : NULL,
			.norm = shapes[i].layer ? NORM_LAYER : NORM_RMS, .act = shapes[i].act, .n = shapes[i].n,
		};

		if (shapes[i].gated)
			f.up = ops_make_weight(o, type, inner, width, in);
		ops_compare(o, run_feed_forward(o->plain, &f), run_feed_forward(o->tested, &f), f.n * width, "%d x %lld, %lld%s%s",
		    f.n, (long long)width, (long long)inner, shapes[i].gated ? ", gated" : "", shapes[i].layer ? ", bias" : "");
		free((void *)(uintptr_t)f.gate.data);
		free((void *)(uintptr_t)f.up.data);
		free((void *)(uintptr_t)f.down.data);
		free(x);
		free(weight);
		free(bias);
	}
	ops_end(o);
}

void
ops_layers(struct ops *o)
{
	static const uint32_t types[] = { QUANT_F32, QUANT_F16, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q8_0, QUANT_Q4_K, QUANT_Q6_K };

	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		test_feed_forward(o, types[i]);
}
