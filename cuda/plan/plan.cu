/*
 * The table of operations: each call is recorded, and what was recorded is
 * launched at the end of a pass or when a result is asked for. Recording
 * makes three things possible that single calls do not: neighbours are fused
 * (fuse.cu), results that only the next product reads stay in halves, and a
 * pass of a few tokens that looks like an earlier one is a CUDA graph.
 */
#include <stdlib.h>
#include <string.h>

#include "plan/plan.cuh"

struct plan *
plan_new(struct cuda *c)
{
	struct plan *p = static_cast<struct plan *>(calloc(1, sizeof *p));

	if (p == NULL)
		return NULL;
	c->plan = p;
	inputs_new(c, &p->inputs);
	return p;
}

void
plan_free(struct cuda *c, struct plan *p)
{
	plan_forget(c);
	inputs_free(&p->inputs);
	for (int i = 0; i < p->n_constants; i++) {
		free(p->constants[i].host);
		cudaFree(p->constants[i].device);
	}
	free(p->constants);
	free(p->nodes);
	free(p);
	c->plan = NULL;
}

void
plan_forget(struct cuda *c)
{
	struct plan *p = c->plan;

	for (int i = 0; p != NULL && i < GRAPHS; i++) {
		if (p->graphs[i].exec != NULL)
			cudaGraphExecDestroy(p->graphs[i].exec);
		free(p->graphs[i].nodes);
		memset(&p->graphs[i], 0, sizeof p->graphs[i]);
	}
	if (p != NULL) {
		memset(p->seen, 0, sizeof p->seen);
		p->last = NULL;
	}
}

/* ---- recording */

/* The latest node is complete: as a rule it is that of the last pass, which then lies where it belongs. */
static void
settle(struct plan *p)
{
	int i = p->n - 1;

	if (i < 0)
		return;
	if (p->same == i && i < p->before && memcmp(&p->nodes[i], &p->latest, sizeof p->latest) == 0)
		p->same++;
	else
		memcpy(static_cast<void *>(&p->nodes[i]), &p->latest, sizeof p->latest);
}

/* A copy of nothing becomes a few stores, unlike clearing so many bytes, and there are hundreds of nodes a token. */
static const struct node no_node = {};

static struct node *
add_node(struct cuda *c, enum node_kind kind, int n)
{
	struct plan *p = c->plan;

	if (p->n == p->capacity) {
		int capacity = p->capacity > 0 ? 2 * p->capacity : 1024;
		void *more = realloc(p->nodes, (size_t)capacity * sizeof *p->nodes);

		if (more == NULL) { /* what is there goes first, then there is room */
			plan_flush(c);
		} else {
			p->nodes = static_cast<struct node *>(more);
			p->capacity = capacity;
		}
		if (p->capacity == 0)
			return &p->latest;
	}
	settle(p);
	p->n++;
	memcpy(static_cast<void *>(&p->latest), &no_node, sizeof p->latest);
	p->latest.kind = kind;
	p->latest.n = n;
	return &p->latest;
}

/* Room for so many bytes of what changes from pass to pass, or everything recorded goes first. */
static void
plan_make_room(struct cuda *c, size_t bytes)
{
	if (!inputs_has_room(&c->plan->inputs, bytes))
		plan_flush(c);
}

static const void *
put_inputs(struct cuda *c, const void *data, size_t bytes)
{
	return inputs_put(c, &c->plan->inputs, data, bytes);
}

static const int64_t *
put_first(struct cuda *c, int64_t first)
{
	const int64_t *at = inputs_put_first(c, &c->plan->inputs, first);

	if (at != NULL)
		return at;
	plan_flush(c);
	return inputs_put_first(c, &c->plan->inputs, first);
}

/* A device copy of host data that stays the same: found again by its bytes. */
static const void *
put_constant(struct cuda *c, const void *data, size_t bytes)
{
	struct plan *p = c->plan;
	struct constant *k;

	for (int i = 0; i < p->n_constants; i++)
		if (p->constants[i].bytes == bytes && memcmp(p->constants[i].host, data, bytes) == 0)
			return p->constants[i].device;
	k = static_cast<struct constant *>(realloc(p->constants, (size_t)(p->n_constants + 1) * sizeof *k));
	if (k == NULL) {
		CHECK(c, cudaErrorMemoryAllocation);
		return NULL;
	}
	p->constants = k;
	k += p->n_constants;
	k->bytes = bytes;
	k->host = malloc(bytes + 1);
	k->device = NULL;
	if (k->host == NULL || CHECK(c, cudaMalloc(&k->device, bytes + 1))) {
		free(k->host);
		CHECK(c, cudaErrorMemoryAllocation);
		return NULL;
	}
	memcpy(k->host, data, bytes);
	CHECK(c, cudaMemcpyAsync(k->device, k->host, bytes, cudaMemcpyHostToDevice, c->stream));
	p->n_constants++;
	return k->device;
}

/* ---- launching */

static uint64_t
hash_nodes(const struct node *nodes, int n)
{
	const uint64_t *words = reinterpret_cast<const uint64_t *>(nodes);
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < (size_t)n * sizeof *nodes / sizeof *words; i++)
		h = (h ^ words[i]) * 0x100000001b3u ^ h >> 29;
	return h | 1;
}

/* A pass is worth a graph when it is short, of many launches, and has nothing that a library or the host decides. */
static bool
graph_pays(const struct cuda *c)
{
	const struct plan *p = c->plan;

	for (int i = 0; i < p->n; i++) {
		const struct node *x = &p->nodes[i];

		if (x->kind != NODE_LINEAR && x->kind != NODE_SCORE && x->kind != NODE_LOGITS &&
		    x->kind != NODE_LIKELIEST)
			continue;
		for (int j = 0; j < x->count; j++)
			if (!gemv_can(c, x->w[j], x->n))
				return false;
	}
	return p->n >= 8;
}

static bool
is_graph(const struct plan *p, const struct graph *g)
{
	return g->exec != NULL && g->n == p->n && memcmp(g->nodes, p->nodes, (size_t)p->n * sizeof *p->nodes) == 0;
}

static struct graph *
find_graph(struct plan *p, uint64_t hash)
{
	for (int i = 0; i < GRAPHS; i++)
		if (p->graphs[i].hash == hash && is_graph(p, &p->graphs[i]))
			return &p->graphs[i];
	return NULL;
}

/* Whether this list has come before; remembers it if not. */
static bool
seen_before(struct plan *p, uint64_t hash)
{
	for (int i = 0; i < SEEN; i++)
		if (p->seen[i] == hash)
			return true;
	p->seen[p->next_seen++ % SEEN] = hash;
	return false;
}

/* What the pass reads is fetched first. */
static void
run_nodes(struct cuda *c)
{
	inputs_fetch(c, &c->plan->inputs);
	fuse_run(c);
}

/* Record the launches as a graph in the place of the one that was used least recently. */
static struct graph *
capture(struct cuda *c, uint64_t hash)
{
	struct plan *p = c->plan;
	struct graph *g = &p->graphs[0];
	cudaGraph_t graph = NULL;

	for (int i = 1; i < GRAPHS; i++)
		if (p->graphs[i].used < g->used)
			g = &p->graphs[i];
	if (g->exec != NULL)
		cudaGraphExecDestroy(g->exec);
	free(g->nodes);
	memset(g, 0, sizeof *g);
	g->nodes = static_cast<struct node *>(malloc((size_t)p->n * sizeof *g->nodes));
	if (g->nodes == NULL || CHECK(c, cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal)))
		return NULL;
	run_nodes(c);
	if (CHECK(c, cudaStreamEndCapture(c->stream, &graph)) || CHECK(c, cudaGraphInstantiate(&g->exec, graph, 0)))
		g->exec = NULL;
	if (graph != NULL)
		cudaGraphDestroy(graph);
	memcpy(static_cast<void *>(g->nodes), p->nodes, (size_t)p->n * sizeof *g->nodes);
	g->hash = hash;
	g->n = p->n;
	return g->exec != NULL ? g : NULL;
}

static void
launch_nodes(struct cuda *c)
{
	struct plan *p = c->plan;
	struct graph *g = NULL;

	/* As a rule it is the one of the last pass. */
	if (p->last != NULL && p->same == p->n && p->before == p->n) {
		g = p->last;
	} else if (graph_pays(c)) {
		uint64_t hash = hash_nodes(p->nodes, p->n);

		g = find_graph(p, hash);
		if (g == NULL && seen_before(p, hash))
			g = capture(c, hash);
	}
	p->last = g;
	if (g == NULL) {
		run_nodes(c);
		return;
	}
	g->used = ++p->clock;
	CHECK(c, cudaGraphLaunch(g->exec, c->stream));
}

void
plan_flush(struct cuda *c)
{
	struct plan *p = c->plan;

	if (p == NULL || p->n == 0)
		return;
	cuda_use(c);
	settle(p);
	if (c->failure.code == 0)
		launch_nodes(c);
	p->before = p->n;
	p->n = p->same = 0;
	p->prefill = false;
	inputs_end(&p->inputs);
}

/* ---- the operations */

static void
op_close(struct backend *b)
{
	cuda_close(b);
}

static void *
op_alloc(struct backend *b, size_t bytes)
{
	struct cuda *c = cuda_of(b);
	struct plan *p = c->plan;
	void *m = NULL;

	cuda_use(c);
	if (p->n_places == PLACES || cudaMalloc(&m, bytes + 16) != cudaSuccess) {
		cudaGetLastError();
		return NULL;
	}
	CHECK(c, cudaMemsetAsync(m, 0, bytes + 16, c->stream));
	p->places[p->n_places].base = static_cast<char *>(m);
	p->places[p->n_places++].size = bytes + 16;
	return m;
}

static void
op_free(struct backend *b, void *m)
{
	struct cuda *c = cuda_of(b);
	struct plan *p = c->plan;

	if (m == NULL)
		return;
	cuda_use(c);
	plan_flush(c);
	plan_forget(c);
	cudaStreamSynchronize(c->stream);
	for (int i = 0; i < p->n_places; i++)
		if (p->places[i].base == m) {
			p->places[i] = p->places[--p->n_places];
			break;
		}
	cudaFree(m);
}

static int
plan_finish(struct cuda *c, struct err *e)
{
	CHECK(c, cudaStreamSynchronize(c->stream));
	return cuda_report(c, e);
}

static int
op_write(struct backend *b, void *dst, const void *src, size_t bytes, struct err *e)
{
	struct cuda *c = cuda_of(b);

	cuda_use(c);
	plan_flush(c);
	CHECK(c, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, c->stream));
	return plan_finish(c, e);
}

static int
op_read(struct backend *b, void *dst, const void *src, size_t bytes, struct err *e)
{
	struct cuda *c = cuda_of(b);

	cuda_use(c);
	plan_flush(c);
	CHECK(c, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, c->stream));
	return plan_finish(c, e);
}

static void
op_copy(struct backend *b, float *dst, const float *src, int64_t n)
{
	const struct plan *p = cuda_of(b)->plan;
	struct node *x;

	if (dst == src)
		return;
	/* The next pass begins, and nothing has asked for results of the last one. */
	if (p->n > 0 && p->latest.kind == NODE_END)
		plan_flush(cuda_of(b));
	x = add_node(cuda_of(b), NODE_COPY, 1);
	x->x = src;
	x->y = dst;
	x->width = n;
}

static void
op_embed(struct backend *b, const struct weight *w, const int32_t *ids, int n, float scale, float *y)
{
	struct cuda *c = cuda_of(b);
	struct node *x;
	const void *at;

	if (ids != NULL) {
		plan_make_room(c, (size_t)n * sizeof *ids);
		at = put_inputs(c, ids, (size_t)n * sizeof *ids);
	} else {
		at = &c->likeliest->id;
	}
	x = add_node(c, NODE_EMBED, n);
	x->w[0] = static_cast<const struct matrix *>(w->device);
	x->data = at;
	x->scale = scale;
	x->y = y;
}

static void
op_norm(struct backend *b, enum norm_kind kind, float eps, const struct vector *weight, const struct vector *bias,
    const float *x, int64_t n, int64_t width, float *y)
{
	struct node *node = add_node(cuda_of(b), NODE_NORM, 0);

	node->norm = kind;
	node->scale = eps;
	node->bias[0] = weight->device;
	node->bias[1] = bias->data != NULL ? bias->device : NULL;
	node->x = x;
	node->rows = n;
	node->width = width;
	node->y = y;
}

static void
op_linear(struct backend *b, const struct linear *l)
{
	struct node *x = add_node(cuda_of(b), NODE_LINEAR, l->n);

	cuda_of(b)->plan->prefill |= l->n > SMALL;
	x->x = l->x;
	x->count = l->count;
	x->scale = l->clamp;
	for (int i = 0; i < l->count; i++) {
		x->w[i] = static_cast<const struct matrix *>(l->out[i].w->device);
		x->bias[i] = l->out[i].bias->data != NULL ? l->out[i].bias->device : NULL;
		x->out[i] = l->out[i].y;
	}
}

static void
op_rope_table(struct backend *b, const struct rope *r, const int64_t *positions, int n, float *table)
{
	struct cuda *c = cuda_of(b);
	struct node *x;
	const void *at, *turn;

	plan_make_room(c, (size_t)n * sizeof *positions);
	at = put_inputs(c, positions, (size_t)n * sizeof *positions);
	turn = put_constant(c, r->turn, (size_t)r->n_rot / 2 * sizeof *r->turn);
	x = add_node(c, NODE_TABLE, n);
	x->data = at;
	x->constant = turn;
	x->d = r->n_rot;
	x->scale = r->scale;
	x->y = table;
}

static void
op_rotate(struct backend *b, const struct rope *r, const float *table, const float *x, int n, int heads, int d,
    float *y)
{
	struct node *node = add_node(cuda_of(b), NODE_ROTATE, n);

	node->style = r->style;
	node->count = r->n_rot;
	node->x2 = table;
	node->x = x;
	node->heads = heads;
	node->d = d;
	node->y = y;
}

static void
op_store(struct backend *b, struct cache *c, int layer, int64_t first, int n, const float *k, const float *v)
{
	struct cuda *u = cuda_of(b);
	const int64_t *at = put_first(u, first);
	struct node *x = add_node(u, NODE_STORE, n);

	x->cache = c;
	x->layer = layer;
	x->data = at;
	x->x = k;
	x->x2 = v;
}

static void
op_attend(struct backend *b, const struct attend *a)
{
	struct cuda *c = cuda_of(b);
	const void *slopes = NULL;
	const int64_t *at = put_first(c, a->first);
	struct node *x;

	if (a->slopes != NULL)
		slopes = put_constant(c, a->slopes, (size_t)a->n_head * sizeof *a->slopes);
	x = add_node(c, NODE_ATTEND, a->n);
	x->cache = a->cache;
	x->layer = a->layer;
	x->data = at;
	x->constant = slopes;
	x->heads = a->n_head;
	x->x = a->q_window;
	x->x2 = a->q_sink;
	x->y = a->out;
	x->scale = a->scale;
	x->softcap = a->softcap;
	x->width = a->native;
}

static void
op_activate(struct backend *b, enum activation act, const float *gate, const float *up, int64_t n, float *y)
{
	struct node *x = add_node(cuda_of(b), NODE_ACTIVATE, 1);

	x->act = act;
	x->x = gate;
	x->x2 = up;
	x->width = n;
	x->y = y;
}

static void
op_add(struct backend *b, float *x, const float *y, int64_t n)
{
	struct node *node = add_node(cuda_of(b), NODE_ADD, 1);

	node->y = x;
	node->x = y;
	node->width = n;
}

static struct node *
add_output(struct cuda *c, enum node_kind kind, const struct weight *w, const struct vector *bias, float softcap,
    const float *x, int n)
{
	struct node *node = add_node(c, kind, n);

	node->count = 1;
	node->w[0] = static_cast<const struct matrix *>(w->device);
	node->bias[0] = bias->data != NULL ? bias->device : NULL;
	node->softcap = softcap;
	node->x = x;
	return node;
}

static int
op_score(struct backend *b, const struct weight *w, const struct vector *bias, float softcap, const float *x, int n,
    const int32_t *targets, float *nll, struct err *e)
{
	struct cuda *c = cuda_of(b);
	const void *at;

	cuda_use(c);
	plan_make_room(c, (size_t)n * sizeof *targets);
	at = put_inputs(c, targets, (size_t)n * sizeof *targets);
	add_output(c, NODE_SCORE, w, bias, softcap, x, n)->data = at;
	plan_flush(c);
	if (plan_finish(c, e) < 0)
		return -1;
	memcpy(nll, c->results, (size_t)n * sizeof *nll);
	return 0;
}

static int
op_logits(struct backend *b, const struct weight *w, const struct vector *bias, float softcap, const float *x, int n,
    float *logits, struct err *e)
{
	struct cuda *c = cuda_of(b);
	int most = fuse_logits_rows(w->rows);

	cuda_use(c);
	for (int i = 0, part; i < n; i += part) {
		part = n - i < most ? n - i : most;
		add_output(c, NODE_LOGITS, w, bias, softcap, x + i * w->cols, part);
		plan_flush(c);
		CHECK(c, cudaMemcpyAsync(logits + i * w->rows, c->scratch[SCRATCH_LOGITS].p,
		    (size_t)(part * w->rows) * sizeof *logits, cudaMemcpyDeviceToHost, c->stream));
	}
	return plan_finish(c, e);
}

static void
op_ask_likeliest(struct backend *b, const struct weight *w, const struct vector *bias, float softcap, const float *x)
{
	struct cuda *c = cuda_of(b);

	cuda_use(c);
	add_output(c, NODE_LIKELIEST, w, bias, softcap, x, 1);
	plan_flush(c);
}

/* The device writes the answer to where the host looks for it: that is there before the stream is known to rest. */
static int
op_tell_likeliest(struct backend *b, int32_t *id, struct err *e)
{
	enum { LOOKS = 4096 };
	struct cuda *c = cuda_of(b);
	const volatile uint64_t *told = &c->told[c->heard++ % LIKELIEST_MAX];
	uint64_t answer = *told;

	cuda_use(c);
	for (int i = 1; (uint32_t)(answer >> 32) != c->heard && c->failure.code == 0; i++) {
		cudaError_t r = i % LOOKS == 0 ? cudaStreamQuery(c->stream) : cudaErrorNotReady;

		answer = *told;
		if (r != cudaErrorNotReady && (uint32_t)(answer >> 32) != c->heard)
			CHECK(c, r != cudaSuccess ? r : cudaErrorUnknown);
	}
	*id = (int32_t)((uint32_t)answer & ~TOLD_NAN);
	if (cuda_report(c, e) < 0)
		return -1;
	if (((uint32_t)answer & TOLD_NAN) != 0)
		return err_set(e, EX_DATAERR, "%s: logits are not numbers (NaN), so that no token is the likeliest",
		    c->path);
	return 0;
}

static void
op_end(struct backend *b, const float *keep)
{
	struct cuda *c = cuda_of(b);

	add_node(c, NODE_END, 0)->x = keep;
	/* A long pass begins now; a short one may become one graph with what follows it. */
	if (c->plan->prefill)
		plan_flush(c);
}

static int
op_sync(struct backend *b, struct err *e)
{
	struct cuda *c = cuda_of(b);

	cuda_use(c);
	plan_flush(c);
	return plan_finish(c, e);
}

const struct backend_ops plan_ops = {
	op_close, op_alloc, op_free, op_write, op_read, op_copy, weights_load, weights_unload, vector_load,
	    vector_unload,
	cache_new, cache_free, cache_grow, cache_set_sinks, cache_bytes, cache_token_bytes, cache_save, cache_load,
	cache_copy, op_embed, op_norm, op_linear, op_rope_table, op_rotate, op_store, op_attend, op_activate, op_add,
	    op_score,
	op_logits, op_ask_likeliest, op_tell_likeliest, op_end, op_sync, NULL,
};
