/*
 * From recorded operations to launches. Neighbours that forward.c always
 * writes together become one kernel where nobody else reads what lies between
 * them; results that only products read are kept as halves, in the memory of
 * the floats. Without a match every operation has a launch of its own, which
 * is what the tests of single operations see.
 */
#include <string.h>

#include "plan.cuh"

/* What a pointer's memory holds at the moment, where that is not plain floats. */
struct value {
	const float *p;
	int norm;              /* >= 0: not computed: the norm of that node, to be applied by whoever reads it */
	int64_t ld;            /* else halves, from row to row, times scale */
	float scale;
};

enum { VALUES = 32, NO_NORM = -1 };

/* Results of products, and activations, are this much smaller as halves: some models' largest are beyond 65504. */
static const float half_scale = 0x1p-5f;

struct fuse {
	struct cuda *c;
	const struct node *nodes;
	int n;
	struct value values[VALUES];
	int n_values;
	struct prefetcher ahead;
};

static int64_t
round_up(int64_t n, int64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

/* ---- who reads what */

/* Whether both lie in the same allocation. */
static bool
same_place(const struct fuse *f, const float *a, const float *b)
{
	const struct plan *p = f->c->plan;

	if (a == b)
		return true;
	for (int i = 0; i < p->n_places; i++) {
		const char *from = p->places[i].base, *to = from + p->places[i].size;

		if ((const char *)a >= from && (const char *)a < to)
			return (const char *)b >= from && (const char *)b < to;
	}
	return false;
}

static bool
reads(const struct fuse *f, const struct node *x, const float *p)
{
	if (x->kind == NODE_END)
		return false;
	if (x->kind == NODE_ADD && same_place(f, x->y, p))
		return true;
	return (x->x != NULL && same_place(f, x->x, p)) || (x->x2 != NULL && same_place(f, x->x2, p));
}

static bool
writes(const struct node *x, const float *p)
{
	for (int i = 0; x->kind == NODE_LINEAR && i < x->count; i++)
		if (x->out[i] == p)
			return true;
	return x->kind != NODE_LINEAR && x->y == p;
}

/* What happens to p after node i. */
struct uses {
	int readers, last;     /* how many nodes read it, and the last of them */
	bool products;         /* all of them are products that take halves */
	bool dead;             /* after them nobody does */
};

static bool
takes_halves(const struct node *x, const float *p)
{
	if (x->kind != NODE_LINEAR || x->x != p)
		return false;
	for (int j = 0; j < x->count; j++)
		if (x->w[j]->type == QUANT_F32)
			return false;
	return true;
}

static struct uses
uses_of(const struct fuse *f, int i, const float *p)
{
	struct uses u = { 0, i, true, false };

	for (int j = i + 1; j < f->n; j++) {
		const struct node *x = &f->nodes[j];

		if (x->kind == NODE_END) {
			u.dead = !same_place(f, x->x, p);
			break;
		}
		if (reads(f, x, p)) {
			u.readers++;
			u.last = j;
			u.products = u.products && takes_halves(x, p);
		}
		if (writes(x, p) && x->kind != NODE_ADD) {
			u.dead = true;
			break;
		}
	}
	u.products = u.products && u.dead && u.readers > 0;
	return u;
}

static bool
dead_after(const struct fuse *f, int i, const float *p)
{
	struct uses u = uses_of(f, i, p);

	return u.dead && u.readers == 0;
}

static struct value
value_of(const struct fuse *f, const float *p)
{
	struct value plain = { p, NO_NORM, 0, 1 };

	for (int i = 0; i < f->n_values; i++)
		if (f->values[i].p == p)
			return f->values[i];
	return plain;
}

static void
set_value(struct fuse *f, const float *p, int norm, int64_t ld, float scale)
{
	struct value v = { p, norm, ld, scale };
	int i = 0;

	while (i < f->n_values && f->values[i].p != p)
		i++;
	if (i == VALUES)
		i = 0; /* cannot be: a pass has fewer buffers */
	f->values[i] = v;
	if (i == f->n_values)
		f->n_values++;
}

static void
set_floats(struct fuse *f, const float *p)
{
	for (int i = 0; i < f->n_values; i++)
		if (f->values[i].p == p) {
			f->values[i] = f->values[--f->n_values];
			return;
		}
}

/* Where a result goes: halves in place if all who read it are products, else floats. */
static __half *
result_halves(struct fuse *f, int i, float *p, int64_t width, float scale, int64_t *ld)
{
	if (!uses_of(f, i, p).products) {
		set_floats(f, p);
		return NULL;
	}
	*ld = round_up(width, 8);
	set_value(f, p, NO_NORM, *ld, scale);
	return reinterpret_cast<__half *>(p);
}

static bool
is_small(const struct fuse *f, const struct node *x)
{
	for (int j = 0; j < x->count; j++)
		if (!matvec_can(f->c, x->w[j], x->n))
			return false;
	return true;
}

/* ---- norms */

/* A norm that only small products of halves read, while its input stays as it is, is left to them. */
static bool
can_defer(const struct fuse *f, int i, const struct uses *u)
{
	const struct node *x = &f->nodes[i];

	if (!u->products || x->x == x->y)
		return false;
	for (int j = i + 1; j <= u->last; j++) {
		if (reads(f, &f->nodes[j], x->y) && !is_small(f, &f->nodes[j]))
			return false;
		if (j < u->last && writes(&f->nodes[j], x->x))
			return false;
	}
	return true;
}

static int
run_norm(struct fuse *f, int i)
{
	const struct node *x = &f->nodes[i], *next = i + 1 < f->n ? x + 1 : NULL;
	struct uses u = uses_of(f, i, x->y);
	int64_t ld = 0;
	__half *y16 = NULL;

	if (can_defer(f, i, &u)) {
		set_value(f, x->y, i, 0, 1);
		return 1;
	}
	if (next != NULL && next->kind == NODE_ADD && next->x == x->y && next->width == x->rows * x->width &&
	    !same_place(f, next->y, x->x) && dead_after(f, i + 1, x->y)) {
		rows_norm(f->c, x->norm, x->scale, x->bias[0], x->bias[1], x->x, x->rows, x->width, NULL, NULL, 0, next->y);
		return 2;
	}
	if (x->y != x->x)
		y16 = result_halves(f, i, x->y, x->width, 1, &ld);
	else
		set_floats(f, x->y);
	rows_norm(f->c, x->norm, x->scale, x->bias[0], x->bias[1], x->x, x->rows, x->width, y16 == NULL ? x->y : NULL, y16,
	    ld, NULL);
	return 1;
}

/* ---- attention */

/* Queries, keys and values between their product and the attention: nodes first .. attend. */
struct heads {
	int attend;
	struct rotation r;
	const struct node *store, *at;
};

/* The norm of all heads of x in place, if node i is one. */
static bool
match_head_norm(const struct fuse *f, int i, const float *x, int64_t heads, int d, const float **weight, float *eps)
{
	const struct node *n = &f->nodes[i];

	if (i >= f->n || n->kind != NODE_NORM || n->norm != NORM_RMS || n->bias[1] != NULL || n->x != x || n->y != x ||
	    n->width != d || n->rows != heads)
		return false;
	*weight = n->bias[0];
	*eps = n->scale;
	return true;
}

static bool
match_rotate(const struct fuse *f, int i, const float *x, const float *y, struct rotation *r, const float **table)
{
	const struct node *n = &f->nodes[i];

	if (i >= f->n || n->kind != NODE_ROTATE || n->x != x || n->y != y)
		return false;
	r->style = n->style;
	r->n_rot = n->count;
	*table = n->x2;
	return true;
}

/*
 * Whether from node i on queries, keys and values are normalised, rotated,
 * stored and attended to, as forward.c does it, over a cache of halves or
 * bytes, and are not read again.
 */
static bool
match_heads(const struct fuse *f, int i, struct heads *h)
{
	int s = i, attend;
	const struct node *store, *at;
	const struct cache_shape *c;
	bool both;

	memset(h, 0, sizeof *h);
	while (s < f->n && s < i + 5 && (f->nodes[s].kind == NODE_NORM || f->nodes[s].kind == NODE_ROTATE))
		s++;
	attend = s + 1;
	if (attend >= f->n || f->nodes[s].kind != NODE_STORE || f->nodes[attend].kind != NODE_ATTEND)
		return false;
	store = &f->nodes[s];
	at = &f->nodes[attend];
	c = &store->cache->s;
	if (at->cache != store->cache || at->layer != store->layer || at->data != store->data || at->n != store->n ||
	    c->type == KV_F32)
		return false;
	if (match_head_norm(f, i, at->x, (int64_t)at->n * at->heads, c->d_k, &h->r.q_norm, &h->r.eps)) {
		if (!match_head_norm(f, i + 1, store->x, (int64_t)at->n * c->n_head_kv, c->d_k, &h->r.k_norm, &h->r.eps))
			return false;
		i += 2;
	}
	both = c->sinks > 0;
	if (i < s) {
		if (both && !match_rotate(f, i++, at->x, at->x2, &h->r, &h->r.sink))
			return false;
		if (!match_rotate(f, i, at->x, at->x, &h->r, &h->r.window) ||
		    !match_rotate(f, i + 1, store->x, store->x, &h->r, &h->r.window))
			return false;
		i += 2;
	} else if (both && at->x2 != at->x) {
		return false;
	}
	h->attend = attend;
	h->store = store;
	h->at = at;
	return i == s && dead_after(f, attend, at->x) && dead_after(f, attend, store->x) &&
	    dead_after(f, attend, store->x2) && (at->x2 == at->x || !both || dead_after(f, attend, at->x2));
}

/* Room for two forms of the queries of n tokens. */
static __half *
query_scratch(struct fuse *f, const struct cache_view *v, const struct node *at, __half **sink)
{
	int64_t size = (int64_t)at->n * at->heads * v->k_ld;
	__half *window = static_cast<__half *>(cuda_scratch(f->c, SCRATCH_QUERIES, (size_t)size * 2 * sizeof *window));

	*sink = window != NULL && v->sinks > 0 ? window + size : NULL;
	return window;
}

static struct attend_call
attend_of(struct fuse *f, int i)
{
	const struct node *x = &f->nodes[i];
	struct attend_call a = {};

	a.v = cache_view(x->cache, x->layer, x->width);
	a.first = static_cast<const int64_t *>(x->data);
	a.n = x->n;
	a.n_head = x->heads;
	a.scale = x->scale;
	a.softcap = x->softcap;
	a.slopes = static_cast<const float *>(x->constant);
	a.out16 = result_halves(f, i, x->y, (int64_t)x->heads * a.v.d_v, 1, &a.ld16);
	a.out32 = a.out16 == NULL ? x->y : NULL;
	return a;
}

/* Up to SMALL tokens have their projections in floats and without gaps. */
static void
run_heads(struct fuse *f, const struct heads *h, const struct projections *p)
{
	struct attend_call a = attend_of(f, h->attend);
	__half *window, *sink;

	if (a.n <= SMALL) {
		const float *q = static_cast<const float *>(p->q);

		attend_few(f->c, &a, &h->r, q, q, static_cast<const float *>(p->k), static_cast<const float *>(p->values));
		return;
	}
	window = query_scratch(f, &a.v, h->at, &sink);
	if (window == NULL)
		return;
	cache_prepare(f->c, &a.v, &h->r, a.first, a.n, a.n_head, p, window, sink);
	attend_many(f->c, &a, window, sink);
}

/* The same after each of them was stored on its own. */
static int
run_separate_heads(struct fuse *f, const struct heads *h, int i)
{
	const struct cache_shape *s = &h->store->cache->s;
	struct projections p = { h->at->x, h->store->x, h->store->x2, false, 1, (int64_t)h->at->heads * s->d_k,
		(int64_t)s->n_head_kv * s->d_k, (int64_t)s->n_head_kv * s->d_v };

	run_heads(f, h, &p);
	return h->attend - i + 1;
}

static int
run_attend(struct fuse *f, int i)
{
	const struct node *x = &f->nodes[i];
	struct attend_call a = attend_of(f, i);
	__half *window, *sink;

	if (a.v.type == KV_F32) {
		attend_plain(f->c, &a, x->x, x->x2);
		return 1;
	}
	if (a.n <= SMALL) {
		attend_few(f->c, &a, NULL, x->x, x->x2, NULL, NULL);
		return 1;
	}
	window = query_scratch(f, &a.v, x, &sink);
	if (window == NULL)
		return 1;
	rows_halve(f->c, x->x, (int64_t)x->n * x->heads, a.v.d_k, 1, window, a.v.k_ld);
	if (sink != NULL)
		rows_halve(f->c, x->x2, (int64_t)x->n * x->heads, a.v.d_k, 1, sink, a.v.k_ld);
	attend_many(f->c, &a, window, sink);
	return 1;
}

/* ---- products */

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
	return x->count == 2 && a->x2 == x->out[1] && x->w[1]->rows == x->w[0]->rows && dead_after(f, i + 1, a->x2);
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
	if (x->count != 1 || i + 1 >= f->n || a->kind != NODE_ADD || same_place(f, a->y, x->x))
		return 0;
	*to = a->y;
	if (a->x == x->out[0])
		return dead_after(f, i + 1, a->x) ? 1 : 0;
	if (i + 2 >= f->n || b->kind != NODE_ADD || b->y != a->y || b->x != x->out[0] || b->width != a->width)
		return 0;
	*extra = a->x;
	return dead_after(f, i + 2, b->x) ? 2 : 0;
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

static void
run_matvec(struct fuse *f, struct matvec_call *m)
{
	m->ahead.count = 0;
	if (m->out[0].m->type != QUANT_F32)
		prefetcher_next(&f->ahead, &m->ahead);
	matvec_run(f->c, m);
}

/* Up to SMALL rows: weights as they are stored. Matrices of one type go together. */
static int
run_few(struct fuse *f, int i)
{
	const struct node *x = &f->nodes[i];
	struct value v = value_of(f, x->x);
	struct matvec_call m = {};
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

		m.mode = MATVEC_ACTIVATE;
		m.act = a->act;
		m.y16_scale = half_scale;
		m.y16 = result_halves(f, i + 1, a->y, x->w[0]->rows, half_scale, &m.y16_ld);
		done = 2;
	} else {
		int additions = match_addition(f, i, &to, &m.extra);

		if (additions > 0 && !(v.norm >= 0 && same_place(f, to, m.x32))) {
			m.mode = MATVEC_ADD;
			done += additions;
		} else {
			to = NULL;
			m.extra = NULL;
			for (int j = 0; j < x->count; j++)
				set_floats(f, x->out[j]);
		}
	}
	for (int from = 0, end; from < x->count; from = end) {
		end = end_of_type(x, from);
		m.count = 0;
		m.sibling = from > 0;
		for (int j = from; j < end; j++) {
			m.out[m.count].m = x->w[j];
			m.out[m.count].bias = x->bias[j];
			m.out[m.count++].y = to != NULL ? to : x->out[j];
		}
		run_matvec(f, &m);
	}
	return done;
}

/* Halves of a product's operand; made in a scratch where they are floats. */
static const __half *
operand(struct fuse *f, const float *x, int n, int64_t cols, int64_t *ld, float *scale)
{
	struct value v = value_of(f, x);
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
	product_to_half(f->c, x->w[0], rows, x16, ld16, x->n, half_scale / scale, wide, *ld);
	for (int j = 0; j < x->count; part += x->w[j++]->rows)
		rows_finish_half(f->c, part, x->n, x->w[j]->rows, *ld, x->bias[j], x->scale, half_scale);
	return wide;
}

/* gate, up, halves, unscale, ld, n and width of a are set. */
static void
run_activation(struct fuse *f, int i, struct activation_call *a)
{
	const struct node *x = &f->nodes[i];

	a->act = x->act;
	a->scale = half_scale;
	/* Halves in place would overtake the floats that are still to be read. */
	if (a->gate != x->y)
		a->y16 = result_halves(f, i, x->y, a->width, half_scale, &a->ld16);
	else
		set_floats(f, x->y);
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
		product_half(f->c, w, w->rows, x16, ld16, x->n, 1 / scale, true, to, w->rows);
		rows_finish(f->c, to, x->n, w->rows, w->rows, x->bias[0], 0);
	} else {
		product_half(f->c, w, w->rows, x16, ld16, x->n, 1 / scale, false, x->out[0], w->rows);
		rows_finish(f->c, x->out[0], x->n, w->rows, w->rows, x->bias[0], x->scale);
		set_floats(f, x->out[0]);
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
			product_f32(f->c, w, x->x, x->n, false, x->out[j], w->rows);
		} else {
			const __half *x16 = operand(f, x->x, x->n, w->cols, &ld, &scale);

			if (x16 != NULL)
				product_half(f->c, w, w->rows, x16, ld, x->n, 1 / scale, false, x->out[j], w->rows);
		}
		rows_finish(f->c, x->out[j], x->n, w->rows, w->rows, x->bias[j], x->scale);
		set_floats(f, x->out[j]);
	}
}

static int
run_linear(struct fuse *f, int i)
{
	const struct node *x = &f->nodes[i];
	struct heads h;
	const __half *x16, *wide;
	int64_t ld16, ld;
	float scale;

	if (is_small(f, x))
		return run_few(f, i);
	if (!takes_halves(x, x->x)) {
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
			run_activation(f, i + 1, &a);
		}
		return 2;
	}
	if (x->count == 3 && x->n > SMALL && are_merged(x) && match_heads(f, i + 1, &h) && h.at->x == x->out[0] &&
	    h.store->x == x->out[1] && h.store->x2 == x->out[2]) {
		wide = run_merged(f, x, x16, ld16, scale, &ld);
		if (wide != NULL) {
			const __half *k = wide + x->w[0]->rows;
			struct projections p = { wide, k, k + x->w[1]->rows, true, 1 / half_scale, ld, ld, ld };

			run_heads(f, &h, &p);
		}
		return h.attend - i + 1;
	}
	for (int j = 0; j < x->count; j++) {
		product_half(f->c, x->w[j], x->w[j]->rows, x16, ld16, x->n, 1 / scale, false, x->out[j], x->w[j]->rows);
		rows_finish(f->c, x->out[j], x->n, x->w[j]->rows, x->w[j]->rows, x->bias[j], x->scale);
		set_floats(f, x->out[j]);
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
	struct matvec_call m = {};
	const __half *x16;
	int64_t ld;

	if (z == NULL)
		return NULL;
	if (matvec_can(f->c, w, n)) {
		m.n = n;
		m.x32 = x;
		m.unscale = 1;
		m.count = 1;
		m.out[0].m = w;
		m.out[0].y = z;
		run_matvec(f, &m);
	} else if (w->type == QUANT_F32) {
		product_f32(f->c, w, x, n, false, z, w->rows);
	} else {
		x16 = operand(f, x, n, w->cols, &ld, &scale);
		if (x16 != NULL)
			product_half(f->c, w, w->rows, x16, ld, n, 1 / scale, false, z, w->rows);
	}
	return z;
}

static void
run_score(struct fuse *f, const struct node *x)
{
	const struct matrix *w = x->w[0];
	int most = fuse_logits_rows(w->rows);

	for (int i = 0, n; i < x->n; i += n) {
		float *z;

		n = x->n - i < most ? x->n - i : most;
		z = compute_logits(f, x, x->x + i * w->cols, n);
		if (z != NULL)
			rows_score(f->c, z, n, w->rows, x->bias[0], x->softcap, static_cast<const int32_t *>(x->data) + i,
			    f->c->results_device + i);
	}
	CHECK(f->c, cudaMemcpyAsync(f->c->results, f->c->results_device, (size_t)x->n * sizeof(float),
	    cudaMemcpyDeviceToHost, f->c->stream));
}

static void
run_logits(struct fuse *f, const struct node *x)
{
	float *z = compute_logits(f, x, x->x, x->n);

	if (z != NULL)
		rows_cap(f->c, z, x->n, x->w[0]->rows, x->bias[0], x->softcap);
}

static void
run_likeliest(struct fuse *f, const struct node *x)
{
	float *z = compute_logits(f, x, x->x, 1);

	if (z == NULL)
		return;
	rows_cap(f->c, z, 1, x->w[0]->rows, x->bias[0], x->softcap);
	rows_likeliest(f->c, z, x->w[0]->rows, reinterpret_cast<int32_t *>(f->c->results));
}

/* ---- all of it */

/* Launch node i and those that go with it; returns how many. */
static int
run_node(struct fuse *f, int i)
{
	const struct node *x = &f->nodes[i];
	struct activation_call a = {};
	struct cache_view v;
	struct heads h;

	if ((x->kind == NODE_NORM || x->kind == NODE_ROTATE || x->kind == NODE_STORE) && match_heads(f, i, &h))
		return run_separate_heads(f, &h, i);
	switch (x->kind) {
	case NODE_COPY:
		rows_copy(f->c, x->y, x->x, x->width);
		break;
	case NODE_EMBED:
		weights_embed(f->c, x->w[0], static_cast<const int32_t *>(x->data), x->n, x->scale, x->y);
		break;
	case NODE_NORM:
		return run_norm(f, i);
	case NODE_LINEAR:
		return run_linear(f, i);
	case NODE_TABLE:
		rows_table(f->c, static_cast<const uint64_t *>(x->constant), x->d, x->scale,
		    static_cast<const int64_t *>(x->data), x->n, x->y);
		break;
	case NODE_ROTATE:
		rows_rotate(f->c, x->style, x->count, x->x2, x->x, x->n, x->heads, x->d, x->y);
		break;
	case NODE_STORE:
		v = cache_view(x->cache, x->layer, 0);
		cache_store(f->c, &v, static_cast<const int64_t *>(x->data), x->n, x->x, x->x2);
		return 1;
	case NODE_ATTEND:
		return run_attend(f, i);
	case NODE_ACTIVATE:
		a.gate = x->x;
		a.up = x->x2;
		a.unscale = 1;
		a.n = 1;
		a.ld = a.width = x->width;
		run_activation(f, i, &a);
		return 1;
	case NODE_ADD:
		rows_add(f->c, x->y, x->x, x->width);
		break;
	case NODE_SCORE:
		run_score(f, x);
		return 1;
	case NODE_LOGITS:
		run_logits(f, x);
		return 1;
	case NODE_LIKELIEST:
		run_likeliest(f, x);
		return 1;
	case NODE_END:
		return 1;
	}
	set_floats(f, x->y);
	return 1;
}

/* The weights that products of a few rows will read; of many rows there is nothing to gain. */
static void
list_weights(struct fuse *f)
{
	for (int i = 0; i < f->n; i++) {
		const struct node *x = &f->nodes[i];

		if (x->kind == NODE_LINEAR && is_small(f, x)) {
			bool gated = x->count == 2 && match_activation(f, i);

			for (int from = 0, end; from < x->count; from = end) {
				end = end_of_type(x, from);
				prefetcher_add(&f->ahead, x->w + from, end - from, gated);
			}
		} else if (x->kind == NODE_SCORE || x->kind == NODE_LOGITS || x->kind == NODE_LIKELIEST) {
			if (matvec_can(f->c, x->w[0], x->kind == NODE_LIKELIEST ? 1 : x->n))
				prefetcher_add(&f->ahead, x->w, 1, false);
		}
	}
}

void
fuse_run(struct cuda *c)
{
	struct fuse f = {};

	f.c = c;
	f.nodes = c->plan->nodes;
	f.n = c->plan->n;
	list_weights(&f);
	for (int i = 0; i < f.n;)
		i += run_node(&f, i);
	prefetcher_free(&f.ahead);
}
