/* Launches of attention, with all that lies between the projections and it where nobody else reads that. */
#include <string.h>

#include "plan/fuse.cuh"

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

bool
fuse_match_heads(const struct fuse *f, int i, struct heads *h)
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
		if (!match_head_norm(f, i + 1, store->x, (int64_t)at->n * c->n_head_kv, c->d_k, &h->r.k_norm,
		    &h->r.eps))
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
	return i == s && fuse_dead_after(f, attend, at->x) && fuse_dead_after(f, attend, store->x) &&
	    fuse_dead_after(f, attend, store->x2) && (at->x2 == at->x || !both || fuse_dead_after(f, attend, at->x2));
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
	a.out16 = fuse_result_halves(f, i, x->y, (int64_t)x->heads * a.v.d_v, 1, &a.ld16);
	a.out32 = a.out16 == NULL ? x->y : NULL;
	return a;
}

void
fuse_run_heads(struct fuse *f, const struct heads *h, const struct projections *p)
{
	struct attend_call a = attend_of(f, h->attend);
	__half *window, *sink;

	if (a.n <= SMALL) {
		const float *q = static_cast<const float *>(p->q);

		attend_decode(f->c, &a, &h->r, q, q, static_cast<const float *>(p->k),
		    static_cast<const float *>(p->values));
		return;
	}
	window = query_scratch(f, &a.v, h->at, &sink);
	if (window == NULL)
		return;
	cache_prepare(f->c, &a.v, &h->r, a.first, a.n, a.n_head, p, window, sink);
	attend_prefill(f->c, &a, window, sink);
}

/* The same after each of them was stored on its own. */
int
fuse_run_separate_heads(struct fuse *f, const struct heads *h, int i)
{
	const struct cache_shape *s = &h->store->cache->s;
	struct projections p = { h->at->x, h->store->x, h->store->x2, false, 1, (int64_t)h->at->heads * s->d_k,
		(int64_t)s->n_head_kv * s->d_k, (int64_t)s->n_head_kv * s->d_v };

	fuse_run_heads(f, h, &p);
	return h->attend - i + 1;
}

int
fuse_run_attend(struct fuse *f, int i)
{
	const struct node *x = &f->nodes[i];
	struct attend_call a = attend_of(f, i);
	__half *window, *sink;

	if (a.v.type == KV_F32) {
		attend_plain(f->c, &a, x->x, x->x2);
		return 1;
	}
	if (a.n <= SMALL) {
		attend_decode(f->c, &a, NULL, x->x, x->x2, NULL, NULL);
		return 1;
	}
	window = query_scratch(f, &a.v, x, &sink);
	if (window == NULL)
		return 1;
	rows_halve(f->c, x->x, (int64_t)x->n * x->heads, a.v.d_k, 1, window, a.v.k_ld);
	if (sink != NULL)
		rows_halve(f->c, x->x2, (int64_t)x->n * x->heads, a.v.d_k, 1, sink, a.v.k_ld);
	attend_prefill(f->c, &a, window, sink);
	return 1;
}
