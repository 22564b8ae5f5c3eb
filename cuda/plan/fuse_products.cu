/* Launches of products: of few rows with weights as they are stored, of many with halves; the output matrix. */
#include "plan/fuse.cuh"

/* ---- what goes with a product */

static bool
same_type(const struct node *x)
{
	for (int j = 1; j < x->count; j++)
		if (x->w[j]->type != x->w[0]->type)
			return false;
	return true;
}

/* The activation of a product's results, right after it; up's are not read again. */
static bool
match_activation(const struct fuse *f, int i)
{
	const struct node *x = &f->nodes[i], *a = x + 1;

	if (i + 1 >= f->n || a->kind != NODE_ACTIVATE || a->x != x->out[0] || a->y != a->x || !same_type(x) ||
	    x->w[0]->type == QUANT_F32 || a->width != x->n * x->w[0]->rows)
		return false;
	if (a->x2 == NULL)
		return x->count == 1;
	return x->count == 2 && a->x2 == x->out[1] && x->w[1]->rows == x->w[0]->rows &&
	    fuse_dead_after(f, i + 1, a->x2);
}

/*
 * A product whose results are only added to something, right after it, or
 * after one more addition to the same: the sums of a parallel residual.
 * Returns how many additions there are, 0 without a match.
 */
static int
match_addition(const struct fuse *f, int i, float **to, const float **extra)
{
	const struct node *x = &f->nodes[i], *a = x + 1, *b = x + 2;

	*extra = NULL;
	if (x->count != 1 || i + 1 >= f->n || a->kind != NODE_ADD || fuse_same_place(f, a->y, x->x))
		return 0;
	*to = a->y;
	if (a->x == x->out[0])
		return fuse_dead_after(f, i + 1, a->x) ? 1 : 0;
	if (i + 2 >= f->n || b->kind != NODE_ADD || b->y != a->y || b->x != x->out[0] || b->width != a->width)
		return 0;
	*extra = a->x;
	return fuse_dead_after(f, i + 2, b->x) ? 2 : 0;
}

/* The matrices from `from` on that are of one type go together: where the next ones begin. */
static int
end_of_type(const struct node *x, int from)
{
	int i = from;

	while (i < x->count && x->w[i]->type == x->w[from]->type)
		i++;
	return i;
}

/* The matrices that the next product from node i on begins with. */
static void
find_next(const struct fuse *f, int i, const struct matrix **next)
{
	next[0] = next[1] = NULL;
	while (i < f->n && f->nodes[i].kind != NODE_LINEAR)
		i++;
	if (i == f->n || !fuse_is_small(f, &f->nodes[i]))
		return;
	next[0] = f->nodes[i].w[0];
	if (f->nodes[i].count == 2 && match_activation(f, i))
		next[1] = f->nodes[i].w[1];
}

/* Up to SMALL rows: weights as they are stored. Matrices of one type go together. */
static int
run_decode(struct fuse *f, int i)
{
	const struct node *x = &f->nodes[i];
	struct value v = fuse_value_of(f, x->x);
	struct gemv_call m = {};
	float *to = NULL;
	int done = 1;

	m.n = x->n;
	m.clamp = x->scale;
	m.unscale = 1;
	if (v.norm >= 0) {
		const struct node *norm = &f->nodes[v.norm];

		m.x32 = norm->x;
		m.norm = norm->norm;
		m.eps = norm->scale;
		m.norm_weight = norm->bias[0];
		m.norm_bias = norm->bias[1];
	} else if (v.ld > 0) {
		m.x16 = reinterpret_cast<const __half *>(x->x);
		m.ld16 = v.ld;
		m.unscale = 1 / v.scale;
	} else {
		m.x32 = x->x;
	}
	if (match_activation(f, i)) {
		const struct node *a = x + 1;

		m.mode = GEMV_ACTIVATE;
		m.act = a->act;
		m.y16_scale = half_scale;
		m.y16 = fuse_result_halves(f, i + 1, a->y, x->w[0]->rows, half_scale, &m.y16_ld);
		done = 2;
	} else {
		int additions = match_addition(f, i, &to, &m.extra);

		if (additions > 0 && !(v.norm >= 0 && fuse_same_place(f, to, m.x32))) {
			m.mode = GEMV_ADD;
			done += additions;
		} else {
			to = NULL;
			m.extra = NULL;
			for (int j = 0; j < x->count; j++)
				fuse_set_floats(f, x->out[j]);
		}
	}
	for (int from = 0, end; from < x->count; from = end) {
		end = end_of_type(x, from);
		m.count = 0;
		for (int j = from; j < end; j++) {
			m.out[m.count].m = x->w[j];
			m.out[m.count].bias = x->bias[j];
			m.out[m.count++].y = to != NULL ? to : x->out[j];
		}
		if (end < x->count)
			m.next[0] = x->w[end];
		else
			find_next(f, i + done, m.next);
		gemv_run(f->c, &m);
	}
	return done;
}

/* Halves of a product's operand; made in a scratch where they are floats. */
static const __half *
operand(struct fuse *f, const float *x, int n, int64_t cols, int64_t *ld, float *scale)
{
	struct value v = fuse_value_of(f, x);
	__half *y;

	*ld = v.ld;
	*scale = v.scale;
	if (v.ld > 0)
		return reinterpret_cast<const __half *>(x);
	*ld = round_up(cols, 8);
	y = static_cast<__half *>(cuda_scratch(f->c, SCRATCH_X, (size_t)(n * *ld) * sizeof *y));
	if (y != NULL)
		rows_halve(f->c, x, n, cols, 1, y, *ld);
	return y;
}

/* Whether the matrices' halves lie one after the other, like one matrix. */
static bool
are_merged(const struct node *x)
{
	for (int j = 0; j < x->count; j++)
		if (x->w[j]->half == NULL || x->w[j]->ld != x->w[0]->ld ||
		    (j > 0 && x->w[j]->half != x->w[j - 1]->half + x->w[j - 1]->rows * x->w[j - 1]->ld))
			return false;
	return true;
}

/* The results of several merged matrices side by side, as halves that are times half_scale; their leading dimension. */
static __half *
run_merged(struct fuse *f, const struct node *x, const __half *x16, int64_t ld16, float scale, int64_t *ld)
{
	int64_t rows = 0;
	__half *wide, *part;

	for (int j = 0; j < x->count; j++)
		rows += x->w[j]->rows;
	*ld = round_up(rows, 8);
	wide = part = static_cast<__half *>(cuda_scratch(f->c, SCRATCH_WIDE, (size_t)(x->n * *ld) * sizeof *wide));
	if (wide == NULL)
		return NULL;
	gemm_to_half(f->c, x->w[0], rows, x16, ld16, x->n, half_scale / scale, wide, *ld);
	for (int j = 0; j < x->count; part += x->w[j++]->rows)
		rows_finish_half(f->c, part, x->n, x->w[j]->rows, *ld, x->bias[j], x->scale, half_scale);
	return wide;
}

void
fuse_run_activation(struct fuse *f, int i, struct activation_call *a)
{
	const struct node *x = &f->nodes[i];

	a->act = x->act;
	a->scale = half_scale;
	/* Halves in place would overtake the floats that are still to be read. */
	if (a->gate != x->y)
		a->y16 = fuse_result_halves(f, i, x->y, a->width, half_scale, &a->ld16);
	else
		fuse_set_floats(f, x->y);
	a->y32 = a->y16 == NULL ? x->y : NULL;
	rows_activate(f->c, a);
}

/* Many rows of one matrix: added to something where that follows, else as they are. Returns the nodes done. */
static int
run_single(struct fuse *f, int i, const __half *x16, int64_t ld16, float scale)
{
	const struct node *x = &f->nodes[i];
	const struct matrix *w = x->w[0];
	float *to;
	const float *extra;
	int additions = x->scale > 0 ? 0 : match_addition(f, i, &to, &extra);

	if (additions > 0) {
		if (extra != NULL)
			rows_add(f->c, to, extra, x->n * w->rows);
		gemm_half(f->c, w, w->rows, x16, ld16, x->n, 1 / scale, true, to, w->rows);
		rows_finish(f->c, to, x->n, w->rows, w->rows, x->bias[0], 0);
	} else {
		gemm_half(f->c, w, w->rows, x16, ld16, x->n, 1 / scale, false, x->out[0], w->rows);
		rows_finish(f->c, x->out[0], x->n, w->rows, w->rows, x->bias[0], x->scale);
		fuse_set_floats(f, x->out[0]);
	}
	return 1 + additions;
}

/* Many rows of float32 weights, or of several types. */
static void
run_separate(struct fuse *f, const struct node *x)
{
	for (int j = 0; j < x->count; j++) {
		const struct matrix *w = x->w[j];
		int64_t ld;
		float scale;

		if (w->type == QUANT_F32) {
			gemm_f32(f->c, w, x->x, x->n, false, x->out[j], w->rows);
		} else {
			const __half *x16 = operand(f, x->x, x->n, w->cols, &ld, &scale);

			if (x16 != NULL)
				gemm_half(f->c, w, w->rows, x16, ld, x->n, 1 / scale, false, x->out[j], w->rows);
		}
		rows_finish(f->c, x->out[j], x->n, w->rows, w->rows, x->bias[j], x->scale);
		fuse_set_floats(f, x->out[j]);
	}
}

int
fuse_run_linear(struct fuse *f, int i)
{
	const struct node *x = &f->nodes[i];
	struct heads h;
	const __half *x16, *wide;
	int64_t ld16, ld;
	float scale;

	if (fuse_is_small(f, x))
		return run_decode(f, i);
	if (!fuse_takes_halves(x, x->x)) {
		run_separate(f, x);
		return 1;
	}
	x16 = operand(f, x->x, x->n, x->w[0]->cols, &ld16, &scale);
	if (x16 == NULL)
		return 1;
	if (x->count == 1 && !match_activation(f, i))
		return run_single(f, i, x16, ld16, scale);
	if (are_merged(x) && match_activation(f, i)) {
		wide = run_merged(f, x, x16, ld16, scale, &ld);
		if (wide != NULL) {
			struct activation_call a = {};

			a.gate = wide;
			a.up = x->count == 2 ? wide + x->w[0]->rows : NULL;
			a.halves = true;
			a.unscale = 1 / half_scale;
			a.ld = ld;
			a.n = x->n;
			a.width = x->w[0]->rows;
			fuse_run_activation(f, i + 1, &a);
		}
		return 2;
	}
	if (x->count == 3 && x->n > SMALL && are_merged(x) && fuse_match_heads(f, i + 1, &h) && h.at->x == x->out[0] &&
	    h.store->x == x->out[1] && h.store->x2 == x->out[2]) {
		wide = run_merged(f, x, x16, ld16, scale, &ld);
		if (wide != NULL) {
			const __half *k = wide + x->w[0]->rows;
			struct projections p = { wide, k, k + x->w[1]->rows, true, 1 / half_scale, ld, ld, ld };

			fuse_run_heads(f, &h, &p);
		}
		return h.attend - i + 1;
	}
	for (int j = 0; j < x->count; j++) {
		gemm_half(f->c, x->w[j], x->w[j]->rows, x16, ld16, x->n, 1 / scale, false, x->out[j], x->w[j]->rows);
		rows_finish(f->c, x->out[j], x->n, x->w[j]->rows, x->w[j]->rows, x->bias[j], x->scale);
		fuse_set_floats(f, x->out[j]);
	}
	return 1;
}

/* ---- the output matrix */

int
fuse_logits_rows(int64_t vocabulary)
{
	int64_t rows = ((int64_t)256 << 20) / (int64_t)sizeof(float) / vocabulary;

	return rows < SMALL ? SMALL : rows > 4096 ? 4096 : (int)rows;
}

/* n rows of raw logits in the scratch. */
static float *
compute_logits(struct fuse *f, const struct node *node, const float *x, int n)
{
	const struct matrix *w = node->w[0];
	float *z = static_cast<float *>(cuda_scratch(f->c, SCRATCH_LOGITS, (size_t)(n * w->rows) * sizeof *z)), scale;
	struct gemv_call m = {};
	const __half *x16;
	int64_t ld;

	if (z == NULL)
		return NULL;
	if (gemv_can(f->c, w, n)) {
		m.n = n;
		m.x32 = x;
		m.unscale = 1;
		m.count = 1;
		m.out[0].m = w;
		m.out[0].y = z;
		gemv_run(f->c, &m);
	} else if (w->type == QUANT_F32) {
		gemm_f32(f->c, w, x, n, false, z, w->rows);
	} else {
		x16 = operand(f, x, n, w->cols, &ld, &scale);
		if (x16 != NULL)
			gemm_half(f->c, w, w->rows, x16, ld, n, 1 / scale, false, z, w->rows);
	}
	return z;
}

void
fuse_run_score(struct fuse *f, const struct node *x)
{
	const struct matrix *w = x->w[0];
	int most = fuse_logits_rows(w->rows);

	for (int i = 0, n; i < x->n; i += n) {
		float *z;

		n = x->n - i < most ? x->n - i : most;
		z = compute_logits(f, x, x->x + i * w->cols, n);
		if (z != NULL)
			rows_score(f->c, z, n, w->rows, x->bias[0], x->softcap,
			    static_cast<const int32_t *>(x->data) + i, f->c->results_device + i);
	}
	CHECK(f->c, cudaMemcpyAsync(f->c->results, f->c->results_device, (size_t)x->n * sizeof(float),
	    cudaMemcpyDeviceToHost, f->c->stream));
}

void
fuse_run_logits(struct fuse *f, const struct node *x)
{
	float *z = compute_logits(f, x, x->x, x->n);

	if (z != NULL)
		rows_cap(f->c, z, x->n, x->w[0]->rows, x->bias[0], x->softcap);
}

void
fuse_run_likeliest(struct fuse *f, const struct node *x)
{
	float *z = compute_logits(f, x, x->x, 1);

	if (z == NULL)
		return;
	rows_cap(f->c, z, 1, x->w[0]->rows, x->bias[0], x->softcap);
	rows_likeliest(f->c, z, x->w[0]->rows);
}
