/* Operations that work row by row: norms, rotation, activation, sums, copies. */
#include <stdlib.h>

#include "engine/rope.h"
#include "ops.h"

static const int counts[] = { 1, 2, 7, 33, 257 };
enum { N_COUNTS = sizeof counts / sizeof counts[0] };

static float *
run_norm(struct backend *b, enum norm_kind kind, const float *weight, const float *bias, const float *x, int64_t n,
    int64_t width, bool in_place)
{
	struct vector w = ops_load_vector(b, weight, width), v = ops_load_vector(b, bias, width);
	float *in = ops_upload(b, x, n * width), *out = in_place ? in : ops_poisoned(b, n * width), *y;

	b->ops->norm(b, kind, 1e-5f, &w, &v, in, n, width, out);
	y = ops_download(b, out, n * width);
	if (!in_place)
		b->ops->free(b, in);
	b->ops->unload_vector(b, &w);
	b->ops->unload_vector(b, &v);
	return y;
}

static void
test_norm(struct ops *o, enum norm_kind kind)
{
	static const int widths[] = { 1, 16, 48, 577, 4096 };

	ops_begin(o, 1e-5, "norm %s", kind == NORM_RMS ? "rms" : "layer");
	for (int i = 0; i < N_COUNTS; i++)
		for (int j = 0; j < 5; j++)
			for (int variant = 0; variant < 2; variant++) {
				int64_t n = counts[i], width = widths[j];
				float *x = ops_random(o, n * width), *weight = ops_random(o, width),
				    *bias = ops_random(o, width);

				/* a mean far from zero */
				for (int64_t k = 0; k < n * width; k++)
					x[k] = x[k] * 3 + 2;
				ops_compare(o,
				    run_norm(o->plain, kind, weight, variant != 0 ? bias : NULL, x, n, width,
				    variant != 0),
				    run_norm(o->tested, kind, weight, variant != 0 ? bias : NULL, x, n, width,
				    variant != 0), n * width,
				    "%d x %d, %s", (int)n, (int)width, variant != 0 ? "bias, in place" : "no bias");
				free(x);
				free(weight);
				free(bias);
			}
	ops_end(o);
}

static float *
run_rotate(struct backend *b, const struct rope *r, const int64_t *positions, const float *x, int n, int heads, int d,
    bool in_place)
{
	int64_t all = (int64_t)n * heads * d;
	float *table = ops_poisoned(b, (int64_t)n * r->n_rot), *in = ops_upload(b, x, all), *y;
	float *out = in_place ? in : ops_poisoned(b, all);

	b->ops->rope_table(b, r, positions, n, table);
	b->ops->rotate(b, r, table, in, n, heads, d, out);
	y = ops_download(b, out, all);
	if (!in_place)
		b->ops->free(b, in);
	b->ops->free(b, table);
	return y;
}

static void
test_rotate(struct ops *o, enum rope_style style)
{
	static const struct { int heads, d, n_rot; } shapes[] = {
		{ 1, 16, 16 }, { 3, 48, 48 }, { 17, 64, 64 }, { 2, 80, 20 }, { 5, 128, 128 }, { 1, 256, 64 },
	};

	ops_begin(o, 1e-6, "rope_table and rotate, %s", style == ROPE_PAIRS ? "pairs" : "halves");
	for (int i = 0; i < N_COUNTS; i++)
		for (size_t j = 0; j < sizeof shapes / sizeof shapes[0]; j++)
			for (int in_place = 0; in_place < 2; in_place++) {
				struct rope_params p = { .style = style, .n_rot = shapes[j].n_rot, .base = 1e4,
				    .factor = 1,
					.attn_factor = 1.25 };
				int n = counts[i], heads = shapes[j].heads, d = shapes[j].d;
				int64_t positions[257], all = (int64_t)n * heads * d;
				float *x = ops_random(o, all);
				struct rope r;
				struct err e;

				ops_must(rope_init(&r, &p, &e), &e);
				for (int k = 0; k < n; k++) /* from the beginning, and far into the stream */
					positions[k] = k % 2 == 0 ? k : ((int64_t)1 << 40) - 100 + k;
				ops_compare(o, run_rotate(o->plain, &r, positions, x, n, heads, d, in_place != 0),
				    run_rotate(o->tested, &r, positions, x, n, heads, d, in_place != 0), all,
				    "%d x %d heads of %d, %d rotated", n, heads, d, shapes[j].n_rot);
				rope_fini(&r);
				free(x);
			}
	ops_end(o);
}

static float *
run_activate(struct backend *b, enum activation act, const float *gate, const float *up, int64_t n)
{
	float *g = ops_upload(b, gate, n), *u = up != NULL ? ops_upload(b, up, n) : NULL;

	b->ops->activate(b, act, g, u, n, g);
	if (u != NULL)
		b->ops->free(b, u);
	return ops_download(b, g, n);
}

static void
test_activate(struct ops *o, enum activation act)
{
	static const char *const names[] = { "silu", "gelu", "gelu_tanh" };
	static const int64_t lengths[] = { 1, 7, 577, 40001 };

	ops_begin(o, 1e-5, "activate %s", names[act]);
	for (int i = 0; i < 4; i++)
		for (int gated = 0; gated < 2; gated++) {
			float *gate = ops_random(o, lengths[i]), *up = ops_random(o, lengths[i]);

			for (int64_t k = 0; k < lengths[i]; k++)
				gate[k] *= 4;
			gate[0] = up[0] = 2; /* one result at least that is not tiny */
			ops_compare(o, run_activate(o->plain, act, gate, gated != 0 ? up : NULL, lengths[i]),
			    run_activate(o->tested, act, gate, gated != 0 ? up : NULL, lengths[i]), lengths[i],
			    "%lld values%s", (long long)lengths[i], gated != 0 ? ", gated" : "");
			free(gate);
			free(up);
		}
	ops_end(o);
}

/* x + y, copied elsewhere */
static float *
run_add(struct backend *b, const float *x, const float *y, int64_t n)
{
	float *p = ops_upload(b, x, n), *q = ops_upload(b, y, n), *to = ops_poisoned(b, n);

	b->ops->add(b, p, q, n);
	b->ops->copy(b, to, p, n);
	b->ops->free(b, p);
	b->ops->free(b, q);
	return ops_download(b, to, n);
}

static void
test_add(struct ops *o)
{
	static const int64_t lengths[] = { 1, 7, 577, 40001 };

	ops_begin(o, 0, "add and copy");
	for (int i = 0; i < 4; i++) {
		float *x = ops_random(o, lengths[i]), *y = ops_random(o, lengths[i]);

		ops_compare(o, run_add(o->plain, x, y, lengths[i]), run_add(o->tested, x, y, lengths[i]), lengths[i],
		    "%lld values", (long long)lengths[i]);
		free(x);
		free(y);
	}
	ops_end(o);
}

void
ops_rows(struct ops *o)
{
	test_norm(o, NORM_RMS);
	test_norm(o, NORM_LAYER);
	test_rotate(o, ROPE_PAIRS);
	test_rotate(o, ROPE_HALVES);
	test_activate(o, ACT_SILU);
	test_activate(o, ACT_GELU);
	test_activate(o, ACT_GELU_TANH);
	test_add(o);
}
