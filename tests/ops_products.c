/* Operations that read weight matrices, for every weight type: linear, embed, score, logits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "engine/engine.h"
#include "engine/quant.h"
#include "ops.h"
#include "random_data.h"

static const uint32_t types[] = {
	QUANT_F32, QUANT_F16, QUANT_BF16, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0,
	QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K,
};
enum { N_TYPES = sizeof types / sizeof types[0] };

struct product {
	struct weight w[LINEAR_MAX];  /* not loaded */
	int count, n;
	const float *bias;            /* of the first matrix, or NULL */
	float clamp;
	const float *x;
};

/* The results of all matrices, one after the other. */
static float *
run_linear(struct backend *b, const struct product *p, int64_t *n_results)
{
	struct weight w[LINEAR_MAX];
	struct vector bias = ops_load_vector(b, p->bias, p->w[0].rows), none = { 0 };
	struct linear l = { .n = p->n, .count = p->count, .clamp = p->clamp };
	float *x = ops_upload(b, p->x, p->n * p->w[0].cols), *results, *part;
	struct err e;

	l.x = x;
	*n_results = 0;
	for (int i = 0; i < p->count; i++) {
		w[i] = p->w[i];
		ops_must(b->ops->load_weight(b, &w[i], &e), &e);
		l.out[i].w = &w[i];
		l.out[i].bias = i == 0 ? &bias : &none;
		l.out[i].y = ops_poisoned(b, p->n * w[i].rows);
		*n_results += p->n * w[i].rows;
	}
	b->ops->linear(b, &l);
	results = ops_allocate((size_t)*n_results * sizeof *results);
	for (int64_t i = 0, at = 0; i < p->count; at += p->n * w[i].rows, i++) {
		part = ops_download(b, l.out[i].y, p->n * w[i].rows);
		memcpy(results + at, part, (size_t)(p->n * w[i].rows) * sizeof *part);
		free(part);
		b->ops->unload_weight(b, &w[i]);
	}
	b->ops->unload_vector(b, &bias);
	b->ops->free(b, x);
	return results;
}

static void
test_product(struct ops *o, const struct product *p)
{
	int64_t n;
	float *expected = run_linear(o->plain, p, &n), *got = run_linear(o->tested, p, &n);

	ops_compare(o, expected, got, n, "%d x %lld -> %lld, %d matrices%s%s", p->n, (long long)p->w[0].cols,
	    (long long)p->w[0].rows, p->count, p->bias != NULL ? ", bias" : "", p->clamp > 0 ? ", clamp" : "");
}

/* A type that comes with another one in the matrices of one product. */
static uint32_t
companion_of(uint32_t type)
{
	int block = quant_get_info(type)->block;

	return block == 1 ? type : block < 256 ? QUANT_Q8_0 : type == QUANT_Q6_K ? QUANT_Q4_K : QUANT_Q6_K;
}

static void
test_linear(struct ops *o, uint32_t type)
{
	static const struct { int64_t cols, rows; int n, count; } shapes[] = {
		{ 1, 1, 1, 1 }, { 31, 17, 2, 1 }, { 37, 100, 7, 2 }, { 577, 33, 33, 3 }, { 1601, 50, 3, 1 },
		{ 1601, 49, 1, 3 }, { 96, 577, 1, 2 }, { 256, 16, 257, 1 }, { 513, 257, 8, 1 }, { 513, 65, 9, 1 },
		{ 3400, 96, 5, 1 }, { 4096, 15, 1, 1 },
	};

	ops_begin(o, ops_tolerance(o, type), "linear %s", quant_get_name(type));
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		struct product p = { .n = shapes[i].n, .count = shapes[i].count };
		int64_t cols = ops_fit_columns(type, shapes[i].cols);
		float *x = ops_random(o, p.n * cols), *bias = ops_random(o, shapes[i].rows);

		/* The matrices of one product differ in rows, and of a quantised type the last one in type. */
		for (int j = 0; j < p.count; j++)
			p.w[j] = ops_make_weight(o, j == 2 ? companion_of(type) : type, shapes[i].rows + 5 * j, cols,
			    1);
		p.x = x;
		p.bias = i % 3 == 1 ? bias : NULL;
		o->typical = sqrt((double)cols);
		p.clamp = i % 4 == 2 ? 0.7f * sqrtf((float)cols) : 0;
		test_product(o, &p);
		for (int j = 0; j < p.count; j++)
			free((void *)(uintptr_t)p.w[j].data);
		free(bias);
		free(x);
	}
	ops_end(o);
}

/* Activations that every number format of a CPU path holds exactly: what is left is the order of sums. */
static void
test_exact(struct ops *o, uint32_t type)
{
	static const struct { int64_t cols, rows; int n; } shapes[] = {
		{ 577, 33, 1 }, { 96, 100, 2 }, { 513, 17, 7 }, { 1601, 257, 9 }, { 3400, 49, 3 }, { 4000, 16, 4 },
	};

	ops_begin(o, ops_exact_tolerance(o, type), "linear %s, whole numbers", quant_get_name(type));
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		int64_t cols = ops_fit_columns(type, shapes[i].cols);
		struct product p = { .w = { ops_make_weight(o, type, shapes[i].rows, cols, 1) }, .count = 1,
		    .n = shapes[i].n };
		float *x = ops_random(o, p.n * cols);

		for (int64_t j = 0; j < p.n * cols; j++)
			x[j] = j % cols % 32 == 5 ? 127 : roundf(fminf(fmaxf(x[j] * 40, -127), 127));
		p.x = x;
		o->typical = 40 * sqrt((double)cols);
		test_product(o, &p);
		free((void *)(uintptr_t)p.w[0].data);
		free(x);
	}
	ops_end(o);
}

/*
 * The rows of one product, each computed alone, and with weights as they lie in
 * a file: the same numbers. A device rounds quantised weights to halves for
 * dense products only, of more than a few rows.
 */
static void
test_rows(struct ops *o, uint32_t type, bool many)
{
	static const int few_counts[] = { 1, 2, 3, 4, 7, 8 }, many_counts[] = { 9, 33, 257 };
	const int *counts = many ? many_counts : few_counts;
	size_t n_counts = many ? sizeof many_counts / sizeof *counts : sizeof few_counts / sizeof *counts;
	int64_t cols = ops_fit_columns(type, 1601), rows = 70, n;
	struct product p = { .w = { ops_make_weight(o, type, rows, cols, 1) }, .count = 1 };

	ops_begin(o, many && o->tested->device && quant_get_info(type)->block > 1 ? 5e-4 : ops_same(o),
	    "linear %s, row by row, %s", quant_get_name(type), many ? "many" : "few");
	for (size_t i = 0; i < n_counts; i++) {
		float *x = ops_random(o, counts[i] * cols);
		float *alone = ops_allocate((size_t)(counts[i] * rows) * sizeof *alone);

		p.n = 1;
		for (int j = 0; j < counts[i]; j++) {
			float *row;

			p.x = x + j * cols;
			row = run_linear(o->tested, &p, &n);
			memcpy(alone + j * rows, row, (size_t)rows * sizeof *row);
			free(row);
		}
		p.x = x;
		p.n = counts[i];
		if (o->mapped != NULL)
			ops_compare(o, run_linear(o->tested, &p, &n), run_linear(o->mapped, &p, &n), counts[i] * rows,
			    "%d x %lld -> %lld, not copied", counts[i], (long long)cols, (long long)rows);
		ops_compare(o, run_linear(o->tested, &p, &n), alone, counts[i] * rows, "%d x %lld -> %lld", counts[i],
		    (long long)cols, (long long)rows);
		free(x);
	}
	free((void *)(uintptr_t)p.w[0].data);
	ops_end(o);
}

/* Rows ids[passes][n]: one pass after the other, with nothing read in between. */
static float *
run_embed(struct backend *b, const struct weight *host, const int32_t *ids, int n, int passes)
{
	struct weight w = *host;
	int64_t part = n * w.cols;
	float *y = ops_poisoned(b, (passes + 1) * part), *results;
	struct err e;

	ops_must(b->ops->load_weight(b, &w, &e), &e);
	for (int i = 0; i < passes; i++) {
		/* With a copy the last pass is over. */
		b->ops->copy(b, y + i * part, y + passes * part, part);
		b->ops->embed(b, &w, ids + i * n, n, 1.5f, y + i * part);
		if (b->ops->end != NULL)
			b->ops->end(b, y);
	}
	results = ops_download(b, y, passes * part);
	b->ops->unload_weight(b, &w);
	return results;
}

static void
test_embed(struct ops *o, uint32_t type)
{
	static const struct { int64_t rows, cols; int n, passes; } shapes[] = {
		{ 3, 1, 1, 1 }, { 577, 37, 3, 20 }, { 577, 37, 33, 1 }, { 101, 577, 257, 6 },
	};

	/* Half precision is what a device may keep weights in. */
	ops_begin(o, type == QUANT_F32 ? 1e-6 : 1e-3, "embed %s", quant_get_name(type));
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		struct weight w = ops_make_weight(o, type, shapes[i].rows, ops_fit_columns(type, shapes[i].cols), 1);
		int n = shapes[i].n, passes = shapes[i].passes;
		int32_t ids[6 * 257];

		for (int j = 0; j < n * passes; j++)
			ids[j] = (int32_t)(random_next(&o->seed) % (uint64_t)w.rows);
		ids[0] = (int32_t)w.rows - 1;
		ops_compare(o, run_embed(o->plain, &w, ids, n, passes), run_embed(o->tested, &w, ids, n, passes),
		    passes * n * w.cols, "%d of %lld x %lld, %d passes", n, (long long)w.rows, (long long)w.cols,
		    passes);
		free((void *)(uintptr_t)w.data);
	}
	ops_end(o);
}

struct output {
	struct weight w; /* not loaded */
	const float *bias, *x;
	float softcap;
	int n;
	const int32_t *targets; /* NULL: logits, */
	bool likeliest;         /* or the place of the largest */
};

/* results[0] = the place of the largest of the logits; asked for several times at once, it is the same each time. */
static void
get_likeliest(struct backend *b, const struct weight *w, const struct vector *bias, float softcap, const float *x,
    float *results)
{
	int32_t places[LIKELIEST_MAX];
	struct err e;

	for (int i = 0; i < LIKELIEST_MAX; i++)
		b->ops->ask_likeliest(b, w, bias, softcap, x);
	for (int i = 0; i < LIKELIEST_MAX; i++)
		ops_must(b->ops->tell_likeliest(b, &places[i], &e), &e);
	results[0] = (float)places[0];
	for (int i = 1; i < LIKELIEST_MAX; i++)
		if (places[i] != places[0])
			results[0] = NAN;
}

static float *
run_output(struct backend *b, const struct output *t)
{
	struct weight w = t->w;
	struct vector bias = ops_load_vector(b, t->bias, w.rows);
	float *x = ops_upload(b, t->x, t->n * w.cols), *results;
	struct err e;

	ops_must(b->ops->load_weight(b, &w, &e), &e);
	results = ops_allocate((size_t)t->n * (size_t)w.rows * sizeof *results);
	if (t->targets != NULL)
		ops_must(b->ops->score(b, &w, &bias, t->softcap, x, t->n, t->targets, results, &e), &e);
	else if (t->likeliest && b->ops->ask_likeliest != NULL)
		get_likeliest(b, &w, &bias, t->softcap, x, results);
	else
		ops_must(b->ops->logits(b, &w, &bias, t->softcap, x, t->n, results, &e), &e);
	if (t->likeliest && b->ops->ask_likeliest == NULL)
		results[0] = (float)logits_get_likeliest(results, (int32_t)w.rows);
	b->ops->unload_vector(b, &bias);
	b->ops->unload_weight(b, &w);
	b->ops->free(b, x);
	return results;
}

static void
test_output(struct ops *o, uint32_t type, bool score)
{
	static const struct { int64_t rows, cols; int n; } shapes[] = {
		{ 1, 31, 1 }, { 577, 96, 1 }, { 1601, 37, 7 }, { 513, 513, 33 }, { 321, 64, 257 },
	};

	ops_begin(o, ops_tolerance(o, type), "%s %s", score ? "score" : "logits", quant_get_name(type));
	o->typical = 3;
	for (int i = 0; i < 5; i++) {
		struct output t = { .w = ops_make_weight(o, type, shapes[i].rows, ops_fit_columns(type, shapes[i].cols),
		    1),
			.n = shapes[i].n, .softcap = i == 2 ? 5 : 0 };
		float *x = ops_random(o, t.n * t.w.cols), *bias = ops_random(o, t.w.rows);
		int32_t targets[257];

		for (int64_t j = 0; j < t.n * t.w.cols; j++) /* logits with a deviation of about 3 */
			x[j] *= 3 / sqrtf((float)t.w.cols);
		for (int j = 0; j < t.n; j++)
			targets[j] = (int32_t)(random_next(&o->seed) % (uint64_t)t.w.rows);
		targets[0] = (int32_t)t.w.rows - 1;
		t.x = x;
		t.bias = i % 2 == 1 ? bias : NULL;
		t.targets = score ? targets : NULL;
		ops_compare(o, run_output(o->plain, &t), run_output(o->tested, &t), score ? t.n : t.n * t.w.rows,
		    "%d x %lld -> %lld%s", t.n, (long long)t.w.cols, (long long)t.w.rows, t.softcap > 0 ? ", softcap"
		    : "");
		free((void *)(uintptr_t)t.w.data);
		free(bias);
		free(x);
	}
	ops_end(o);
}

/* Logits are small whole numbers, so that they are exact and many are equal; of x = 0 all are, zeros of either sign. */
static void
test_likeliest(struct ops *o)
{
	static const int64_t rows[] = { 1, 31, 577, 2048, 2049, 49153, 300001 };
	const int64_t cols = 8;

	ops_begin(o, 0, "likeliest");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct weight w = { .type = QUANT_F32, .rows = rows[i], .cols = cols };
		float *data = ops_random(o, rows[i] * cols), *bias = ops_random(o, rows[i]), *x = ops_random(o, cols);

		for (int64_t j = 0; j < rows[i] * cols; j++)
			data[j] = roundf(data[j]);
		for (int64_t j = 0; j < rows[i]; j++)
			bias[j] = roundf(bias[j]) - 3;
		w.data = data;
		for (int k = 0; k < 3; k++) {
			struct output t = { .w = w, .x = x, .n = 1, .bias = k == 1 ? bias : NULL, .likeliest = true };

			for (int64_t j = 0; j < cols; j++)
				x[j] = k == 2 ? 0 : roundf(2 * x[j]);
			ops_compare(o, run_output(o->plain, &t), run_output(o->tested, &t), 1,
			    "%lld logits%s", (long long)rows[i], k == 1 ? ", bias" : k == 2 ? ", all zero" : "");
		}
		free(data);
		free(bias);
		free(x);
	}
	ops_end(o);
}

/*
 * A chain of tokens, each the likeliest behind the one before it. The host
 * hears of one when the next one has been begun, by a backend that can ask.
 */
static float *
run_chain(struct backend *b, const struct weight *embed, const struct weight *output, int32_t id, int n)
{
	bool asks = b->ops->ask_likeliest != NULL;
	struct vector bias = ops_load_vector(b, NULL, output->rows);
	float *x = ops_poisoned(b, embed->cols), *logits = ops_allocate((size_t)output->rows * sizeof *logits);
	float *chain = ops_allocate((size_t)n * sizeof *chain);
	struct weight in = *embed, out = *output;
	struct err e;

	ops_must(b->ops->load_weight(b, &in, &e), &e);
	ops_must(b->ops->load_weight(b, &out, &e), &e);
	for (int i = 0; i < n; i++) {
		b->ops->embed(b, &in, asks && i > 0 ? NULL : &id, 1, 1, x);
		if (asks) {
			b->ops->ask_likeliest(b, &out, &bias, 0, x);
			if (i == 0)
				continue;
			ops_must(b->ops->tell_likeliest(b, &id, &e), &e);
			chain[i - 1] = (float)id;
		} else {
			ops_must(b->ops->logits(b, &out, &bias, 0, x, 1, logits, &e), &e);
			chain[i] = (float)(id = logits_get_likeliest(logits, (int32_t)out.rows));
		}
	}
	if (asks) {
		ops_must(b->ops->tell_likeliest(b, &id, &e), &e);
		chain[n - 1] = (float)id;
	}
	b->ops->unload_weight(b, &in);
	b->ops->unload_weight(b, &out);
	b->ops->free(b, x);
	free(logits);
	return chain;
}

/* A token's row is 1 in the place of its successor, which the output matrix takes as it is. */
static void
test_successors(struct ops *o)
{
	enum { ROWS = 97, STEPS = 250 };
	float *rows = ops_allocate(2 * ROWS * ROWS * sizeof *rows), *unit = rows + ROWS * ROWS;
	struct weight embed = { .type = QUANT_F32, .rows = ROWS, .cols = ROWS, .data = rows }, output = embed;

	memset(rows, 0, 2 * ROWS * ROWS * sizeof *rows);
	for (int i = 0; i < ROWS; i++) {
		rows[i * ROWS + (7 * i + 5) % ROWS] = 1;
		unit[i * ROWS + i] = 1;
	}
	output.data = unit;
	ops_begin(o, 0, "likeliest, one after the other");
	ops_compare(o, run_chain(o->plain, &embed, &output, 1, STEPS), run_chain(o->tested, &embed, &output, 1, STEPS),
	    STEPS, "%d of %d", STEPS, ROWS);
	ops_end(o);
	free(rows);
}

/* The logits of these rows are NaN, neighbours that one thread of a GPU may read alone. */
enum { NAN_ROWS = 600, NAN_COLS = 8, NAN_FROM = 596 };

static void
spoil_rows(struct weight *w, const float *data)
{
	float *spoilt = (float *)(uintptr_t)data;

	for (int i = NAN_FROM; i < NAN_ROWS; i++)
		spoilt[i * NAN_COLS] = NAN;
	*w = (struct weight){ .type = QUANT_F32, .rows = NAN_ROWS, .cols = NAN_COLS, .data = data };
}

/* Every score of them is NaN. */
static void
test_score_nan(struct ops *o)
{
	enum { N = 3 };
	const int32_t targets[N] = { 0, 1, 2 };
	float *data = ops_random(o, NAN_ROWS * NAN_COLS), *x = ops_random(o, N * NAN_COLS), *scores;
	float *expected = ops_allocate(N * sizeof *expected);
	struct output t = { .x = x, .n = N, .targets = targets };

	spoil_rows(&t.w, data);
	scores = run_output(o->tested, &t);
	for (int i = 0; i < N; i++) {
		expected[i] = 1;
		scores[i] = isnan(scores[i]) ? 1 : 0;
	}
	ops_begin(o, 0, "score of NaN");
	ops_compare(o, expected, scores, N, "%d of %d logits", NAN_ROWS - NAN_FROM, NAN_ROWS);
	ops_end(o);
	free(data);
	free(x);
}

/* No token is the likeliest of them, as often as it is asked for. */
static void
test_likeliest_nan(struct ops *o)
{
	float *data = ops_random(o, NAN_ROWS * NAN_COLS), *host = ops_random(o, NAN_COLS);
	float *x = ops_upload(o->tested, host, NAN_COLS);
	struct vector none = { 0 };
	struct weight w;
	int32_t id;
	struct err e;

	spoil_rows(&w, data);
	ops_must(o->tested->ops->load_weight(o->tested, &w, &e), &e);
	ops_begin(o, 0, "likeliest of NaN");
	for (int i = 0; i < 3; i++) {
		float *told = ops_allocate(sizeof *told), *refused = ops_allocate(sizeof *refused);

		o->tested->ops->ask_likeliest(o->tested, &w, &none, 0, x);
		*told = o->tested->ops->tell_likeliest(o->tested, &id, &e) < 0 && e.code == EX_DATAERR;
		*refused = 1;
		ops_compare(o, refused, told, 1, "%d times", i + 1);
	}
	ops_end(o);
	o->tested->ops->unload_weight(o->tested, &w);
	o->tested->ops->free(o->tested, x);
	free(data);
	free(host);
}

void
ops_products(struct ops *o)
{
	for (int i = 0; i < N_TYPES; i++)
		test_linear(o, types[i]);
	for (int i = 0; i < N_TYPES; i++)
		test_exact(o, types[i]);
	for (int i = 0; i < N_TYPES; i++) {
		test_rows(o, types[i], false);
		test_rows(o, types[i], true);
	}
	for (int i = 0; i < N_TYPES; i++)
		test_embed(o, types[i]);
	for (int i = 0; i < N_TYPES; i++) {
		test_output(o, types[i], true);
		test_output(o, types[i], false);
	}
	if (o->tested->ops->ask_likeliest != NULL) {
		test_likeliest(o);
		test_successors(o);
		test_likeliest_nan(o);
	}
	test_score_nan(o);
}
