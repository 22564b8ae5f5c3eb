/*
 * Keys and values of tokens in the form in which they are stored: per token
 * and head the key's elements, its scales (q8_0), the value's elements and
 * scales. It does not depend on where in the ring a token lies.
 */
#include <string.h>

#include "engine/cpu/cache.h"

static int64_t
snapshot_groups(const struct cache *c, int64_t d)
{
	return c->s.type == KV_Q8_0 ? (d + Q8_GROUP - 1) / Q8_GROUP : 0;
}

static size_t
snapshot_element_size(const struct cache *c)
{
	return c->s.type == KV_F32 ? sizeof(float) : c->s.type == KV_Q8_0 ? 1 : sizeof(uint16_t);
}

size_t
cpu_cache_token_bytes(const struct cache *c)
{
	size_t scales = (size_t)(snapshot_groups(c, c->s.d_k) + snapshot_groups(c, c->s.d_v)) * sizeof(float);

	return (size_t)c->s.n_head_kv * ((size_t)(c->s.d_k + c->s.d_v) * snapshot_element_size(c) + scales);
}

/* One of a block's two sides: element i of the vector in a lane, and where scales begin. */
struct side {
	char *block;
	int64_t d, at, step, scales_at, scales_step;
	bool pairs; /* bfloat16: pairs of rows interleaved */
	bool key;
	int lane;
	int64_t width; /* of a value's row */
};

static char *
find_element(const struct cache *c, const struct side *s, int64_t i)
{
	int64_t at = s->at + i * s->step;

	if (s->pairs && s->key)
		at = (i / 2 * CACHE_BLOCK + s->lane) * 2 + i % 2;
	else if (s->pairs)
		at = (s->lane / 2 * s->width + i) * 2 + s->lane % 2;
	return s->block + (size_t)at * snapshot_element_size(c);
}

/* A vector to or from the bytes at p; returns where the next one begins. */
static char *
copy_side(const struct cache *c, const struct side *s, char *p, bool save)
{
	size_t size = snapshot_element_size(c);
	float *scales = (float *)(s->block + (size_t)(s->key ? c->d_k : c->d_v) * CACHE_BLOCK) + s->scales_at;

	for (int64_t i = 0; i < s->d; i++, p += size) {
		char *element = find_element(c, s, i);

		memcpy(save ? p : element, save ? element : p, size);
	}
	for (int64_t i = 0; i < snapshot_groups(c, s->d); i++, p += sizeof *scales) {
		float *scale = scales + i * s->scales_step;

		memcpy(save ? (void *)p : scale, save ? (void *)scale : p, sizeof *scale);
	}
	return p;
}

static void
snapshot_copy_tokens(struct cache *c, int layer, int64_t first, int64_t n, char *p, bool save)
{
	bool pairs = c->s.type == KV_BF16;

	for (int64_t t = first; t < first + n; t++) {
		int lane;
		int64_t block = cache_find_slot(c, t, &lane);

		for (int h = 0; h < c->s.n_head_kv; h++) {
			struct side key = { .block = (char *)cache_keys(c, layer, h, block), .d = c->s.d_k, .at = lane,
				.step = CACHE_BLOCK, .scales_at = lane, .scales_step = CACHE_BLOCK, .pairs = pairs,
				.key = true,
				.lane = lane };
			struct side value = { .block = (char *)cache_values(c, layer, h, block), .d = c->s.d_v,
				.at = lane * c->d_v, .step = 1, .scales_at = lane * snapshot_groups(c, c->d_v),
				.scales_step = 1,
				.pairs = pairs, .lane = lane, .width = c->d_v };

			p = copy_side(c, &key, p, save);
			p = copy_side(c, &value, p, save);
		}
	}
}

int
cpu_cache_save(struct backend *b, struct cache *c, int layer, int64_t first, int64_t n, void *to, struct err *e)
{
	(void)b;
	(void)e;
	snapshot_copy_tokens(c, layer, first, n, to, true);
	return 0;
}

int
cpu_cache_load(struct backend *b, struct cache *c, int layer, int64_t first, int64_t n, const void *from,
    struct err *e)
{
	(void)b;
	(void)e;
	snapshot_copy_tokens(c, layer, first, n, (char *)from, false);
	return 0;
}
