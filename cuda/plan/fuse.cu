/*
 * From recorded operations to launches. Neighbours that forward.c always
 * writes together become one kernel where nobody else reads what lies between
 * them; results that only products read are kept as halves, in the memory of
 * the floats. Without a match every operation has a launch of its own, which
 * is what the tests of single operations see.
 */
#include "plan/fuse.cuh"

/* ---- norms */

/* A norm that only small products of halves read, while its input stays as it is, is left to them. */
static bool
can_defer(const struct fuse *f, int i, const struct uses *u)
{
	const struct node *x = &f->nodes[i];

	if (!u->products || x->x == x->y)
		return false;
	for (int j = i + 1; j <= u->last; j++) {
		if (fuse_reads(f, &f->nodes[j], x->y) && !fuse_is_small(f, &f->nodes[j]))
			return false;
		if (j < u->last && fuse_writes(&f->nodes[j], x->x))
			return false;
	}
	return true;
}

static int
run_norm(struct fuse *f, int i)
{
	const struct node *x = &f->nodes[i], *next = i + 1 < f->n ? x + 1 : NULL;
	struct uses u = fuse_uses_of(f, i, x->y);
	int64_t ld = 0;
	__half *y16 = NULL;

	if (can_defer(f, i, &u)) {
		fuse_set_value(f, x->y, i, 0, 1);
		return 1;
	}
	if (next != NULL && next->kind == NODE_ADD && next->x == x->y && next->width == x->rows * x->width &&
	    !fuse_same_place(f, next->y, x->x) && fuse_dead_after(f, i + 1, x->y)) {
		rows_norm(f->c, x->norm, x->scale, x->bias[0], x->bias[1], x->x, x->rows, x->width, NULL, NULL, 0,
		    next->y);
		return 2;
	}
	if (x->y != x->x)
		y16 = fuse_result_halves(f, i, x->y, x->width, 1, &ld);
	else
		fuse_set_floats(f, x->y);
	rows_norm(f->c, x->norm, x->scale, x->bias[0], x->bias[1], x->x, x->rows, x->width, y16 == NULL ? x->y : NULL,
	    y16, ld, NULL);
	return 1;
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

	if ((x->kind == NODE_NORM || x->kind == NODE_ROTATE || x->kind == NODE_STORE) && fuse_match_heads(f, i, &h))
		return fuse_run_separate_heads(f, &h, i);
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
		return fuse_run_linear(f, i);
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
		return fuse_run_attend(f, i);
	case NODE_ACTIVATE:
		a.gate = x->x;
		a.up = x->x2;
		a.unscale = 1;
		a.n = 1;
		a.ld = a.width = x->width;
		fuse_run_activation(f, i, &a);
		return 1;
	case NODE_ADD:
		rows_add(f->c, x->y, x->x, x->width);
		break;
	case NODE_SCORE:
		fuse_run_score(f, x);
		return 1;
	case NODE_LOGITS:
		fuse_run_logits(f, x);
		return 1;
	case NODE_LIKELIEST:
		fuse_run_likeliest(f, x);
		return 1;
	case NODE_END:
		return 1;
	}
	fuse_set_floats(f, x->y);
	return 1;
}

void
fuse_run(struct cuda *c)
{
	struct fuse f = {};

	f.c = c;
	f.nodes = c->plan->nodes;
	f.n = c->plan->n;
	for (int i = 0; i < f.n;)
		i += run_node(&f, i);
}
