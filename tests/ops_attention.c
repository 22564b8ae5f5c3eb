/* The cache and the attention over it: streams in uneven chunks, rings that wrap, every mask. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "random_data.h"

struct stream {
	int n_head, n_head_kv, d_k, d_v;
	int64_t sinks, window; /* window INT64_MAX: dense, the cache grows */
	int64_t native;
	float softcap;
	bool alibi;
	int tokens;
	int chunks[6];         /* lengths of the calls, in turn, until the tokens are used up */
	enum kv_type type;
	const float *k, *v, *q_window, *q_sink, *slopes;
};

enum { LAYERS = 2, LAYER = 1, CHUNK_MAX = 257 };

static struct cache *
make_cache(struct backend *b, const struct stream *s, struct cache_shape *shape)
{
	struct err e;
	struct cache *c;
	int64_t slots = s->window == INT64_MAX ? CACHE_BLOCK : s->window - 1 + CHUNK_MAX;

	*shape = (struct cache_shape){ .n_layer = LAYERS, .n_head_kv = s->n_head_kv, .d_k = s->d_k, .d_v = s->d_v,
		.sinks = s->sinks, .window = s->window, .type = s->type,
		.slots = (slots + CACHE_BLOCK - 1) / CACHE_BLOCK * CACHE_BLOCK };
	c = b->ops->cache_new(b, shape, &e);
	ops_must(c != NULL ? 0 : -1, &e);
	return c;
}

/* Store and attend n tokens from `first` on; out[n, n_head, d_v]. */
static void
run_chunk(struct backend *b, const struct stream *s, struct cache *c, int64_t first, int n, float *out)
{
	int64_t q = (int64_t)s->n_head * s->d_k, k = (int64_t)s->n_head_kv * s->d_k, v = (int64_t)s->n_head_kv * s->d_v;
	int64_t width = (int64_t)s->n_head * s->d_v;
	float *keys = ops_upload(b, s->k + first * k, n * k), *values = ops_upload(b, s->v + first * v, n * v);
	float *window = ops_upload(b, s->q_window + first * q, n * q);
	float *sink = ops_upload(b, s->q_sink + first * q, n * q), *y;
	struct attend a = { .cache = c, .layer = LAYER, .first = first, .n = n, .n_head = s->n_head, .q_window = window,
		.q_sink = sink, .scale = 0.11f, .softcap = s->softcap, .slopes = s->alibi ? s->slopes : NULL,
		.native = s->native };

	a.out = ops_poisoned(b, n * width);
	/* The other layer holds something else. */
	b->ops->store(b, c, LAYER - 1, first, n, window, sink);
	b->ops->store(b, c, LAYER, first, n, keys, values);
	b->ops->attend(b, &a);
	y = ops_download(b, a.out, n * width);
	memcpy(out + first * width, y, (size_t)(n * width) * sizeof *y);
	free(y);
	b->ops->free(b, keys);
	b->ops->free(b, values);
	b->ops->free(b, window);
	b->ops->free(b, sink);
}

static float *
run_stream(struct backend *b, const struct stream *s)
{
	float *out = ops_allocate((size_t)s->tokens * (size_t)(s->n_head * s->d_v) * sizeof *out);
	struct cache_shape shape;
	struct cache *c = make_cache(b, s, &shape);
	struct err e;

	for (int first = 0, call = 0, n; first < s->tokens; first += n, call++) {
		n = s->chunks[call % 6];
		n = n < s->tokens - first ? n : s->tokens - first;
		if (s->window == INT64_MAX && first + n > shape.slots) {
			while (shape.slots < first + n)
				shape.slots *= 2;
			ops_must(b->ops->cache_grow(b, c, shape.slots, &e), &e);
		}
		run_chunk(b, s, c, first, n, out);
	}
	b->ops->cache_free(b, c);
	return out;
}

static const struct stream streams[] = {
	/* head sizes, shared heads, windows that wrap, sinks */
	{ 1, 1, 16, 16, 0, 24, 0, 0, false, 90, { 1, 2, 7, 33, 1, 1 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 9, 3, 64, 64, 4, 60, 0, 0, false, 300, { 33, 1, 7, 64, 2, 128 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 17, 1, 48, 48, 1, 40, 0, 0, false, 200, { 7, 33, 1, 2, 65, 1 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 4, 2, 80, 80, 4, 20, 0, 0, true, 150, { 50, 1, 1, 33, 2, 7 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 6, 6, 128, 128, 4, 252, 0, 0, false, 1100, { 257, 1, 100, 257, 3, 17 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 8, 2, 128, 128, 300, 20, 0, 0, false, 420, { 257, 1, 7, 33, 64, 1 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 4, 1, 256, 256, 4, 100, 0, 50, false, 260, { 65, 1, 33, 7, 64, 1 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 40, 1, 96, 96, 4, 33, 0, 0, false, 130, { 31, 1, 2, 33, 7, 1 }, KV_F32, 0, 0, 0, 0, 0 },
	/* keys and values of different length, and lengths that are no multiple of anything */
	{ 4, 2, 64, 32, 3, 30, 0, 0, false, 120, { 33, 2, 7, 1, 1, 40 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 3, 3, 37, 21, 2, 19, 0, 0, false, 100, { 10, 1, 2, 33, 7, 1 }, KV_F32, 0, 0, 0, 0, 0 },
	/* a native window shorter than the window, and so short that sinks vanish from sight */
	{ 4, 2, 64, 64, 4, 60, 20, 0, false, 200, { 33, 1, 7, 64, 2, 31 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 4, 4, 128, 128, 8, 12, 14, 0, false, 100, { 5, 1, 33, 2, 7, 1 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 4, 4, 64, 64, 0, 1, 0, 0, false, 40, { 5, 1, 3, 2, 7, 1 }, KV_F32, 0, 0, 0, 0, 0 },
	/* long chunks of wide heads over a ring that wraps */
	{ 4, 2, 128, 128, 4, 200, 0, 0, false, 600, { 257, 1, 100, 64, 31, 2 }, KV_F32, 0, 0, 0, 0, 0 },
	/* dense: the cache grows */
	{ 9, 3, 64, 64, 0, INT64_MAX, 0, 0, false, 700, { 257, 1, 7, 33, 200, 2 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 4, 2, 80, 80, 0, INT64_MAX, 50, 0, true, 150, { 33, 1, 7, 64, 2, 1 }, KV_F32, 0, 0, 0, 0, 0 },
};

/* So many heads that blocks of a GPU have several steps each and no cluster to join in: for caches of halves. */
static const struct stream crowds[] = {
	{ 140, 140, 128, 128, 4, 70, 0, 0, false, 100, { 1, 7, 33, 2, 1, 8 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 200, 100, 64, 48, 20, 130, 0, 30, true, 160, { 33, 1, 8, 1, 2, 3 }, KV_F32, 0, 0, 0, 0, 0 },
	{ 140, 140, 128, 96, 0, 80, 40, 0, false, 120, { 50, 1, 8, 7, 1, 2 }, KV_F32, 0, 0, 0, 0, 0 },
};

/* Compare a stream with the plain one; or, `alone`, with itself fed token by token. */
static void
test_stream(struct ops *o, const struct stream *shape, enum kv_type type, bool alone)
{
	struct stream s = *shape, other;
	int64_t n = s.tokens;
	float *k = ops_random(o, n * s.n_head_kv * s.d_k), *v = ops_random(o, n * s.n_head_kv * s.d_v);
	float *q_window = ops_random(o, n * s.n_head * s.d_k), *q_sink = ops_random(o, n * s.n_head * s.d_k);
	float *slopes = ops_random(o, s.n_head);

	s.k = k;
	s.v = v;
	s.q_window = q_window;
	s.q_sink = q_sink;
	for (int i = 0; i < s.n_head; i++)
		slopes[i] = 0.05f * slopes[i] * slopes[i];
	s.slopes = slopes;
	other = s;
	s.type = type;
	for (int i = 0; alone && i < 6; i++)
		other.chunks[i] = 1;
	ops_compare(o, run_stream(alone ? o->tested : o->plain, &other), run_stream(o->tested, &s),
	    n * s.n_head * s.d_v,
	    "%d heads over %d of %d and %d, sinks %lld, window %lld, native %lld%s%s", s.n_head, s.n_head_kv, s.d_k,
	    s.d_v, (long long)s.sinks, s.window == INT64_MAX ? -1LL : (long long)s.window, (long long)s.native,
	    s.alibi ? ", ALiBi" : "", s.softcap > 0 ? ", softcap" : "");
	free(k);
	free(v);
	free(q_window);
	free(q_sink);
	free(slopes);
}

/*
 * Keys or values of a token have NaN: results of tokens that see it are NaN,
 * and no others, whatever else is in their chunk.
 */
static void
test_nan(struct ops *o, const struct stream *shape, enum kv_type type, bool key, int bad)
{
	struct stream s = *shape;
	int64_t n = s.tokens, width = (int64_t)s.n_head * s.d_v, per_k = (int64_t)s.n_head_kv * s.d_k;
	int64_t per_v = (int64_t)s.n_head_kv * s.d_v;
	float *k = ops_random(o, n * per_k), *v = ops_random(o, n * per_v), *got;
	float *q = ops_random(o, n * s.n_head * s.d_k);
	float *expected = ops_allocate((size_t)(n * s.n_head) * sizeof *expected);

	for (int i = 0; i < s.n_head_kv; i++)
		*(key ? &k[bad * per_k + i * s.d_k + 5] : &v[bad * per_v + i * s.d_v + 5]) = NAN;
	s.k = k;
	s.v = v;
	s.q_window = s.q_sink = q;
	s.type = type;
	got = run_stream(o->tested, &s);
	for (int64_t i = 0; i < n * s.n_head; i++) {
		int64_t token = i / s.n_head;
		bool some = false;

		for (int64_t d = 0; d < s.d_v; d++)
			some |= isnan(got[token * width + i % s.n_head * s.d_v + d]);
		got[i] = some ? 1 : 0;
		expected[i] = token >= bad && (bad < s.sinks || token - bad < s.window) ? 1 : 0;
	}
	ops_compare(o, expected, got, n * s.n_head, "a %s, %d heads over %d of %d, window %lld, token %d",
	    key ? "key" : "value", s.n_head, s.n_head_kv, s.d_k, (long long)s.window, bad);
	free(k);
	free(v);
	free(q);
}

void
ops_attention(struct ops *o)
{
	static const struct { const char *name; enum kv_type type; double tolerance; } kinds[] = {
		{ "f32", KV_F32, 1e-5 }, { "f16", KV_F16, 2e-3 }, { "q8_0", KV_Q8_0, 2e-2 }, { "bf16", KV_BF16, 2e-2 },
	};

	for (int i = 0; i < 3; i++) {
		ops_begin(o, kinds[i].tolerance, "store and attend, %s", kinds[i].name);
		for (size_t j = 0; j < sizeof streams / sizeof streams[0]; j++)
			test_stream(o, &streams[j], kinds[i].type, false);
		for (size_t j = 0; j < sizeof crowds / sizeof crowds[0] && kinds[i].type == KV_F16; j++)
			test_stream(o, &crowds[j], KV_F16, false);
		ops_end(o);
	}
	/* As a rule a CPU's path reads the values that it gives a weight of zero. */
	for (int i = 0; i < 3 && o->tested->device; i++) {
		ops_begin(o, 0, "attend, %s, NaN", kinds[i].name);
		for (int j = 0; j < 8; j++) {
			test_nan(o, &streams[1], kinds[i].type, j % 2 == 0, (int[]){ 2, 20, 70, 130 }[j / 2]);
			test_nan(o, &streams[4], kinds[i].type, j % 2 == 0, (int[]){ 3, 200, 520, 900 }[j / 2]);
			if (kinds[i].type == KV_F16)
				test_nan(o, &crowds[0], KV_F16, j % 2 == 0, (int[]){ 0, 8, 41, 90 }[j / 2]);
		}
		ops_end(o);
	}
	ops_begin(o, ops_same(o), "attend, token by token");
	for (size_t j = 0; j < sizeof streams / sizeof streams[0]; j++)
		test_stream(o, &streams[j], KV_F32, true);
	ops_end(o);
}
