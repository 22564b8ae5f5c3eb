/*
 * The cache of keys and values and the attention over it. Per layer and head,
 * slots lie in blocks of CACHE_BLOCK: the sinks' blocks first, then the
 * ring's. Keys of a block are stored [d_k][CACHE_BLOCK] and values
 * [CACHE_BLOCK][d_v rounded up], so that both products read them as packed
 * panels. Sums run over blocks in stream order and lanes are positions modulo
 * the block, which is why a result does not depend on how the queries were
 * grouped: a block masked for one query adds exact zeros.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"

/* Query rows of one task: tokens times heads that share a key-value head. */
enum { TASK_ROWS = 24 };

struct cache {
	struct cache_shape s;
	int64_t sink_blocks, ring_blocks;
	int64_t d_v;                 /* rounded up to PANEL */
	float *k, *v;                /* [layer][head][block] ... */
	int workers;
	int64_t columns;             /* score columns a task may need */
	float **scratch;             /* [workers], see struct task */
};

static int64_t
round_up(int64_t n, int64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

static int64_t
total_blocks(const struct cache *c)
{
	return c->sink_blocks + c->ring_blocks;
}

static float *
key_block(const struct cache *c, int layer, int head, int64_t block)
{
	int64_t i = (int64_t)layer * c->s.n_head_kv + head;

	return c->k + (i * total_blocks(c) + block) * CACHE_BLOCK * c->s.d_k;
}

static float *
value_block(const struct cache *c, int layer, int head, int64_t block)
{
	int64_t i = (int64_t)layer * c->s.n_head_kv + head;

	return c->v + (i * total_blocks(c) + block) * CACHE_BLOCK * c->d_v;
}

/* The block and lane where stream token t lies. */
static int64_t
find_slot(const struct cache *c, int64_t t, int *lane)
{
	int64_t slot = t < c->s.sinks ? t : (t - c->s.sinks) % c->s.slots;

	*lane = (int)(slot % CACHE_BLOCK);
	return slot / CACHE_BLOCK + (t < c->s.sinks ? 0 : c->sink_blocks);
}

/* Floats of scratch per worker: scores, two forms of the queries, the result. */
static size_t
scratch_size(const struct cache *c)
{
	return (size_t)TASK_ROWS * (size_t)(c->columns + 2 * c->s.d_k + c->d_v);
}

static int
allocate(struct cache *c, struct err *e)
{
	size_t blocks = (size_t)c->s.n_layer * (size_t)c->s.n_head_kv * (size_t)total_blocks(c) * CACHE_BLOCK;

	c->columns = total_blocks(c) * CACHE_BLOCK + CACHE_BLOCK;
	c->k = cpu_alloc(blocks * (size_t)c->s.d_k * sizeof *c->k);
	c->v = cpu_alloc(blocks * (size_t)c->d_v * sizeof *c->v);
	if (c->k == NULL || c->v == NULL)
		return err_set(e, EX_OSERR, "out of memory for keys and values of %lld tokens",
		    (long long)(total_blocks(c) * CACHE_BLOCK));
	for (int i = 0; i < c->workers; i++) {
		free(c->scratch[i]);
		c->scratch[i] = cpu_alloc(scratch_size(c) * sizeof(float));
		if (c->scratch[i] == NULL)
			return err_set(e, EX_OSERR, "out of memory for attention");
	}
	return 0;
}

struct cache *
cpu_cache_new(struct backend *b, const struct cache_shape *shape, struct err *e)
{
	struct cache *c = calloc(1, sizeof *c);

	if (c != NULL)
		c->scratch = calloc((size_t)b->threads, sizeof *c->scratch);
	if (c == NULL || c->scratch == NULL) {
		free(c);
		err_set(e, EX_OSERR, "out of memory for the cache");
		return NULL;
	}
	c->s = *shape;
	c->workers = b->threads;
	c->sink_blocks = round_up(shape->sinks, CACHE_BLOCK) / CACHE_BLOCK;
	c->ring_blocks = shape->slots / CACHE_BLOCK;
	c->d_v = round_up(shape->d_v, PANEL);
	if (allocate(c, e) < 0) {
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
	for (int i = 0; i < c->workers; i++)
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
	size_t keys = (size_t)total_blocks(c) * CACHE_BLOCK * (size_t)c->s.d_k * sizeof *c->k;
	size_t values = (size_t)total_blocks(c) * CACHE_BLOCK * (size_t)c->d_v * sizeof *c->v;

	(void)b;
	c->s.slots = slots;
	c->ring_blocks = slots / CACHE_BLOCK;
	if (allocate(c, e) < 0) {
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
			memcpy(key_block(c, i, h, 0), key_block(&old, i, h, 0), keys);
			memcpy(value_block(c, i, h, 0), value_block(&old, i, h, 0), values);
		}
	free(old.k);
	free(old.v);
	return 0;
}

size_t
cpu_cache_bytes(const struct cache *c)
{
	return (size_t)c->s.n_layer * (size_t)c->s.n_head_kv * (size_t)total_blocks(c) * CACHE_BLOCK *
	    (size_t)(c->s.d_k + c->d_v) * sizeof(float);
}

void
cpu_store(struct backend *b, struct cache *c, int layer, int64_t first, int n, const float *k, const float *v)
{
	(void)b;
	for (int i = 0; i < n; i++)
		for (int h = 0; h < c->s.n_head_kv; h++, k += c->s.d_k, v += c->s.d_v) {
			int lane;
			int64_t block = find_slot(c, first + i, &lane);
			float *key = key_block(c, layer, h, block) + lane;

			for (int d = 0; d < c->s.d_k; d++)
				key[d * CACHE_BLOCK] = k[d];
			memcpy(value_block(c, layer, h, block) + lane * c->d_v, v, (size_t)c->s.d_v * sizeof *v);
		}
}

/* One task: the queries of some tokens and heads, all reading the same key-value head. */
struct task {
	const struct attend *a;
	const struct cache *c;
	const struct cpu_kernels *k;
	int head_kv, head, heads;    /* query heads [head, head + heads) */
	int token, tokens;           /* of the chunk */
	int rows;                    /* tokens * heads; row = token * heads + head */
	int64_t sink_columns;        /* score columns: sinks first, then the ring's blocks in stream order */
	int64_t ring_first, ring_n;  /* blocks counted along the stream */
	int64_t columns;
	float *scores, *q_sink, *q_window, *out;
};

/* Copy the task's queries together, scaled. */
static void
gather_queries(const struct task *t, const float *q, float *dst)
{
	int d = t->c->s.d_k;

	for (int i = 0; i < t->tokens; i++) {
		const float *src = q + ((int64_t)(t->token + i) * t->a->n_head + t->head) * d;

		for (int j = 0; j < t->heads * d; j++)
			*dst++ = src[j] * t->a->scale;
	}
}

/* Where a stretch of ring blocks ends: at the ring's seam or at the last block. */
static int64_t
stretch(const struct task *t, int64_t block)
{
	int64_t at = block % t->c->ring_blocks, left = t->ring_first + t->ring_n - block;

	return left < t->c->ring_blocks - at ? left : t->c->ring_blocks - at;
}

static void
compute_scores(const struct task *t)
{
	const struct cache *c = t->c;
	int d = c->s.d_k;

	if (t->sink_columns > 0)
		t->k->product(t->q_sink, d, t->rows, d, key_block(c, t->a->layer, t->head_kv, 0), d * CACHE_BLOCK,
		    CACHE_BLOCK, (int)(t->sink_columns / CACHE_BLOCK), t->scores, t->columns, false);
	for (int64_t i = 0, n; i < t->ring_n; i += n) {
		int64_t block = t->ring_first + i;

		n = stretch(t, block);
		t->k->product(t->q_window, d, t->rows, d,
		    key_block(c, t->a->layer, t->head_kv, c->sink_blocks + block % c->ring_blocks), d * CACHE_BLOCK,
		    CACHE_BLOCK, (int)n, t->scores + t->sink_columns + i * CACHE_BLOCK, t->columns, false);
	}
}

static void
compute_values(const struct task *t)
{
	const struct cache *c = t->c;
	int panels = (int)(c->d_v / PANEL);
	bool add = false;

	if (t->sink_columns > 0) {
		t->k->product(t->scores, t->columns, t->rows, t->sink_columns, value_block(c, t->a->layer, t->head_kv, 0),
		    PANEL, c->d_v, panels, t->out, c->d_v, false);
		add = true;
	}
	for (int64_t i = 0, n; i < t->ring_n; i += n) {
		int64_t block = t->ring_first + i;

		n = stretch(t, block);
		t->k->product(t->scores + t->sink_columns + i * CACHE_BLOCK, t->columns, t->rows, n * CACHE_BLOCK,
		    value_block(c, t->a->layer, t->head_kv, c->sink_blocks + block % c->ring_blocks), PANEL, c->d_v, panels,
		    t->out, c->d_v, add);
		add = true;
	}
}

static void
mask(float *scores, int64_t from, int64_t to)
{
	for (int64_t i = from; i < to; i++)
		scores[i] = -INFINITY;
}

static int64_t
max64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t
min64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* The first stream token of the window of token t that it sees (sinks apart). */
static int64_t
window_begin(const struct attend *a, const struct cache_shape *s, int64_t t)
{
	int64_t begin = s->window > t ? 0 : t - s->window + 1;

	if (a->native > 0)
		begin = max64(begin, t - a->native + 1);
	return max64(begin, s->sinks);
}

/* Soft cap, ALiBi and mask of one row of scores; columns as in struct task. */
static void
shape_scores(const struct task *t, float *row, int64_t token, int head)
{
	const struct cache_shape *s = &t->c->s;
	const struct attend *a = t->a;
	int64_t base = s->sinks + t->ring_first * CACHE_BLOCK; /* stream token of the first ring column */
	int64_t here = s->sinks > 0 ? min64(token, s->sinks + s->window - 1) : 0; /* where it stands in the cache */
	int64_t sink_end = min64(s->sinks, token + 1);
	int64_t sink_begin = a->native > 0 ? min64(max64(0, here - a->native + 1), sink_end) : 0;
	float *ring = row + t->sink_columns;
	int64_t ring_columns = t->ring_n * CACHE_BLOCK;
	int64_t begin = window_begin(a, s, token) - base, end = token + 1 - base;

	if (a->softcap > 0)
		for (int64_t i = 0; i < t->columns; i++)
			row[i] = a->softcap * tanhf(row[i] / a->softcap);
	if (a->slopes != NULL) {
		for (int64_t i = sink_begin; i < sink_end; i++)
			row[i] -= a->slopes[head] * (float)(here - i);
		for (int64_t i = max64(0, begin); i < end; i++)
			ring[i] -= a->slopes[head] * (float)(end - 1 - i);
	}
	mask(row, 0, sink_begin);
	mask(row, sink_end, t->sink_columns);
	begin = min64(max64(begin, 0), ring_columns);
	mask(ring, 0, begin);
	mask(ring, max64(begin, end), ring_columns);
}

static void
run_task(struct task *t)
{
	const struct attend *a = t->a;
	int d_v = t->c->s.d_v;
	float scale[TASK_ROWS];

	gather_queries(t, a->q_window, t->q_window);
	if (t->sink_columns > 0)
		gather_queries(t, a->q_sink, t->q_sink);
	compute_scores(t);
	for (int r = 0; r < t->rows; r++) {
		float *row = t->scores + r * t->columns;

		shape_scores(t, row, a->first + t->token + r / t->heads, t->head + r % t->heads);
		scale[r] = 1 / t->k->exp_sum(row, t->columns, t->k->max(row, t->columns));
	}
	compute_values(t);
	for (int r = 0; r < t->rows; r++) {
		int64_t token = t->token + r / t->heads, head = t->head + r % t->heads;
		float *out = a->out + (token * a->n_head + head) * d_v;

		for (int j = 0; j < d_v; j++)
			out[j] = t->out[r * t->c->d_v + j] * scale[r];
	}
}

/* How the work of one call is cut: head groups of at most TASK_ROWS heads, then tokens. */
struct attend_job {
	struct cpu *cpu;
	const struct attend *a;
	int group;        /* query heads per key-value head */
	int heads, parts; /* query heads per task; tasks per group */
	int tokens, tiles;
};

static void
attend_task(void *arg, int index, int worker)
{
	const struct attend_job *j = arg;
	const struct attend *a = j->a;
	const struct cache *c = a->cache;
	const struct cache_shape *s = &c->s;
	struct task t = { .a = a, .c = c, .k = j->cpu->k };
	int part = index / j->tiles % j->parts;
	int64_t last;

	t.token = index % j->tiles * j->tokens;
	t.tokens = (int)min64(j->tokens, a->n - t.token);
	t.head_kv = index / j->tiles / j->parts;
	t.head = t.head_kv * j->group + part * j->heads;
	t.heads = (int)min64(j->heads, j->group - part * j->heads);
	t.rows = t.tokens * t.heads;
	last = a->first + t.token + t.tokens - 1;
	t.sink_columns = round_up(min64(s->sinks, last + 1), CACHE_BLOCK);
	if (last >= s->sinks) {
		t.ring_first = (window_begin(a, s, a->first + t.token) - s->sinks) / CACHE_BLOCK;
		t.ring_n = (last - s->sinks) / CACHE_BLOCK - t.ring_first + 1;
	}
	t.columns = t.sink_columns + t.ring_n * CACHE_BLOCK;
	t.scores = c->scratch[worker];
	t.q_sink = t.scores + TASK_ROWS * c->columns;
	t.q_window = t.q_sink + TASK_ROWS * s->d_k;
	t.out = t.q_window + TASK_ROWS * s->d_k;
	run_task(&t);
}

void
cpu_attend(struct backend *b, const struct attend *a)
{
	const struct cache *c = a->cache;
	struct attend_job j = { .cpu = (struct cpu *)b, .a = a, .group = a->n_head / c->s.n_head_kv };

	j.heads = j.group < TASK_ROWS ? j.group : TASK_ROWS;
	j.parts = (j.group + j.heads - 1) / j.heads;
	j.tokens = TASK_ROWS / j.heads;
	j.tiles = (a->n + j.tokens - 1) / j.tokens;
	team_run(j.cpu->team, attend_task, &j, c->s.n_head_kv * j.parts * j.tiles);
}
