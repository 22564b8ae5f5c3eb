/*
 * The CPU backend's cache of keys and values. Per layer and head, slots lie in
 * blocks of CACHE_BLOCK: the sinks' blocks first, then the ring's. The keys of
 * a block are stored [d_k][CACHE_BLOCK] and its values [CACHE_BLOCK][d_v
 * rounded up], so that both products of attention read them as packed panels;
 * bfloat16 has pairs of rows interleaved, [d_k/2][CACHE_BLOCK][2] and
 * [CACHE_BLOCK/2][d_v][2].
 */
#ifndef SINKD_ENGINE_CPU_CACHE_H
#define SINKD_ENGINE_CPU_CACHE_H

#include "engine/cpu/cpu.h"

enum {
	/* Query rows of one task of attention: tokens times heads that share a key-value head. */
	TASK_ROWS = 24,
	/* Blocks decoded at a time where the cache is not float32. */
	LOAD_BLOCKS = 3,
	/* Elements that share a scale in q8_0. */
	Q8_GROUP = 32,
};

struct cache {
	struct cache_shape s;
	const struct cpu_kernels *kernels;
	int64_t sink_blocks, ring_blocks;
	int64_t d_k, d_v;                     /* rounded up to 2 and to PANEL */
	bool bf16_products;                   /* bfloat16 keys and values are multiplied as they are */
	size_t key_size, value_size;          /* bytes of one block */
	char *k, *v;                          /* [layer][head][block] */
	int workers;
	int64_t columns;                      /* score columns a task may need */
	int shared;                           /* tasks that more than one worker may work at */
	float **scratch;                      /* [workers + shared], cut up in attend.c */
};

/* Blocks per layer and head. */
static inline int64_t
cache_blocks(const struct cache *c)
{
	return c->sink_blocks + c->ring_blocks;
}

static inline const char *
cache_keys(const struct cache *c, int layer, int head, int64_t block)
{
	return c->k + (((size_t)layer * (size_t)c->s.n_head_kv + (size_t)head) * (size_t)cache_blocks(c) +
	    (size_t)block) *
	    c->key_size;
}

static inline const char *
cache_values(const struct cache *c, int layer, int head, int64_t block)
{
	return c->v + (((size_t)layer * (size_t)c->s.n_head_kv + (size_t)head) * (size_t)cache_blocks(c) +
	    (size_t)block) *
	    c->value_size;
}

/* The block and lane where token t lies. */
static inline int64_t
cache_find_slot(const struct cache *c, int64_t t, int *lane)
{
	int64_t slot = t < c->s.sinks ? t : (t - c->s.sinks) % c->s.slots;

	*lane = (int)(slot % CACHE_BLOCK);
	return slot / CACHE_BLOCK + (t < c->s.sinks ? 0 : c->sink_blocks);
}

/*
 * n consecutive blocks as float32 panels [d_k][CACHE_BLOCK] and [CACHE_BLOCK]
 * [d_v]: the cache's own memory where it is float32 (any n), else decoded to
 * buf (n <= LOAD_BLOCKS).
 */
const float *cache_load_keys(const struct cache *c, const char *blocks, int64_t n, float *buf);
const float *cache_load_values(const struct cache *c, const char *blocks, int64_t n, float *buf);

/* Are tasks of attention cut up further? They are if they are few and the threads cannot share them evenly. */
static inline bool
cache_splits_tasks(int tasks, int threads)
{
	return tasks % threads != 0 && tasks < 4 * threads;
}

#endif
