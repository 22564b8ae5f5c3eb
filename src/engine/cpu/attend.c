/*
 * Attention over sinks and window. Sums run over blocks in stream order and a
 * token's lane is its slot modulo the block, which is why a result does not
 * depend on how the queries were grouped: a block masked for one query adds
 * exact zeros.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cache.h"

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
	float *scores, *q_sink, *q_window, *out, *loaded;
	float *scale;                /* [rows]: what makes the weights of a row sum to 1 */
};

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

/* Copy the task's queries together, scaled: [rows][d_k], in the number format of the products. */
static void
gather_queries(const struct task *t, const float *q, float *dst)
{
	int d = t->c->s.d_k;
	int64_t ld = t->c->d_k;

	for (int r = 0; r < t->rows; r++) {
		const float *src = q + ((int64_t)(t->token + r / t->heads) * t->a->n_head + t->head + r % t->heads) * d;
		float *row = dst + r * ld;

		for (int j = 0; j < d; j++)
			row[j] = src[j] * t->a->scale;
		if (t->c->bf16_products) /* its row begins in the middle of a row that was read already */
			t->k->to_bf16(row, d, (uint16_t *)dst + r * ld);
	}
}

/*
 * Consecutive blocks from column `at` of the scores on, up to column `end`:
 * *block receives the first one's index in the cache. A stretch ends with the
 * sinks, at the ring's seam, and after LOAD_BLOCKS blocks where they must be
 * decoded.
 */
static int64_t
stretch(const struct task *t, int64_t at, int64_t end, int64_t *block)
{
	const struct cache *c = t->c;
	int64_t i = (at - t->sink_columns) / CACHE_BLOCK, n;

	if (at < t->sink_columns) {
		*block = at / CACHE_BLOCK;
		n = t->sink_columns / CACHE_BLOCK - *block;
	} else {
		*block = (t->ring_first + i) % c->ring_blocks;
		n = min64(c->ring_blocks - *block, t->ring_n - i);
		*block += c->sink_blocks;
	}
	n = min64(n, (end - at) / CACHE_BLOCK);
	return c->s.type == KV_F32 || c->bf16_products ? n : min64(n, LOAD_BLOCKS);
}

/* Columns [begin, end), which are whole blocks. */
static void
compute_scores(const struct task *t, int64_t begin, int64_t end)
{
	const struct cache *c = t->c;
	int64_t d = c->d_k;

	gather_queries(t, t->a->q_window, t->q_window);
	if (begin < t->sink_columns)
		gather_queries(t, t->a->q_sink, t->q_sink);
	for (int64_t at = begin, n, block; at < end; at += n * CACHE_BLOCK) {
		const float *q = at < t->sink_columns ? t->q_sink : t->q_window;
		const char *keys;

		n = stretch(t, at, end, &block);
		keys = cache_keys(c, t->a->layer, t->head_kv, block);
		if (c->bf16_products)
			t->k->product_bf16((const uint16_t *)q, d, t->rows, c->s.d_k, (const uint16_t *)keys,
			    d * CACHE_BLOCK, 2 * CACHE_BLOCK, (int)n, t->scores + at, t->columns, false);
		else
			t->k->product(q, d, t->rows, c->s.d_k, cache_load_keys(c, keys, n, t->loaded), d * CACHE_BLOCK,
			    CACHE_BLOCK, (int)n, t->scores + at, t->columns, false);
	}
}

static void
compute_values(const struct task *t)
{
	const struct cache *c = t->c;
	int panels = (int)(c->d_v / PANEL), d_v = c->s.d_v;

	for (int64_t at = 0, n, block; at < t->columns; at += n * CACHE_BLOCK) {
		const char *values;

		n = stretch(t, at, t->columns, &block);
		values = cache_values(c, t->a->layer, t->head_kv, block);
		if (c->bf16_products) /* a row of weights begins where its scores did */
			t->k->product_bf16((const uint16_t *)t->scores + at, 2 * t->columns, t->rows, n * CACHE_BLOCK,
			    (const uint16_t *)values, 2 * PANEL, 2 * c->d_v, panels, t->out, c->d_v, at > 0);
		else
			t->k->product(t->scores + at, t->columns, t->rows, n * CACHE_BLOCK,
			    cache_load_values(c, values, n, t->loaded), PANEL, c->d_v, panels, t->out, c->d_v, at > 0);
	}
	for (int r = 0; r < t->rows; r++) {
		int64_t token = t->token + r / t->heads, head = t->head + r % t->heads;
		float *out = t->a->out + (token * t->a->n_head + head) * d_v;

		for (int j = 0; j < d_v; j++)
			out[j] = t->out[r * c->d_v + j] * t->scale[r];
	}
}

static void
mask(float *scores, int64_t from, int64_t to)
{
	for (int64_t i = from; i < to; i++)
		scores[i] = -INFINITY;
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
attend_shape_scores(const struct task *t, float *row, int64_t token, int head)
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
			row[i] = isfinite(row[i]) ? a->softcap * tanhf(row[i] / a->softcap) : row[i];
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

/* From the scores of a row to the weights of its values. */
static void
compute_weights(const struct task *t, int r)
{
	float *row = t->scores + r * t->columns;

	attend_shape_scores(t, row, t->a->first + t->token + r / t->heads, t->head + r % t->heads);
	t->scale[r] = 1 / t->k->exp_sum(row, t->columns, t->k->max(row, t->columns));
	if (t->c->bf16_products)
		t->k->to_bf16(row, t->columns, (uint16_t *)row);
}

/* How the work of one call is cut: head groups of at most TASK_ROWS heads, then tokens. */
struct attend_job {
	struct cpu *cpu;
	const struct attend *a;
	int group;        /* query heads per key-value head */
	int heads, parts; /* query heads per task; tasks per group */
	int tokens, tiles;
};

/* Scores and scales lie at `shared`, all else at `own`: both are scratch. */
static struct task
make_task(const struct attend_job *j, int index, float *shared, float *own)
{
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
	t.sink_columns = (min64(s->sinks, last + 1) + CACHE_BLOCK - 1) / CACHE_BLOCK * CACHE_BLOCK;
	if (last >= s->sinks) {
		t.ring_first = (window_begin(a, s, a->first + t.token) - s->sinks) / CACHE_BLOCK;
		t.ring_n = (last - s->sinks) / CACHE_BLOCK - t.ring_first + 1;
	}
	t.columns = t.sink_columns + t.ring_n * CACHE_BLOCK;
	t.scores = shared;
	t.scale = shared + TASK_ROWS * c->columns;
	t.q_sink = own + TASK_ROWS * (c->columns + 1);
	t.q_window = t.q_sink + TASK_ROWS * c->d_k;
	t.out = t.q_window + TASK_ROWS * c->d_k;
	t.loaded = t.out + TASK_ROWS * c->d_v;
	return t;
}

static void
attend_task(void *arg, int index, int worker)
{
	const struct attend_job *j = arg;
	const struct cache *c = j->a->cache;
	struct task t = make_task(j, index, c->scratch[worker], c->scratch[worker]);

	compute_scores(&t, 0, t.columns);
	for (int r = 0; r < t.rows; r++)
		compute_weights(&t, r);
	compute_values(&t);
}

/* The same for few tasks, cut up further: by columns, then by rows. */
enum { SPLIT = 2 };

static struct task
shared_task(const struct attend_job *j, int index, int worker)
{
	const struct cache *c = j->a->cache;

	return make_task(j, index, c->scratch[c->workers + index], c->scratch[worker]);
}

static void
scores_task(void *arg, int index, int worker)
{
	const struct attend_job *j = arg;
	struct task t = shared_task(j, index / SPLIT, worker);
	int64_t blocks = t.columns / CACHE_BLOCK, part = index % SPLIT;

	compute_scores(&t, blocks * part / SPLIT * CACHE_BLOCK, blocks * (part + 1) / SPLIT * CACHE_BLOCK);
}

static void
weights_task(void *arg, int index, int worker)
{
	struct attend_job *j = arg;
	int rows = j->tokens * j->heads; /* of a task; the last heads' may have fewer */
	struct task t = shared_task(j, index / rows, worker);

	if (index % rows < t.rows)
		compute_weights(&t, index % rows);
}

/* Not cut up: threads that read halves of the same rows would each fetch both. */
static void
values_task(void *arg, int index, int worker)
{
	struct task t = shared_task(arg, index, worker);

	compute_values(&t);
}

void
cpu_attend(struct backend *b, const struct attend *a)
{
	const struct cache *c = a->cache;
	struct attend_job j = { .cpu = (struct cpu *)b, .a = a, .group = a->n_head / c->s.n_head_kv };
	int tasks;

	j.heads = j.group < TASK_ROWS ? j.group : TASK_ROWS;
	j.parts = (j.group + j.heads - 1) / j.heads;
	j.tokens = (int)min64(TASK_ROWS / j.heads, a->n);
	j.tiles = (a->n + j.tokens - 1) / j.tokens;
	tasks = c->s.n_head_kv * j.parts * j.tiles;
	if (!cache_splits_tasks(tasks, b->threads) || tasks > c->shared) {
		team_run(j.cpu->team, attend_task, &j, tasks);
		return;
	}
	team_run(j.cpu->team, scores_task, &j, tasks * SPLIT);
	team_run(j.cpu->team, weights_task, &j, tasks * j.tokens * j.heads);
	team_run(j.cpu->team, values_task, &j, tasks);
}
