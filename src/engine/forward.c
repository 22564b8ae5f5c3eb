/* The forward pass; see forward.h. */
#include "engine/forward.h"

#include <stdlib.h>
#include <string.h>

#include "engine/finite.h"

struct forward {
	const struct model *m;
	struct backend *b;
	struct layer *layers;           /* copies whose weights the backend has loaded */
	struct weight embed, output;
	struct vector v[OUTER_COUNT];
	int chunk;
	int64_t capacity;
	int64_t *positions;             /* [chunk], host */
	/* activations in backend memory, [chunk, ...], with room for a row more */
	float *x, *h, *f, *q, *q_sink, *k, *values, *a, *o, *gate, *up;
	float *table[2][2];             /* rotary tables: [global, local][stream, sink position] */
	float *hidden;                  /* [1 + chunk]: row 0 is the token before the chunk */
	float *marked;                  /* one row */
	int last;                       /* row of the last token in hidden */
};

static int
load_matrix(struct forward *f, struct weight *w, const struct context_options *o, struct err *e)
{
	if (w->data == NULL)
		return 0;
	if (f->b->ops->load_weight(f->b, w, e) < 0)
		return -1;
	if (o->loading != NULL && !o->loading(o->loading_arg))
		return err_set(e, ERR_STOPPED, "the loading of the model was stopped");
	return 0;
}

static int
forward_load_matrices(struct forward *f, const struct context_options *o, struct err *e)
{
	const struct backend_ops *ops = f->b->ops;

	f->embed.embeds_only = f->m->output.data != f->m->embed.data;
	if (load_matrix(f, &f->embed, o, e) < 0)
		return -1;
	if (f->m->output.data == f->m->embed.data)
		f->output = f->embed;
	else if (load_matrix(f, &f->output, o, e) < 0)
		return -1;
	for (int j = 0; j < OUTER_COUNT; j++)
		if (f->v[j].data != NULL && ops->load_vector(f->b, &f->v[j], e) < 0)
			return -1;
	for (int i = 0; i < f->m->h.n_layer; i++) {
		struct layer *y = &f->layers[i];

		for (int j = 0; j < W_COUNT; j++)
			if (load_matrix(f, &y->w[j], o, e) < 0)
				return -1;
		for (int j = 0; j < V_COUNT; j++)
			if (y->v[j].data != NULL && ops->load_vector(f->b, &y->v[j], e) < 0)
				return -1;
	}
	return 0;
}

static void
unload_matrices(struct forward *f)
{
	const struct backend_ops *ops = f->b->ops;

	for (int i = 0; i < f->m->h.n_layer; i++) {
		for (int j = 0; j < W_COUNT; j++)
			ops->unload_weight(f->b, &f->layers[i].w[j]);
		for (int j = 0; j < V_COUNT; j++)
			ops->unload_vector(f->b, &f->layers[i].v[j]);
	}
	for (int j = 0; j < OUTER_COUNT; j++)
		ops->unload_vector(f->b, &f->v[j]);
	if (f->output.data != f->embed.data)
		ops->unload_weight(f->b, &f->output);
	ops->unload_weight(f->b, &f->embed);
}

/* Every activation with its width; a table so that allocation and release cannot differ. */
struct activation_spec {
	float **slot;
	int64_t width;
};
enum { N_ACTIVATIONS = 17 };

static void
list_activations(struct forward *f, struct activation_spec s[N_ACTIVATIONS])
{
	const struct hyper *h = &f->m->h;
	int64_t q = (int64_t)h->n_head * h->d_k, kv = (int64_t)h->n_head_kv * h->d_k;
	struct activation_spec specs[N_ACTIVATIONS] = {
		{ &f->x, h->n_embd }, { &f->h, h->n_embd }, { &f->f, h->n_embd }, { &f->o, h->n_embd },
		{ &f->q, q }, { &f->q_sink, q }, { &f->k, kv }, { &f->values, (int64_t)h->n_head_kv * h->d_v },
		{ &f->a, (int64_t)h->n_head * h->d_v }, { &f->gate, h->n_ff }, { &f->up, h->n_ff },
		{ &f->table[0][0], f->m->rope.n_rot }, { &f->table[0][1], f->m->rope.n_rot },
		{ &f->table[1][0], f->m->rope.n_rot }, { &f->table[1][1], f->m->rope.n_rot },
		{ &f->hidden, h->n_embd }, { &f->marked, h->n_embd },
	};

	memcpy(s, specs, sizeof specs);
}

static int
forward_allocate(struct forward *f, struct err *e)
{
	struct activation_spec s[N_ACTIVATIONS];
	size_t layers = (size_t)f->m->h.n_layer * sizeof *f->layers;

	list_activations(f, s);
	for (int i = 0; i < N_ACTIVATIONS; i++) {
		*s[i].slot = f->b->ops->alloc(f->b, ((size_t)f->chunk + 1) * (size_t)(s[i].width + 1) * sizeof(float));
		if (*s[i].slot == NULL)
			return err_set(e, EX_OSERR, "out of memory for the activations of %d tokens", f->chunk);
	}
	f->positions = calloc((size_t)f->chunk, sizeof *f->positions);
	f->layers = malloc(layers);
	if (f->positions == NULL || f->layers == NULL)
		return err_set(e, EX_OSERR, "out of memory for %d layers", f->m->h.n_layer);
	memcpy(f->layers, f->m->layers, layers);
	return 0;
}

struct forward *
forward_new(const struct model *m, struct backend *b, const struct context_options *o, int64_t capacity, struct err *e)
{
	struct forward *f = calloc(1, sizeof *f);

	if (f == NULL) {
		err_set(e, EX_OSERR, "out of memory for the forward pass");
		return NULL;
	}
	f->m = m;
	f->b = b;
	f->chunk = o->chunk;
	f->capacity = capacity;
	f->embed = m->embed;
	f->output = m->output;
	memcpy(f->v, m->v, sizeof f->v);
	if (forward_allocate(f, e) < 0 || forward_load_matrices(f, o, e) < 0) {
		forward_free(f);
		return NULL;
	}
	return f;
}

void
forward_free(struct forward *f)
{
	struct activation_spec s[N_ACTIVATIONS];

	if (f == NULL)
		return;
	if (f->layers != NULL)
		unload_matrices(f);
	list_activations(f, s);
	for (int i = 0; i < N_ACTIVATIONS; i++)
		f->b->ops->free(f->b, *s[i].slot);
	free(f->layers);
	free(f->positions);
	free(f);
}

/* The model's long factors take over where the cache is longer than the original context. */
static const struct rope *
pick_rope(const struct forward *f, const struct rope *r)
{
	bool longer = r == &f->m->rope && f->m->rope_long.turn != NULL && f->capacity > f->m->n_ctx_original;

	return longer ? &f->m->rope_long : r;
}

/*
 * Rotary tables of a chunk. Keys and the queries that read the window stand
 * at the stream position, but a sink stands at its index in the cache; the
 * queries that read sinks stand at min(t, S+W-1).
 */
static void
make_tables(struct forward *f, const struct cache_shape *s, int n, int64_t first, int64_t start)
{
	const struct rope *ropes[2] = { pick_rope(f, &f->m->rope), &f->m->rope_local };
	bool local = false;

	if (f->m->rope.style == ROPE_NONE)
		return;
	for (int i = 0; i < f->m->h.n_layer; i++)
		local |= f->layers[i].rope == &f->m->rope_local;
	for (int sink = 0; sink < (s->sinks > 0 ? 2 : 1); sink++) {
		for (int i = 0; i < n; i++) {
			int64_t t = first + i, last = s->sinks > 0 ? s->sinks + s->window - 1 : 0;

			if (sink != 0)
				f->positions[i] = t < last ? t : last;
			else
				f->positions[i] = t < s->sinks ? t : start + t;
		}
		for (int j = 0; j < (local ? 2 : 1); j++)
			f->b->ops->rope_table(f->b, ropes[j], f->positions, n, f->table[j][sink]);
	}
}

static void
forward_norm(struct forward *f, const struct vector *v, enum layer_vector weight, const float *x, float *y, int n)
{
	const struct hyper *h = &f->m->h;
	static const struct vector none = { 0 };
	const struct vector *bias = weight == V_ATTN_NORM || weight == V_FFN_NORM ? &v[weight + 1] : &none;

	f->b->ops->norm(f->b, h->norm, h->norm_eps, &v[weight], bias, x, n, h->n_embd, y);
}

static void
forward_rotate(struct forward *f, const struct layer *y, const struct cache_shape *s, int n)
{
	const struct hyper *h = &f->m->h;
	const struct rope *r = pick_rope(f, y->rope);
	float *const *table = f->table[y->rope == &f->m->rope_local];
	static const struct vector none = { 0 };

	if (y->v[V_Q_NORM].data != NULL) {
		f->b->ops->norm(f->b, h->norm, h->norm_eps, &y->v[V_Q_NORM], &none, f->q, (int64_t)n * h->n_head,
		    h->d_k, f->q);
		f->b->ops->norm(f->b, h->norm, h->norm_eps, &y->v[V_K_NORM], &none, f->k, (int64_t)n * h->n_head_kv,
		    h->d_k, f->k);
	}
	if (r->style == ROPE_NONE)
		return;
	if (s->sinks > 0)
		f->b->ops->rotate(f->b, r, table[1], f->q, n, h->n_head, h->d_k, f->q_sink);
	f->b->ops->rotate(f->b, r, table[0], f->q, n, h->n_head, h->d_k, f->q);
	f->b->ops->rotate(f->b, r, table[0], f->k, n, h->n_head_kv, h->d_k, f->k);
}

/* f->o = attention over the normalised rows in; their keys and values join the cache. */
static void
attention(struct forward *f, int i, struct cache *c, const struct cache_shape *s, const float *in, int n, int64_t first)
{
	const struct hyper *h = &f->m->h;
	const struct layer *y = &f->layers[i];
	struct linear qkv = { .x = in, .n = n, .count = 3, .clamp = h->clamp_qkv };
	struct linear out = { .x = f->a, .n = n, .count = 1, .out = { { &y->w[W_O], &y->v[V_O_BIAS], f->o } } };
	struct attend a = { .cache = c, .layer = i, .first = first, .n = n, .n_head = h->n_head, .q_window = f->q,
		.q_sink = f->m->rope.style == ROPE_NONE ? f->q : f->q_sink, .out = f->a, .scale = h->attn_scale,
		.softcap = h->attn_softcap, .slopes = h->slopes, .native = y->native };
	float *results[3] = { f->q, f->k, f->values };

	for (int j = 0; j < 3; j++) {
		qkv.out[j].w = &y->w[W_Q + j];
		qkv.out[j].bias = &y->v[V_Q_BIAS + j];
		qkv.out[j].y = results[j];
	}
	f->b->ops->linear(f->b, &qkv);
	forward_rotate(f, y, s, n);
	f->b->ops->store(f->b, c, i, first, n, f->k, f->values);
	f->b->ops->attend(f->b, &a);
	f->b->ops->linear(f->b, &out);
	if (y->v[V_POST_ATTN_NORM].data != NULL)
		forward_norm(f, y->v, V_POST_ATTN_NORM, f->o, f->o, n);
}

/* f->f = feed-forward over the normalised rows in. */
static void
feed_forward(struct forward *f, int i, const float *in, int n)
{
	const struct hyper *h = &f->m->h;
	const struct layer *y = &f->layers[i];
	bool gated = y->w[W_GATE].data != NULL;
	struct linear up = { .x = in, .n = n, .count = gated ? 2 : 1 };
	struct linear down = { .x = f->gate, .n = n, .count = 1,
	    .out = { { &y->w[W_DOWN], &y->v[V_DOWN_BIAS], f->f } } };

	up.out[0].w = &y->w[gated ? W_GATE : W_UP];
	up.out[0].bias = &y->v[gated ? V_GATE_BIAS : V_UP_BIAS];
	up.out[0].y = f->gate;
	up.out[1].w = &y->w[W_UP];
	up.out[1].bias = &y->v[V_UP_BIAS];
	up.out[1].y = f->up;
	f->b->ops->linear(f->b, &up);
	f->b->ops->activate(f->b, h->act, f->gate, gated ? f->up : NULL, (int64_t)n * h->n_ff, f->gate);
	f->b->ops->linear(f->b, &down);
	if (y->v[V_POST_FFN_NORM].data != NULL)
		forward_norm(f, y->v, V_POST_FFN_NORM, f->f, f->f, n);
}

/* What stands before the layers. */
static void
begin_run(struct forward *f, const struct cache_shape *s, const int32_t *ids, int n, int64_t first, int64_t start)
{
	const struct hyper *h = &f->m->h;

	f->b->ops->copy(f->b, f->hidden, f->hidden + (int64_t)f->last * h->n_embd, h->n_embd);
	f->last = n;
	make_tables(f, s, n, first, start);
	f->b->ops->embed(f->b, &f->embed, ids, n, h->embed_scale, f->x);
}

static void
run_layer(struct forward *f, int i, struct cache *c, const struct cache_shape *s, int n, int64_t first)
{
	const struct hyper *h = &f->m->h;
	const struct backend_ops *ops = f->b->ops;
	const struct layer *y = &f->layers[i];
	int64_t all = (int64_t)n * h->n_embd;
	const float *in = f->h;

	forward_norm(f, y->v, V_ATTN_NORM, f->x, f->h, n);
	attention(f, i, c, s, f->h, n, first);
	if (!h->parallel) {
		ops->add(f->b, f->x, f->o, all);
		forward_norm(f, y->v, V_FFN_NORM, f->x, f->h, n);
	} else if (y->v[V_FFN_NORM].data != NULL) {
		forward_norm(f, y->v, V_FFN_NORM, f->x, f->f, n);
		in = f->f;
	}
	feed_forward(f, i, in, n);
	if (h->parallel)
		ops->add(f->b, f->x, f->o, all);
	ops->add(f->b, f->x, f->f, all);
}

/* The last norm. */
static void
end_run(struct forward *f, int n)
{
	const struct hyper *h = &f->m->h;

	f->b->ops->norm(f->b, h->norm, h->norm_eps, &f->v[V_OUTPUT_NORM], &f->v[V_OUTPUT_NORM_BIAS], f->x, n, h->n_embd,
	    f->hidden + h->n_embd);
	if (f->b->ops->end != NULL)
		f->b->ops->end(f->b, f->hidden);
}

void
forward_run(struct forward *f, struct cache *c, const struct cache_shape *s, const int32_t *ids, int n, int64_t first,
    int64_t start)
{
	begin_run(f, s, ids, n, first, start);
	for (int i = 0; i < f->m->h.n_layer; i++)
		run_layer(f, i, c, s, n, first);
	end_run(f, n);
}

/* n rows of n_embd values. Returns 1, 0, or -1 with *e set. */
static int
check_rows(struct forward *f, const float *x, int n, struct err *e)
{
	int64_t all = (int64_t)n * f->m->h.n_embd;
	float *host;
	int rc = -1;

	if (f->b->ops->is_finite != NULL)
		return f->b->ops->is_finite(f->b, x, all);
	if ((host = malloc((size_t)all * sizeof *host)) == NULL)
		return err_set(e, EX_OSERR, "out of memory for looking at %d rows", n);
	if (f->b->ops->read(f->b, host, x, (size_t)all * sizeof *host, e) == 0)
		rc = floats_are_finite(host, all);
	free(host);
	return rc;
}

bool
forward_check_is_dear(const struct forward *f)
{
	return f->b->ops->is_finite == NULL;
}

int
forward_check(struct forward *f, int row, int n, struct err *e)
{
	return check_rows(f, f->hidden + (int64_t)row * f->m->h.n_embd, n, e);
}

int
forward_trace(struct forward *f, struct cache *c, const struct cache_shape *s, int32_t id, int64_t first, int64_t start,
    int *layer, struct err *e)
{
	int n_layer = f->m->h.n_layer, rc;

	begin_run(f, s, &id, 1, first, start);
	*layer = -1;
	while ((rc = check_rows(f, f->x, 1, e)) > 0 && ++*layer < n_layer)
		run_layer(f, *layer, c, s, 1, first);
	if (rc <= 0)
		return rc;
	end_run(f, 1);
	rc = forward_check(f, 1, 1, e);
	*layer += rc > 0;
	return rc < 0 ? -1 : 0;
}

int
forward_score(struct forward *f, int row, int n, const int32_t *targets, float *nll, struct err *e)
{
	return f->b->ops->score(f->b, &f->output, &f->v[V_OUTPUT_BIAS], f->m->h.final_softcap,
	    f->hidden + (int64_t)row * f->m->h.n_embd, n, targets, nll, e);
}

int
forward_logits(struct forward *f, int row, int n, float *logits, struct err *e)
{
	return f->b->ops->logits(f->b, &f->output, &f->v[V_OUTPUT_BIAS], f->m->h.final_softcap,
	    f->hidden + (int64_t)row * f->m->h.n_embd, n, logits, e);
}

int32_t
logits_get_likeliest(const float *logits, int32_t n)
{
	int32_t best = 0;

	for (int32_t i = 1; i < n; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

bool
forward_can_ask(const struct forward *f)
{
	return f->b->ops->ask_likeliest != NULL;
}

void
forward_ask_likeliest(struct forward *f, int row)
{
	f->b->ops->ask_likeliest(f->b, &f->output, &f->v[V_OUTPUT_BIAS], f->m->h.final_softcap,
	    f->hidden + (int64_t)row * f->m->h.n_embd);
}

int
forward_tell_likeliest(struct forward *f, int32_t *id, struct err *e)
{
	return f->b->ops->tell_likeliest(f->b, id, e);
}

int
forward_likeliest(struct forward *f, int row, float *scratch, int32_t *id, struct err *e)
{
	if (forward_can_ask(f)) {
		forward_ask_likeliest(f, row);
		return forward_tell_likeliest(f, id, e);
	}
	if (forward_logits(f, row, 1, scratch, e) < 0)
		return -1;
	*id = logits_get_likeliest(scratch, f->m->h.n_vocab);
	return 0;
}

/* Row 0 is the token before the run's. */
void
forward_drop(struct forward *f)
{
	f->last = 0;
}

int
forward_last_row(const struct forward *f)
{
	return f->last;
}

void
forward_mark(struct forward *f)
{
	f->b->ops->copy(f->b, f->marked, f->hidden + (int64_t)f->last * f->m->h.n_embd, f->m->h.n_embd);
}

void
forward_rewind(struct forward *f)
{
	f->last = 0;
	f->b->ops->copy(f->b, f->hidden, f->marked, f->m->h.n_embd);
}

int
forward_get_hidden(struct forward *f, float *row, struct err *e)
{
	size_t n = (size_t)f->m->h.n_embd;

	return f->b->ops->read(f->b, row, f->hidden + (size_t)f->last * n, n * sizeof *row, e);
}

int
forward_set_hidden(struct forward *f, const float *row, struct err *e)
{
	f->last = 0;
	return f->b->ops->write(f->b, f->hidden, row, (size_t)f->m->h.n_embd * sizeof *row, e);
}
