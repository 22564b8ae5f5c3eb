/*
 * Operations one after the other, as a layer has them: a backend may make one
 * of several, and need not keep what lies between them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/quant.h"
#include "engine/rope.h"
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
	struct vector weight = ops_load_vector(b, f->norm_weight, width),
	    bias = ops_load_vector(b, f->norm_bias, width);
	struct vector none = { 0 };
	float *x = ops_upload(b, f->x, f->n * width), *h = ops_poisoned(b, f->n * width),
	    *y = ops_poisoned(b, f->n * width);
	float *g = ops_poisoned(b, f->n * inner), *u = up.data != NULL ? ops_poisoned(b, f->n * inner) : NULL;
	struct linear in = { .x = h, .n = f->n, .count = u != NULL ? 2 : 1,
	    .out = { { &gate, &none, g }, { &up, &none, u } } };
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
		{ 96, 160, 1, true, false, ACT_SILU }, { 100, 33, 1, false, true, ACT_GELU },
		    { 37, 70, 2, true, false, ACT_GELU_TANH },
		{ 577, 97, 1, true, true, ACT_SILU }, { 544, 1601, 1, true, false, ACT_SILU },
		    { 2080, 224, 3, false, false, ACT_GELU },
		{ 4096, 64, 1, true, false, ACT_SILU }, { 4100, 70, 1, true, true, ACT_SILU },
		    { 96, 160, 8, true, false, ACT_SILU },
		{ 160, 96, 9, true, true, ACT_GELU_TANH }, { 96, 97, 33, false, false, ACT_GELU },
	};

	/* Activations between the products may be rounded as those before them are. */
	ops_begin(o, 2 * ops_tolerance(o, type), "feed forward %s", quant_get_name(type));
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		int64_t width = ops_fit_columns(type, shapes[i].width), inner = ops_fit_columns(type, shapes[i].inner);
		/* Results of products are about as large as what they are made of. */
		float in = 1 / sqrtf((float)width), out = 1 / sqrtf((float)inner);
		float *x = ops_random(o, shapes[i].n * width), *weight = ops_random(o, width),
		    *bias = ops_random(o, width);
		struct feed_forward f = {
			.gate = ops_make_weight(o, type, inner, width, in),
			.down = ops_make_weight(o, type, width, inner, out), .x = x,
			.norm_weight = weight, .norm_bias = shapes[i].layer ? bias : NULL,
			.norm = shapes[i].layer ? NORM_LAYER : NORM_RMS, .act = shapes[i].act, .n = shapes[i].n,
		};

		if (shapes[i].gated)
			f.up = ops_make_weight(o, type, inner, width, in);
		ops_compare(o, run_feed_forward(o->plain, &f), run_feed_forward(o->tested, &f), f.n * width,
		    "%d x %lld, %lld%s%s",
		    f.n, (long long)width, (long long)inner, shapes[i].gated ? ", gated" : "", shapes[i].layer
		    ? ", bias" : "");
		free((void *)(uintptr_t)f.gate.data);
		free((void *)(uintptr_t)f.up.data);
		free((void *)(uintptr_t)f.down.data);
		free(x);
		free(weight);
		free(bias);
	}
	ops_end(o);
}

/* out(attention(rotated(norm(q)), rotated(norm(k)), v)) of a stream that comes in pieces. */
struct heads_shape {
	int n_head, n_head_kv, d;
	int64_t sinks, window;
	bool normed;
	int n_rot, tokens;
	int chunks[4];         /* lengths of the calls, in turn */
};

struct heads {
	const struct heads_shape *s;
	enum kv_type type;
	struct weight w[4];    /* not loaded: queries, keys and values, [heads * d, WIDTH], and back */
	const float *x, *q_norm, *k_norm;
};

enum { WIDTH = 32, HEADS_CHUNK = 33 };

/* What a backend has of all that. */
struct loaded_heads {
	struct weight w[4];
	struct vector q_norm, k_norm;
	struct cache *cache;
	struct rope rope;
	float *q, *q_sink, *k, *v, *a, *tables[2];
};

static void
load_heads(struct backend *b, const struct heads *h, struct loaded_heads *l)
{
	const struct heads_shape *s = h->s;
	int64_t queries = (int64_t)s->n_head * s->d, keys = (int64_t)s->n_head_kv * s->d;
	struct cache_shape shape = { .n_layer = 1, .n_head_kv = s->n_head_kv, .d_k = s->d, .d_v = s->d,
	    .sinks = s->sinks,
		.window = s->window, .type = h->type,
		.slots = (s->window - 1 + HEADS_CHUNK + CACHE_BLOCK - 1) / CACHE_BLOCK * CACHE_BLOCK };
	struct rope_params p = { .style = ROPE_HALVES, .n_rot = s->n_rot, .base = 1e4, .factor = 1, .attn_factor = 1 };
	struct err e;

	*l = (struct loaded_heads){ .q_norm = ops_load_vector(b, h->q_norm, s->d),
		.k_norm = ops_load_vector(b, h->k_norm, s->d), .q = ops_poisoned(b, HEADS_CHUNK * queries),
		.q_sink = ops_poisoned(b, HEADS_CHUNK * queries), .k = ops_poisoned(b, HEADS_CHUNK * keys),
		.v = ops_poisoned(b, HEADS_CHUNK * keys), .a = ops_poisoned(b, HEADS_CHUNK * queries) };
	ops_must(rope_init(&l->rope, &p, &e), &e);
	for (int i = 0; i < 2; i++)
		l->tables[i] = ops_poisoned(b, HEADS_CHUNK * s->n_rot);
	for (int i = 0; i < 4; i++) {
		l->w[i] = h->w[i];
		ops_must(b->ops->load_weight(b, &l->w[i], &e), &e);
	}
	l->cache = b->ops->cache_new(b, &shape, &e);
	ops_must(l->cache != NULL ? 0 : -1, &e);
}

static void
unload_heads(struct backend *b, struct loaded_heads *l)
{
	float *buffers[] = { l->q, l->q_sink, l->k, l->v, l->a, l->tables[0], l->tables[1] };

	b->ops->cache_free(b, l->cache);
	for (int i = 0; i < 4; i++)
		b->ops->unload_weight(b, &l->w[i]);
	b->ops->unload_vector(b, &l->q_norm);
	b->ops->unload_vector(b, &l->k_norm);
	for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
		b->ops->free(b, buffers[i]);
	rope_fini(&l->rope);
}

/* n tokens from `first` on; y[n, WIDTH]. */
static void
run_heads_chunk(struct backend *b, const struct heads *h, struct loaded_heads *l, int64_t first, int n, float *y)
{
	static const struct vector none = { 0 };
	const struct heads_shape *s = h->s;
	float *x = ops_upload(b, h->x + first * WIDTH, n * WIDTH), *result = ops_poisoned(b, n * WIDTH), *host;
	struct linear in = { .x = x, .n = n, .count = 3, .out = { { &l->w[0], &none, l->q }, { &l->w[1], &none, l->k },
		{ &l->w[2], &none, l->v } } };
	struct linear out = { .x = l->a, .n = n, .count = 1, .out = { { &l->w[3], &none, result } } };
	struct attend a = { .cache = l->cache, .first = first, .n = n, .n_head = s->n_head, .q_window = l->q,
		.q_sink = l->q_sink, .out = l->a, .scale = 1 / sqrtf((float)s->d) };
	int64_t positions[HEADS_CHUNK], last = s->sinks + s->window - 1;

	for (int sink = 0; sink < (s->sinks > 0 ? 2 : 1); sink++) {
		for (int i = 0; i < n; i++)
			positions[i] = sink != 0 && first + i > last ? last : first + i;
		b->ops->rope_table(b, &l->rope, positions, n, l->tables[sink]);
	}
	b->ops->linear(b, &in);
	if (s->normed) {
		b->ops->norm(b, NORM_RMS, 1e-5f, &l->q_norm, &none, l->q, (int64_t)n * s->n_head, s->d, l->q);
		b->ops->norm(b, NORM_RMS, 1e-5f, &l->k_norm, &none, l->k, (int64_t)n * s->n_head_kv, s->d, l->k);
	}
	if (s->sinks > 0)
		b->ops->rotate(b, &l->rope, l->tables[1], l->q, n, s->n_head, s->d, l->q_sink);
	b->ops->rotate(b, &l->rope, l->tables[0], l->q, n, s->n_head, s->d, l->q);
	b->ops->rotate(b, &l->rope, l->tables[0], l->k, n, s->n_head_kv, s->d, l->k);
	b->ops->store(b, l->cache, 0, first, n, l->k, l->v);
	b->ops->attend(b, &a);
	b->ops->linear(b, &out);
	if (b->ops->end != NULL)
		b->ops->end(b, result);
	host = ops_download(b, result, n * WIDTH);
	memcpy(y + first * WIDTH, host, (size_t)(n * WIDTH) * sizeof *host);
	free(host);
	b->ops->free(b, x);
}

static float *
run_heads(struct backend *b, const struct heads *h)
{
	float *y = ops_allocate((size_t)(h->s->tokens * WIDTH) * sizeof *y);
	struct loaded_heads l;

	load_heads(b, h, &l);
	for (int first = 0, call = 0, n; first < h->s->tokens; first += n, call++) {
		n = h->s->chunks[call % 4];
		n = n < h->s->tokens - first ? n : h->s->tokens - first;
		run_heads_chunk(b, h, &l, first, n, y);
	}
	unload_heads(b, &l);
	return y;
}

/* From the first token on, while there are fewer tokens than sinks, and until the ring has wrapped. */
static void
test_heads(struct ops *o, enum kv_type type)
{
	static const struct heads_shape shapes[] = {
		{ 32, 32, 128, 4, 60, false, 128, 140, { 1, 1, 1, 1 } },
		    { 9, 3, 64, 4, 70, false, 64, 150, { 1, 2, 7, 1 } },
		{ 8, 2, 96, 21, 60, true, 96, 140, { 1, 8, 33, 1 } },
		    { 6, 6, 128, 0, 40, true, 64, 110, { 3, 1, 1, 5 } },
		{ 4, 1, 256, 4, 90, false, 256, 150, { 1, 1, 2, 8 } },
		/* so many heads that blocks have several steps each, and no cluster to join in */
		{ 100, 100, 64, 4, 140, false, 64, 170, { 1, 1, 8, 3 } },
		{ 140, 140, 96, 3, 70, true, 32, 90, { 1, 5, 1, 7 } },
	};

	ops_begin(o, type == KV_F16 ? 5e-3 : 3e-2, "heads, %s", type == KV_F16 ? "f16" : "q8_0");
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		const struct heads_shape *s = &shapes[i];
		int64_t queries = (int64_t)s->n_head * s->d, keys = (int64_t)s->n_head_kv * s->d;
		float *x = ops_random(o, s->tokens * WIDTH), *q_norm = ops_random(o, s->d),
		    *k_norm = ops_random(o, s->d);
		struct heads h = { .s = s, .type = KV_F32, .x = x, .q_norm = q_norm, .k_norm = k_norm }, tested;

		for (int j = 0; j < 3; j++)
			h.w[j] = ops_make_weight(o, QUANT_F16, j == 0 ? queries : keys, WIDTH, 0.18f);
		h.w[3] = ops_make_weight(o, QUANT_F16, WIDTH, queries, 1 / sqrtf((float)queries));
		tested = h;
		tested.type = type;
		ops_compare(o, run_heads(o->plain, &h), run_heads(o->tested, &tested), s->tokens * WIDTH,
		    "%d heads over %d of %d, sinks %lld, window %lld", s->n_head, s->n_head_kv, s->d,
		    (long long)s->sinks, (long long)s->window);
		for (int j = 0; j < 4; j++)
			free((void *)(uintptr_t)h.w[j].data);
		free(x);
		free(q_norm);
		free(k_norm);
	}
	ops_end(o);
}

void
ops_layers(struct ops *o)
{
	static const uint32_t types[] = { QUANT_F32, QUANT_F16, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q8_0, QUANT_Q4_K,
	    QUANT_Q6_K };

	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		test_feed_forward(o, types[i]);
	test_heads(o, KV_F16);
	test_heads(o, KV_Q8_0);
}
