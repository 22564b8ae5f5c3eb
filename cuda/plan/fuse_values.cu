/* Who reads what of a recorded pass, and in which form it lies in memory: floats, halves, or not computed yet. */
#include "plan/fuse.cuh"

bool
fuse_same_place(const struct fuse *f, const float *a, const float *b)
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

bool
fuse_reads(const struct fuse *f, const struct node *x, const float *p)
{
	if (x->kind == NODE_END)
		return false;
	if (x->kind == NODE_ADD && fuse_same_place(f, x->y, p))
		return true;
	return (x->x != NULL && fuse_same_place(f, x->x, p)) || (x->x2 != NULL && fuse_same_place(f, x->x2, p));
}

bool
fuse_writes(const struct node *x, const float *p)
{
	for (int i = 0; x->kind == NODE_LINEAR && i < x->count; i++)
		if (x->out[i] == p)
			return true;
	return x->kind != NODE_LINEAR && x->y == p;
}

bool
fuse_takes_halves(const struct node *x, const float *p)
{
	if (x->kind != NODE_LINEAR || x->x != p)
		return false;
	for (int j = 0; j < x->count; j++)
		if (x->w[j]->type == QUANT_F32)
			return false;
	return true;
}

struct uses
fuse_uses_of(const struct fuse *f, int i, const float *p)
{
	struct uses u = { 0, i, true, false };

	for (int j = i + 1; j < f->n; j++) {
		const struct node *x = &f->nodes[j];

		if (x->kind == NODE_END) {
			u.dead = !fuse_same_place(f, x->x, p);
			break;
		}
		if (fuse_reads(f, x, p)) {
			u.readers++;
			u.last = j;
			u.products = u.products && fuse_takes_halves(x, p);
		}
		if (fuse_writes(x, p) && x->kind != NODE_ADD) {
			u.dead = true;
			break;
		}
	}
	u.products = u.products && u.dead && u.readers > 0;
	return u;
}

bool
fuse_dead_after(const struct fuse *f, int i, const float *p)
{
	struct uses u = fuse_uses_of(f, i, p);

	return u.dead && u.readers == 0;
}

struct value
fuse_value_of(const struct fuse *f, const float *p)
{
	struct value plain = { p, NO_NORM, 0, 1 };

	for (int i = 0; i < f->n_values; i++)
		if (f->values[i].p == p)
			return f->values[i];
	return plain;
}

void
fuse_set_value(struct fuse *f, const float *p, int norm, int64_t ld, float scale)
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

void
fuse_set_floats(struct fuse *f, const float *p)
{
	for (int i = 0; i < f->n_values; i++)
		if (f->values[i].p == p) {
			f->values[i] = f->values[--f->n_values];
			return;
		}
}

__half *
fuse_result_halves(struct fuse *f, int i, float *p, int64_t width, float scale, int64_t *ld)
{
	if (!fuse_uses_of(f, i, p).products) {
		fuse_set_floats(f, p);
		return NULL;
	}
	*ld = round_up(width, 8);
	fuse_set_value(f, p, NO_NORM, *ld, scale);
	return reinterpret_cast<__half *>(p);
}

bool
fuse_is_small(const struct fuse *f, const struct node *x)
{
	for (int j = 0; j < x->count; j++)
		if (!gemv_can(f->c, x->w[j], x->n))
			return false;
	return true;
}
