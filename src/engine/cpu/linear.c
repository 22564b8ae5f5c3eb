/* Products with weight matrices: tiles of TILE outputs, packed once and multiplied with all rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"
#include "engine/quant.h"

/* The rows of x in the forms that products read. */
struct operand {
	const float *f32;
	const uint16_t *bf16;
	int64_t ld16;
	const struct q8_block *q8;
	int64_t ld8;
};

struct convert_job {
	struct cpu *c;
	const float *x;
	int64_t cols;
	struct operand o;
	unsigned kinds; /* bit 1 << kind: wanted */
};

static void
convert_row(void *arg, int row, int worker)
{
	struct convert_job *j = arg;
	const float *x = j->x + row * j->cols;

	(void)worker;
	if (j->kinds & 1u << PANEL_BF16) {
		uint16_t *y = j->c->x16 + row * j->o.ld16;

		j->c->k->to_bf16(x, j->cols, y);
		memset(y + j->cols, 0, (size_t)(j->o.ld16 - j->cols) * sizeof *y);
	}
	if (j->kinds & 1u << PANEL_Q8)
		j->c->k->to_q8_blocks(x, j->cols, j->c->x8 + row * j->o.ld8);
}

static struct operand
make_operand(struct cpu *c, const float *x, int n, int64_t cols, unsigned kinds)
{
	struct operand o = { .f32 = x, .bf16 = c->x16, .ld16 = aligned_pad(cols), .q8 = c->x8, .ld8 = cols / Q8_BLOCK };
	struct convert_job j = { c, x, cols, o, kinds };

	if (kinds != 1u << PANEL_F32)
		team_run(c->team, convert_row, &j, n);
	return o;
}

/* Few rows of x times quantised weights: nothing is packed. */
static void
multiply_few(struct cpu *c, const struct weight *w, const struct operand *x, int n, int64_t first, int rows,
    struct cpu_scratch *s, float *y, int64_t ldy)
{
	for (int r = 0; r < rows; r += PANEL) {
		const uint32_t *words = kernels_kept_words(w, first + r);

		if (words == NULL)
			c->k->transpose(w, first + r, rows - r < PANEL ? rows - r : PANEL, 0, w->cols, s->panels);
		c->k->product_few(w->type, x->q8, x->ld8, n, w->cols, words != NULL ? words : s->panels, y + r, ldy);
	}
}

/*
 * y[n, rows] (leading dimension ldy, at least rows rounded up to panels) =
 * x times rows [first, first + rows) of w, column block by column block: the
 * partial sums go through y, which leaves the order of each sum unchanged.
 */
static void
multiply_tile(struct cpu *c, const struct weight *w, const struct operand *x, int n, int64_t first, int rows,
    int worker, float *y, int64_t ldy)
{
	struct cpu_scratch *s = &c->scratch[worker];
	enum panel_kind kind = c->k->kind(w->type);
	/* Few rows read a panel that is kept in one go, as memory likes it. */
	int64_t step = n <= FEW_ROWS && kernels_keeps_panels(kind, w) ? w->cols : BLOCK_K;
	int count = (rows + PANEL - 1) / PANEL;

	if (kind == PANEL_Q8 && n <= FEW_ROWS && (w->device != NULL || w->cols <= BLOCK_K)) {
		multiply_few(c, w, x, n, first, rows, s, y, ldy);
		return;
	}
	if (w->type == QUANT_F16 && n <= FEW_ROWS && w->device != NULL) {
		c->k->product_half(x->f32, w->cols, n, w->cols, kernels_kept_words(w, first), kernels_count_words(w),
		    count, y, ldy);
		return;
	}
	for (int64_t k0 = 0; k0 < w->cols; k0 += step) {
		int64_t k = w->cols - k0 < step ? w->cols - k0 : step, stride;
		const void *panels = c->k->pack(kind, w, first, rows, k0, k, s->panels, s->rows, &stride);

		switch (kind) {
		case PANEL_F32:
			c->k->product(x->f32 + k0, w->cols, n, k, panels, stride / (int64_t)sizeof(float), PANEL, count,
			    y, ldy, k0 > 0);
			break;
		case PANEL_BF16:
			c->k->product_bf16(x->bf16 + k0, x->ld16, n, k, panels, stride / (int64_t)sizeof(uint16_t),
			    2 * PANEL, count, y, ldy, k0 > 0);
			break;
		case PANEL_Q8:
			c->k->product_q8(w->type, x->q8 + k0 / Q8_BLOCK, x->ld8, n, k / Q8_BLOCK, panels, stride, count,
			    y, ldy, k0 > 0);
			break;
		}
	}
}

static int
count_tiles(const struct weight *w)
{
	return (int)((w->rows + TILE - 1) / TILE);
}

/*
 * Run fn for every tile. For few rows of x the weights come from memory, which
 * is fastest in long runs: a thread takes tiles that lie side by side, of those
 * that are left a part at a time, so that all threads end together (guided
 * self-scheduling: Polychronopoulos and Kuck, 1987).
 */
enum { SPANS = 128, SHARES = 2 }; /* a span is one of SHARES per thread of what is left */
struct span_job {
	void (*fn)(void *arg, int tile, int worker);
	void *arg;
	int first[SPANS + 1]; /* tile of each span; behind the last one the number of tiles */
};

static void
span_task(void *arg, int span, int worker)
{
	struct span_job *j = arg;

	for (int i = j->first[span]; i < j->first[span + 1]; i++)
		j->fn(j->arg, i, worker);
}

static void
run_tiles(struct cpu *c, void (*fn)(void *arg, int tile, int worker), void *arg, int tiles, int n)
{
	struct span_job j = { .fn = fn, .arg = arg };
	int spans = 0, at = 0;

	if (n > FEW_ROWS) {
		team_run(c->team, fn, arg, tiles);
		return;
	}
	while (at < tiles) {
		int left = tiles - at, part = spans == SPANS - 1 ? left : left / (SHARES * c->base.threads);

		at += part > 0 ? part : 1;
		j.first[++spans] = at;
	}
	team_run(c->team, span_task, &j, spans);
}

struct linear_job {
	struct cpu *c;
	const struct linear *l;
	struct operand x;
};

/* NaN stays NaN. */
static float
clamp(float v, float bound)
{
	return v < -bound ? -bound : v > bound ? bound : v;
}

/* bias and clamp of one tile, from its scratch to its place */
static void
linear_finish_tile(const struct linear *l, int out, int64_t first, int rows, const float *tile)
{
	const float *bias = l->out[out].bias->data;
	int64_t width = l->out[out].w->rows;

	for (int i = 0; i < l->n; i++) {
		float *y = l->out[out].y + i * width + first;

		for (int r = 0; r < rows; r++) {
			float v = tile[i * TILE + r] + (bias != NULL ? bias[first + r] : 0);

			y[r] = l->clamp > 0 ? clamp(v, l->clamp) : v;
		}
	}
}

static void
linear_task(void *arg, int task, int worker)
{
	struct linear_job *j = arg;
	const struct linear *l = j->l;
	float *tile = j->c->scratch[worker].tile;
	const struct weight *w;
	int out = 0, rows;
	int64_t first;

	while (task >= count_tiles(l->out[out].w))
		task -= count_tiles(l->out[out++].w);
	w = l->out[out].w;
	first = (int64_t)task * TILE;
	rows = (int)(w->rows - first < TILE ? w->rows - first : TILE);
	/* Whole panels without anything to add are written where they belong. */
	if (rows % PANEL == 0 && l->clamp == 0 && l->out[out].bias->data == NULL) {
		multiply_tile(j->c, w, &j->x, l->n, first, rows, worker, l->out[out].y + first, w->rows);
		return;
	}
	multiply_tile(j->c, w, &j->x, l->n, first, rows, worker, tile, TILE);
	linear_finish_tile(l, out, first, rows, tile);
}

void
cpu_linear(struct backend *b, const struct linear *l)
{
	struct cpu *c = (struct cpu *)b;
	struct linear_job j = { .c = c, .l = l };
	unsigned kinds = 0;
	int tasks = 0;

	for (int i = 0; i < l->count; i++) {
		kinds |= 1u << c->k->kind(l->out[i].w->type);
		tasks += count_tiles(l->out[i].w);
	}
	j.x = make_operand(c, l->x, l->n, l->out[0].w->cols, kinds);
	run_tiles(c, linear_task, &j, tasks, l->n);
}

void
cpu_embed(struct backend *b, const struct weight *w, const int32_t *ids, int n, float scale, float *y)
{
	struct cpu *c = (struct cpu *)b;
	size_t row = quant_row_size(w->type, w->cols);

	for (int i = 0; i < n; i++, y += w->cols) {
		c->k->decode(w->type, (const char *)w->data + (size_t)ids[i] * row, w->cols, y);
		for (int64_t k = 0; scale != 1 && k < w->cols; k++)
			y[k] *= scale;
	}
}

/* The output matrix: a tile of logits is reduced, or copied out, while it is hot. */
struct output_job {
	struct cpu *c;
	const struct weight *w;
	const float *bias;
	float softcap;
	struct operand x;
	int n, tiles;
	const int32_t *targets;
	float *target_logit; /* [n] */
	float *logits;       /* [n, rows], or NULL: score */
};

/* Largest logit and sum of exp(logit - largest) of one tile, per row. */
static void
score_tile(struct output_job *j, int task, int64_t first, int rows, float *tile)
{
	for (int i = 0; i < j->n; i++) {
		float *z = tile + i * TILE, *partial = j->c->partial + ((int64_t)i * j->tiles + task) * 2;
		int64_t target = j->targets[i] - first;

		if (target >= 0 && target < rows)
			j->target_logit[i] = z[target];
		for (int r = rows; r < TILE; r++)
			z[r] = -INFINITY;
		partial[0] = j->c->k->max(z, TILE);
		partial[1] = j->c->k->exp_sum(z, TILE, partial[0]);
	}
}

static void
output_task(void *arg, int task, int worker)
{
	struct output_job *j = arg;
	float *tile = j->c->scratch[worker].tile;
	int64_t first = (int64_t)task * TILE;
	int rows = (int)(j->w->rows - first < TILE ? j->w->rows - first : TILE);

	multiply_tile(j->c, j->w, &j->x, j->n, first, rows, worker, tile, TILE);
	for (int i = 0; i < j->n && (j->bias != NULL || j->softcap > 0); i++)
		for (int r = 0; r < rows; r++) {
			float *z = &tile[i * TILE + r];

			*z += j->bias != NULL ? j->bias[first + r] : 0;
			/* An infinity would become a number like any other. */
			if (j->softcap > 0 && isfinite(*z))
				*z = j->softcap * tanhf(*z / j->softcap);
		}
	if (j->logits == NULL) {
		score_tile(j, task, first, rows, tile);
		return;
	}
	for (int i = 0; i < j->n; i++)
		memcpy(j->logits + i * j->w->rows + first, tile + i * TILE, (size_t)rows * sizeof(float));
}

static void
run_output(struct output_job *j, const struct vector *bias, const float *x)
{
	j->bias = bias->data;
	j->tiles = count_tiles(j->w);
	j->x = make_operand(j->c, x, j->n, j->w->cols, 1u << j->c->k->kind(j->w->type));
	run_tiles(j->c, output_task, j, j->tiles, j->n);
}

/* Log-sum-exp of a row out of its tiles; the target's logit becomes its score. */
static void
finish_score(void *arg, int row, int worker)
{
	struct output_job *j = arg;
	const float *p = j->c->partial + (int64_t)row * j->tiles * 2;
	float m = -INFINITY;
	double sum = 0;

	(void)worker;
	for (int t = 0; t < j->tiles; t++)
		m = p[2 * t] > m ? p[2 * t] : m;
	for (int t = 0; t < j->tiles; t++)
		sum += (double)p[2 * t + 1] * exp((double)p[2 * t] - m);
	j->target_logit[row] = (float)(log(sum) + m - j->target_logit[row]);
}

int
cpu_score(struct backend *b, const struct weight *w, const struct vector *bias, float softcap, const float *x, int n,
    const int32_t *targets, float *nll, struct err *e)
{
	struct cpu *c = (struct cpu *)b;
	struct output_job j = { .c = c, .w = w, .softcap = softcap, .n = n, .targets = targets, .target_logit = nll };

	if (c->partial_tiles < count_tiles(w)) { /* once: a model has one output matrix */
		free(c->partial);
		c->partial_tiles = count_tiles(w);
		c->partial = aligned_new((size_t)c->limits.chunk * (size_t)c->partial_tiles * 2 * sizeof(float));
		if (c->partial == NULL)
			return err_set(e, EX_OSERR, "out of memory for the scores");
	}
	run_output(&j, bias, x);
	team_run(c->team, finish_score, &j, n);
	return 0;
}

int
cpu_logits(struct backend *b, const struct weight *w, const struct vector *bias, float softcap, const float *x, int n,
    float *logits, struct err *e)
{
	struct output_job j = { .c = (struct cpu *)b, .w = w, .softcap = softcap, .n = n, .logits = logits };

	(void)e;
	run_output(&j, bias, x);
	return 0;
}
