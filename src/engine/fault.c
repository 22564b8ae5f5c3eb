/* Where a number that is not finite comes from; see fault.h. Called on the context's thread, once. */
#include "engine/fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/finite.h"
#include "engine/quant.h"

/* Where the first such number was seen. */
struct place {
	int token;     /* number in the pass; -1: the token before it */
	int layer;     /* -1: the embedding; n_layer: the last norm; n_layer + 1: the output matrix; or one of these: */
};
enum { NOWHERE = -2, EVERYWHERE = -3, TENSOR_NAME = 80, TOKEN_TEXT = 40 };

/* ---- which token, which layer ---------------------------------------- */

/* Spare slots may hold numbers that are not finite by now, and even a weight of 0 would not keep those out of a sum. */
static int
clear_slots(struct context *c, int64_t first, int64_t n, struct err *e)
{
	const struct backend_ops *ops = c->b->ops;
	void *zeros = calloc((size_t)n, ops->cache_token_bytes(c->cache));
	int rc = 0;

	if (zeros == NULL)
		return err_set(e, EX_OSERR, "out of memory for looking for a fault");
	for (int i = 0; i < c->m->h.n_layer && rc == 0; i++)
		rc = ops->cache_load(c->b, c->cache, i, first, n, zeros, e);
	free(zeros);
	return rc;
}

/* Compute the tokens [from, to) of the pass once more. Returns whether all their hidden rows are finite, or -1. */
static int
fault_is_sound(struct context *c, const struct fault_pass *p, int from, int to, struct err *e)
{
	int rc = 1;

	if (clear_slots(c, p->first + from, p->n - from, e) < 0)
		return -1;
	for (int n; from < to && rc > 0; from += n) {
		n = to - from < c->o.chunk ? to - from : c->o.chunk;
		forward_run(c->f, c->cache, &c->shape, p->ids + from, n, p->first + from, p->start);
		rc = forward_check(c->f, 1, n, e);
	}
	return rc;
}

/* The first token whose hidden row is not finite: those before it are computed and stay so. Returns 0 or -1. */
static int
fault_find_token(struct context *c, const struct fault_pass *p, struct place *place, struct err *e)
{
	int good = 0, bad = p->n, rc = fault_is_sound(c, p, 0, p->n, e);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	while (bad - good > 1) {
		int middle = good + (bad - good) / 2;

		if ((rc = fault_is_sound(c, p, good, middle, e)) < 0)
			return -1;
		if (rc > 0)
			good = middle;
		else
			bad = middle;
	}
	if (clear_slots(c, p->first + good, p->n - good, e) < 0 ||
	    forward_trace(c->f, c->cache, &c->shape, p->ids[good], p->first + good, p->start, &place->layer, e) < 0)
		return -1;
	place->token = good;
	if (place->layer > c->m->h.n_layer)
		place->layer = NOWHERE;
	return 0;
}

/* Every hidden row is finite: the first whose logits are not. */
static int
fault_find_row(struct context *c, const struct fault_pass *p, struct place *place, struct err *e)
{
	size_t n = (size_t)c->m->h.n_vocab;
	float *logits = malloc(n * sizeof *logits);
	int rc = 0;

	if (logits == NULL)
		return err_set(e, EX_OSERR, "out of memory for looking for a fault");
	for (int row = p->rows[0]; row < p->rows[1] && rc == 0 && place->layer == NOWHERE; row++) {
		rc = forward_logits(c->f, row, 1, logits, e);
		if (rc == 0 && !floats_are_finite(logits, (int64_t)n))
			*place = (struct place){ row - p->before_row - 1, c->m->h.n_layer + 1 };
	}
	free(logits);
	return rc;
}

static int
fault_find_place(struct context *c, const struct fault_pass *p, struct place *place, struct err *e)
{
	int rc = 1;

	if (p->rows[0] < p->rows[1])
		rc = forward_check(c->f, p->rows[0], p->rows[1] - p->rows[0], e);
	if (rc < 0 || (rc > 0 && fault_find_row(c, p, place, e) < 0))
		return -1;
	if (place->layer == NOWHERE && p->n > 0)
		return fault_find_token(c, p, place, e);
	if (rc == 0)
		*place = (struct place){ -1, EVERYWHERE };
	return 0;
}

/* ---- which tensor ---------------------------------------------------- */

static bool
rows_are_finite(const struct gguf_tensor *t, int64_t first, int64_t rows)
{
	float *row = malloc((size_t)t->ne[0] * sizeof *row);
	size_t size = quant_row_size(t->type, t->ne[0]);
	bool finite = true;

	/* Without memory for a row the tensor counts as finite. */
	for (int64_t i = first; i < first + rows && row != NULL && finite; i++) {
		quant_dequantize(t->type, (const char *)t->data + (size_t)i * size, t->ne[0], row);
		finite = floats_are_finite(row, t->ne[0]);
	}
	free(row);
	return finite;
}

/* The tensors that a place reads begin with this. */
static void
name_tensors(const struct context *c, int layer, char name[TENSOR_NAME])
{
	const struct model *m = c->m;

	if (layer == EVERYWHERE)
		name[0] = '\0';
	else if (layer < 0 || (layer > m->h.n_layer && m->output.data == m->embed.data))
		snprintf(name, TENSOR_NAME, "token_embd.");
	else if (layer < m->h.n_layer)
		snprintf(name, TENSOR_NAME, "blk.%d.", layer);
	else
		snprintf(name, TENSOR_NAME, layer == m->h.n_layer ? "output_norm." : "output.");
}

/* The tensor that holds such a number, or NULL. Of the embedding only the token's row counts. */
static const struct gguf_tensor *
find_tensor(const struct context *c, int layer, int32_t id)
{
	char name[TENSOR_NAME];

	name_tensors(c, layer, name);
	for (size_t i = 0; i < gguf_count_tensors(c->m->file); i++) {
		const struct gguf_tensor *t = gguf_get_tensor(c->m->file, i);
		bool one = layer == -1 && id >= 0;

		if (strncmp(t->name, name, strlen(name)) == 0 &&
		    !rows_are_finite(t, one ? id : 0, one ? 1 : t->ne[1] * t->ne[2] * t->ne[3]))
			return t;
	}
	return NULL;
}

/* ---- the sentence ---------------------------------------------------- */

/* " (' text')", or nothing where the token is not known. */
static void
quote_token(const struct context *c, int32_t id, char text[TOKEN_TEXT + 8])
{
	struct tokenizer *t = id >= 0 ? tokenizer_new(c->m, NULL) : NULL;
	size_t len = 0;
	const char *bytes;

	text[0] = '\0';
	if (t == NULL)
		return;
	bytes = tokenizer_decode(t, id, true, false, &len);
	if (len > TOKEN_TEXT)
		len = TOKEN_TEXT;
	snprintf(text, TOKEN_TEXT + 8, " ('%.*s')", (int)len, bytes);
	tokenizer_free(t);
}

static void
describe_layer(const struct context *c, int layer, char text[TENSOR_NAME])
{
	int n = c->m->h.n_layer;

	if (layer >= 0 && layer < n)
		snprintf(text, TENSOR_NAME, "layer %d", layer);
	else if (layer == EVERYWHERE)
		snprintf(text, TENSOR_NAME, "a layer");
	else
		snprintf(text, TENSOR_NAME, layer < 0 ? "the embedding" : layer == n ? "the output norm"
		    : "the output matrix");
}

/* The sentence about a place, with the code it deserves. */
static int
blame(const struct context *c, const struct fault_pass *p, const struct place *place, struct err *e)
{
	int32_t id = place->token < 0 ? p->before : p->ids[place->token];
	const struct gguf_tensor *t = find_tensor(c, place->layer, id);
	char layer[TENSOR_NAME], token[TOKEN_TEXT + 8], what[2 * TENSOR_NAME + TOKEN_TEXT];

	describe_layer(c, place->layer, layer);
	quote_token(c, id, token);
	snprintf(what, sizeof what, "%s gives a number that is not finite at token %lld%s of %s", layer,
	    (long long)(p->number + place->token), token, p->of);
	/* A device's numbers are looked at less often: the tensor may be one of a layer, or a token, before. */
	if (t == NULL && c->b->device)
		t = find_tensor(c, EVERYWHERE, id);
	if (t != NULL)
		return err_set(e, EX_DATAERR, "%s: %s, because tensor %s holds one; fetch or convert the file again",
		    c->m->info.path, what, t->name);
	if (c->b->device)
		return err_set(e, EX_TEMPFAIL, "%s: %s, and no weight of %s does; start again, or with --device cpu",
		    c->b->path, what, c->m->info.path);
	return err_set(e, EX_DATAERR, "%s: %s, although its weights are finite; they are too large for its arithmetic, "
	    "use another model", c->m->info.path, what);
}

int
fault_report(struct context *c, const struct fault_pass *p, struct err *e)
{
	struct place place = { .layer = NOWHERE };
	struct err device = { 0 };

	c->broken = true;
	if (fault_find_place(c, p, &place, &device) < 0)
		return err_set(e, EX_TEMPFAIL, "%s gave a number that is not finite, and then: %s", c->b->path,
		    device.text);
	if (place.layer != NOWHERE)
		return blame(c, p, &place, e);
	return err_set(e, EX_TEMPFAIL, "%s: a number was not finite near token %lld of %s, but is when it is computed "
	    "again: suspect the memory or the processor of this machine (code path %s)", c->m->info.path,
	    (long long)p->number, p->of, c->b->path);
}
