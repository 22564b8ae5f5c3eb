/* Storing keys and values in float32, float16 or q8_0, and reading them back; see cache.h. */
#include "engine/cpu/cache.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static int64_t
cache_round_up(int64_t n, int64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

static int64_t
cache_groups(int64_t d)
{
	return (d + Q8_GROUP - 1) / Q8_GROUP;
}

/* Bytes of a block of CACHE_BLOCK vectors of d elements; in q8_0 the scales follow the elements. */
static size_t
block_size(enum kv_type type, int64_t d)
{
	size_t n = (size_t)d * CACHE_BLOCK;

	if (type == KV_F32)
		return n * sizeof(float);
	if (type == KV_F16 || type == KV_BF16)
		return n * sizeof(uint16_t);
	return n + (size_t)cache_groups(d) * CACHE_BLOCK * sizeof(float);
}

/*
 * Memory is touched when it is allocated, so that the stream never waits for
 * it later. Asking for more than there may be would not fail but have some
 * process killed: refuse that first.
 */
static int
check_size(const struct cache *c, struct err *e)
{
	double need = (double)c->s.n_layer * c->s.n_head_kv * (double)cache_blocks(c) *
	    (double)(c->key_size + c->value_size);
	double have = (double)memory_get_limit();

	if (have == 0 || need < have)
		return 0;
	return err_set(e, EX_OSERR, "keys and values of %lld tokens need %.1f GiB, and this process may use %.1f GiB "
	    "of memory", (long long)(cache_blocks(c) * CACHE_BLOCK), need / 0x1p30, have / 0x1p30);
}

/* Floats for a worker at attention: scores and scales, two forms of the queries, the result, decoded blocks. */
static size_t
count_scratch(const struct cache *c)
{
	int64_t widest = c->d_k > c->d_v ? c->d_k : c->d_v;

	return (size_t)(TASK_ROWS * (c->columns + 1 + 2 * c->d_k + c->d_v) + LOAD_BLOCKS * CACHE_BLOCK * widest);
}

static int
cache_allocate(struct cache *c, struct err *e)
{
	size_t blocks = (size_t)c->s.n_layer * (size_t)c->s.n_head_kv * (size_t)cache_blocks(c);

	c->k = c->v = NULL;
	if (check_size(c, e) < 0)
		return -1;
	c->columns = (cache_blocks(c) + 1) * CACHE_BLOCK;
	c->k = aligned_new(blocks * c->key_size);
	c->v = aligned_new(blocks * c->value_size);
	if (c->k == NULL || c->v == NULL)
		return err_set(e, EX_OSERR, "out of memory for keys and values of %lld tokens",
		    (long long)(cache_blocks(c) * CACHE_BLOCK));
	for (int i = 0; i < c->workers + c->shared; i++) {
		free(c->scratch[i]);
		c->scratch[i] = aligned_new(count_scratch(c) * sizeof(float));
		if (c->scratch[i] == NULL)
			return err_set(e, EX_OSERR, "out of memory for attention");
	}
	return 0;
}

struct cache *
cpu_cache_new(struct backend *b, const struct cache_shape *shape, struct err *e)
{
	struct cache *c = calloc(1, sizeof *c);
	int shared = cache_splits_tasks(shape->n_head_kv, b->threads) ? shape->n_head_kv : 0;

	if (c != NULL)
		c->scratch = calloc((size_t)(b->threads + shared), sizeof *c->scratch);
	if (c == NULL || c->scratch == NULL) {
		free(c);
		err_set(e, EX_OSERR, "out of memory for the cache");
		return NULL;
	}
	c->s = *shape;
	c->kernels = ((struct cpu *)b)->k;
	c->workers = b->threads;
	c->shared = shared;
	c->sink_blocks = cache_round_up(shape->sinks + shape->more_sinks, CACHE_BLOCK) / CACHE_BLOCK;
	c->ring_blocks = shape->slots / CACHE_BLOCK;
	c->d_k = cache_round_up(shape->d_k, 2);
	c->d_v = cache_round_up(shape->d_v, PANEL);
	c->bf16_products = shape->type == KV_BF16 && c->kernels->product_bf16 != NULL;
	c->key_size = block_size(shape->type, c->d_k);
	c->value_size = block_size(shape->type, c->d_v);
	if (cache_allocate(c, e) < 0) {
		cpu_cache_free(b, c);
		return NULL;
	}
	return c;
}

void
cpu_cache_free(struct backend *b, struct cache *c)
{
	(void)b;
	if (c == NULL)
		return;
	for (int i = 0; i < c->workers + c->shared; i++)
		free(c->scratch[i]);
	free(c->scratch);
	free(c->k);
	free(c->v);
	free(c);
}

int
cpu_cache_grow(struct backend *b, struct cache *c, int64_t slots, struct err *e)
{
	struct cache old = *c;

	(void)b;
	c->s.slots = slots;
	c->ring_blocks = slots / CACHE_BLOCK;
	if (cache_allocate(c, e) < 0) {
		free(c->k);
		free(c->v);
		c->k = old.k;
		c->v = old.v;
		c->s.slots = old.s.slots;
		c->ring_blocks = old.ring_blocks;
		return -1;
	}
	for (int i = 0; i < c->s.n_layer; i++)
		for (int h = 0; h < c->s.n_head_kv; h++) {
			memcpy((char *)cache_keys(c, i, h, 0), cache_keys(&old, i, h, 0),
			    (size_t)cache_blocks(&old) * c->key_size);
			memcpy((char *)cache_values(c, i, h, 0), cache_values(&old, i, h, 0),
			    (size_t)cache_blocks(&old) * c->value_size);
		}
	free(old.k);
	free(old.v);
	return 0;
}

void
cpu_cache_set_sinks(struct backend *b, struct cache *c, int64_t sinks)
{
	(void)b;
	c->s.sinks = sinks;
}

int
cpu_cache_copy(struct backend *b, struct cache *to, const struct cache *from, struct err *e)
{
	size_t blocks = (size_t)from->s.n_layer * (size_t)from->s.n_head_kv * (size_t)cache_blocks(from);

	(void)b;
	(void)e;
	assert(cache_blocks(to) == cache_blocks(from));
	memcpy(to->k, from->k, blocks * from->key_size);
	memcpy(to->v, from->v, blocks * from->value_size);
	to->s.sinks = from->s.sinks;
	return 0;
}

size_t
cpu_cache_bytes(const struct cache *c)
{
	return (size_t)c->s.n_layer * (size_t)c->s.n_head_kv * (size_t)cache_blocks(c) * (c->key_size + c->value_size);
}

/* Bfloat16: element d of a key, and lane of a value, in their pairs. */
static void
store_pairs(const struct cache *c, const float *k, const float *v, int lane, uint16_t *keys, uint16_t *values)
{
	uint16_t part[Q8_GROUP + 1];

	for (int64_t i = 0; i < c->s.d_k; i += Q8_GROUP) {
		int64_t n = c->s.d_k - i < Q8_GROUP ? c->s.d_k - i : Q8_GROUP;

		c->kernels->to_bf16(k + i, n, part);
		for (int64_t j = i; j < i + n; j++)
			keys[(j / 2 * CACHE_BLOCK + lane) * 2 + j % 2] = part[j - i];
	}
	for (int64_t i = 0; i < c->s.d_v; i += Q8_GROUP) {
		int64_t n = c->s.d_v - i < Q8_GROUP ? c->s.d_v - i : Q8_GROUP;

		c->kernels->to_bf16(v + i, n, part);
		for (int64_t j = i; j < i + n; j++)
			values[(lane / 2 * c->d_v + j) * 2 + lane % 2] = part[j - i];
	}
}

/*
 * The other types: n elements of x become elements[at], [at + step], ..., and
 * in q8_0 the scales of their groups scales[0], [scale_step], ...
 */
static void
store_vector(const struct cache *c, const float *x, int64_t n, char *elements, int64_t at, int64_t step, float *scales,
    int64_t scale_step)
{
	for (int64_t i = 0; i < n; i += Q8_GROUP) {
		int64_t part = n - i < Q8_GROUP ? n - i : Q8_GROUP;
		uint16_t half[Q8_GROUP];
		int8_t q[Q8_GROUP];

		if (c->s.type == KV_F32) {
			for (int64_t j = 0; j < part; j++)
				((float *)elements)[at + (i + j) * step] = x[i + j];
		} else if (c->s.type == KV_F16) {
			c->kernels->to_f16(x + i, part, half);
			for (int64_t j = 0; j < part; j++)
				((uint16_t *)elements)[at + (i + j) * step] = half[j];
		} else {
			scales[i / Q8_GROUP * scale_step] = c->kernels->to_q8(x + i, part, q);
			for (int64_t j = 0; j < part; j++)
				elements[at + (i + j) * step] = (char)q[j];
		}
	}
}

struct store_job {
	struct cache *c;
	int layer, n;
	int64_t first;
	const float *k, *v;
};

/* Tokens stored by one task. */
enum { STORE_TOKENS = 16 };

static void
store_token(const struct store_job *j, int i)
{
	const struct cache *c = j->c;
	const float *k = j->k + (int64_t)i * c->s.n_head_kv * c->s.d_k,
	    *v = j->v + (int64_t)i * c->s.n_head_kv * c->s.d_v;
	int lane;
	int64_t block = cache_find_slot(c, j->first + i, &lane);

	for (int h = 0; h < c->s.n_head_kv; h++, k += c->s.d_k, v += c->s.d_v) {
		char *keys = (char *)cache_keys(c, j->layer, h, block),
		    *values = (char *)cache_values(c, j->layer, h, block);

		if (c->s.type == KV_BF16) {
			store_pairs(c, k, v, lane, (uint16_t *)keys, (uint16_t *)values);
		} else {
			store_vector(c, k, c->s.d_k, keys, lane, CACHE_BLOCK,
			    (float *)(keys + c->d_k * CACHE_BLOCK) + lane, CACHE_BLOCK);
			store_vector(c, v, c->s.d_v, values, lane * c->d_v, 1,
			    (float *)(values + c->d_v * CACHE_BLOCK) + lane * cache_groups(c->d_v), 1);
		}
	}
}

static void
store_task(void *arg, int task, int worker)
{
	const struct store_job *j = arg;

	(void)worker;
	for (int i = task * STORE_TOKENS; i < j->n && i < (task + 1) * STORE_TOKENS; i++)
		store_token(j, i);
}

void
cpu_store(struct backend *b, struct cache *c, int layer, int64_t first, int n, const float *k, const float *v)
{
	struct store_job j = { .c = c, .layer = layer, .n = n, .first = first, .k = k, .v = v };

	team_run(((struct cpu *)b)->team, store_task, &j, (n + STORE_TOKENS - 1) / STORE_TOKENS);
}

const float *
cache_load_keys(const struct cache *c, const char *blocks, int64_t n, float *buf)
{
	int64_t size = c->d_k * CACHE_BLOCK;

	if (c->s.type == KV_F32)
		return (const float *)blocks;
	for (int64_t i = 0; i < n; i++, blocks += c->key_size) {
		const float *scales = (const float *)(blocks + size);

		if (c->s.type == KV_F16) {
			c->kernels->from_f16((const uint16_t *)blocks, size, buf + i * size);
			continue;
		}
		if (c->s.type == KV_BF16) {
			c->kernels->from_pairs((const uint16_t *)blocks, CACHE_BLOCK, c->d_k / 2, buf + i * size);
			continue;
		}
		for (int64_t d = 0; d < c->s.d_k; d += Q8_GROUP) {
			int64_t part = c->s.d_k - d < Q8_GROUP ? c->s.d_k - d : Q8_GROUP;

			c->kernels->from_q8((const int8_t *)blocks + d * CACHE_BLOCK, part * CACHE_BLOCK,
			    scales + d / Q8_GROUP * CACHE_BLOCK, true, buf + i * size + d * CACHE_BLOCK);
		}
	}
	return buf;
}

const float *
cache_load_values(const struct cache *c, const char *blocks, int64_t n, float *buf)
{
	int64_t size = c->d_v * CACHE_BLOCK;

	if (c->s.type == KV_F32)
		return (const float *)blocks;
	for (int64_t i = 0; i < n; i++, blocks += c->value_size) {
		const float *scales = (const float *)(blocks + size);

		if (c->s.type == KV_F16) {
			c->kernels->from_f16((const uint16_t *)blocks, size, buf + i * size);
			continue;
		}
		if (c->s.type == KV_BF16) {
			c->kernels->from_pairs((const uint16_t *)blocks, c->d_v, CACHE_BLOCK / 2, buf + i * size);
			continue;
		}
		for (int64_t lane = 0; lane < CACHE_BLOCK; lane++)
			for (int64_t d = 0; d < c->d_v; d += Q8_GROUP) {
				int64_t part = c->d_v - d < Q8_GROUP ? c->d_v - d : Q8_GROUP;

				c->kernels->from_q8((const int8_t *)blocks + lane * c->d_v + d, part, scales++, false,
				    buf + i * size + lane * c->d_v + d);
			}
	}
	return buf;
}
