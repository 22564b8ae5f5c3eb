/* Opening a model: views of the file's tensors, each checked for its shape; see model.h. */
#include "engine/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/arch.h"
#include "engine/hyper.h"
#include "engine/quant.h"
#include "engine/rope.h"
#include "engine/tokenizer.h"

/* State of one loading; a tensor that nobody asked for makes the file unsupported. */
struct loader {
	struct model *m;
	const struct arch *arch;
	bool *used; /* per tensor of the file */
	struct err *e;
};

struct weight
weight_rows(const struct weight *w, int64_t first, int64_t rows)
{
	struct weight v = *w;

	v.rows = rows;
	v.data = (const char *)w->data + (size_t)first * quant_row_size(w->type, w->cols);
	return v;
}

static const struct gguf_tensor *
model_find(struct loader *l, const char *name)
{
	const struct gguf_tensor *t = gguf_find_tensor(l->m->file, name);

	for (size_t i = 0; t != NULL && i < gguf_count_tensors(l->m->file); i++)
		if (gguf_get_tensor(l->m->file, i) == t)
			l->used[i] = true;
	return t;
}

static int
missing(struct loader *l, const char *name)
{
	return err_set(l->e, EX_DATAERR, "%s: tensor %s is missing", gguf_get_path(l->m->file), name);
}

static int
wrong_shape(struct loader *l, const struct gguf_tensor *t, int64_t cols, int64_t rows)
{
	return err_set(l->e, EX_DATAERR, "%s: tensor %s is %lld x %lld, not %lld x %lld", gguf_get_path(l->m->file),
	    t->name, (long long)t->ne[0], (long long)t->ne[1], (long long)cols, (long long)rows);
}

/* The matrix of that name, [rows, cols]. A missing one leaves *w without data. */
static int
get_weight(struct loader *l, const char *name, int64_t rows, int64_t cols, struct weight *w)
{
	const struct gguf_tensor *t = model_find(l, name);

	memset(w, 0, sizeof *w);
	if (t == NULL)
		return 0;
	if (t->n_dims > 2 || t->ne[0] != cols || t->ne[1] != rows)
		return wrong_shape(l, t, cols, rows);
	*w = (struct weight){ .type = t->type, .rows = rows, .cols = cols, .data = t->data };
	return 0;
}

/* The vector of that name in float32; converted where the file has another type. */
static int
get_vector(struct loader *l, const char *name, int64_t n, struct vector *v)
{
	const struct gguf_tensor *t = model_find(l, name);
	float **owned, *data;

	memset(v, 0, sizeof *v);
	if (t == NULL)
		return 0;
	if (t->ne[0] != n || t->n_dims != 1)
		return wrong_shape(l, t, n, 1);
	v->n = n;
	if (t->type == QUANT_F32) {
		v->data = t->data;
		return 0;
	}
	owned = realloc(l->m->owned, (l->m->n_owned + 1) * sizeof *owned);
	if (owned == NULL)
		return err_set(l->e, EX_OSERR, "out of memory for %s", name);
	l->m->owned = owned;
	data = malloc((size_t)n * sizeof *data);
	if (data == NULL)
		return err_set(l->e, EX_OSERR, "out of memory for %s", name);
	owned[l->m->n_owned++] = data;
	quant_dequantize(t->type, t->data, n, data);
	v->data = data;
	return 0;
}

enum { NAME_SIZE = 64 };

static const char *
layer_name(char buf[NAME_SIZE], int layer, const char *part)
{
	snprintf(buf, NAME_SIZE, "blk.%d.%s", layer, part);
	return buf;
}

/* A part of n values of a fused vector. */
static struct vector
vector_part(const struct vector *v, int64_t first, int64_t n)
{
	struct vector part = { 0 };

	if (v->data != NULL)
		part = (struct vector){ .data = v->data + first, .n = n };
	return part;
}

/* Queries, keys and values: three matrices, or one whose rows are all queries, all keys, all values. */
static int
load_qkv(struct loader *l, int i, struct layer *y)
{
	static const char *const names[3] = { "attn_q", "attn_k", "attn_v" };
	const struct hyper *h = &l->m->h;
	int64_t rows[3] = { (int64_t)h->n_head * h->d_k, (int64_t)h->n_head_kv * h->d_k,
	    (int64_t)h->n_head_kv * h->d_v };
	int64_t all = rows[0] + rows[1] + rows[2], first = 0;
	struct weight fused;
	struct vector bias;
	char name[NAME_SIZE], part[16];

	if (get_weight(l, layer_name(name, i, "attn_qkv.weight"), all, h->n_embd, &fused) < 0 ||
	    get_vector(l, layer_name(name, i, "attn_qkv.bias"), all, &bias) < 0)
		return -1;
	for (int j = 0; j < 3; j++) {
		if (fused.data != NULL) {
			y->w[W_Q + j] = weight_rows(&fused, first, rows[j]);
			y->v[V_Q_BIAS + j] = vector_part(&bias, first, rows[j]);
			first += rows[j];
			continue;
		}
		snprintf(part, sizeof part, "%s.weight", names[j]);
		if (get_weight(l, layer_name(name, i, part), rows[j], h->n_embd, &y->w[W_Q + j]) < 0)
			return -1;
		if (y->w[W_Q + j].data == NULL)
			return missing(l, name);
		snprintf(part, sizeof part, "%s.bias", names[j]);
		if (get_vector(l, layer_name(name, i, part), rows[j], &y->v[V_Q_BIAS + j]) < 0)
			return -1;
	}
	return 0;
}

/* Feed-forward; a gated one may have gate and up rows in one matrix. */
static int
load_ffn(struct loader *l, int i, struct layer *y)
{
	const struct hyper *h = &l->m->h;
	struct weight fused = { 0 };
	const struct gguf_tensor *t;
	char name[NAME_SIZE];

	t = gguf_find_tensor(l->m->file, layer_name(name, i, "ffn_up.weight"));
	if (t == NULL)
		return missing(l, name);
	if (l->arch->gated && t->ne[1] == 2 * (int64_t)h->n_ff &&
	    gguf_find_tensor(l->m->file, layer_name(name, i, "ffn_gate.weight")) == NULL) {
		if (get_weight(l, layer_name(name, i, "ffn_up.weight"), 2 * (int64_t)h->n_ff, h->n_embd, &fused) < 0)
			return -1;
		y->w[W_GATE] = weight_rows(&fused, 0, h->n_ff);
		y->w[W_UP] = weight_rows(&fused, h->n_ff, h->n_ff);
	} else {
		if (get_weight(l, layer_name(name, i, "ffn_up.weight"), h->n_ff, h->n_embd, &y->w[W_UP]) < 0 ||
		    get_vector(l, layer_name(name, i, "ffn_up.bias"), h->n_ff, &y->v[V_UP_BIAS]) < 0)
			return -1;
		if (l->arch->gated) {
			if (get_weight(l, layer_name(name, i, "ffn_gate.weight"), h->n_ff, h->n_embd,
			    &y->w[W_GATE]) < 0)
				return -1;
			if (y->w[W_GATE].data == NULL)
				return missing(l, name);
			if (get_vector(l, layer_name(name, i, "ffn_gate.bias"), h->n_ff, &y->v[V_GATE_BIAS]) < 0)
				return -1;
		}
	}
	if (get_weight(l, layer_name(name, i, "ffn_down.weight"), h->n_embd, h->n_ff, &y->w[W_DOWN]) < 0)
		return -1;
	if (y->w[W_DOWN].data == NULL)
		return missing(l, name);
	return get_vector(l, layer_name(name, i, "ffn_down.bias"), h->n_embd, &y->v[V_DOWN_BIAS]);
}

struct vector_spec {
	const char *name;
	enum layer_vector slot;
	int64_t n;
	bool required;
};

/* No model was trained to that: it is the hole of a download that did not come to its end. */
static int
check_norm(struct loader *l, const char *name, const struct vector *v)
{
	for (int64_t i = 0; i < v->n; i++)
		if (v->data[i] != 0)
			return 0;
	return err_set(l->e, EX_DATAERR, "%s: %s holds nothing but zeros: the file is damaged, or its download is not "
	    "complete", gguf_get_path(l->m->file), name);
}

static int
load_norms(struct loader *l, int i, struct layer *y)
{
	const struct hyper *h = &l->m->h;
	const struct arch *a = l->arch;
	bool second = gguf_find_tensor(l->m->file, "blk.0.attn_norm_2.weight") != NULL && h->parallel;
	/* Falcon 40B: attention reads attn_norm_2, the feed-forward attn_norm. */
	struct vector_spec specs[] = {
		{ second ? "attn_norm_2.weight" : "attn_norm.weight", V_ATTN_NORM, h->n_embd, true },
		{ second ? "attn_norm_2.bias" : "attn_norm.bias", V_ATTN_NORM_BIAS, h->n_embd, false },
		{ second ? "attn_norm.weight" : "ffn_norm.weight", V_FFN_NORM, h->n_embd, !h->parallel },
		{ second ? "attn_norm.bias" : "ffn_norm.bias", V_FFN_NORM_BIAS, h->n_embd, false },
		{ a->post_norm ? "post_attention_norm.weight" : NULL, V_POST_ATTN_NORM, h->n_embd, true },
		{ a->post_norm ? "post_ffw_norm.weight" : NULL, V_POST_FFN_NORM, h->n_embd, true },
		{ a->qk_norm ? "attn_q_norm.weight" : NULL, V_Q_NORM, h->d_k, true },
		{ a->qk_norm ? "attn_k_norm.weight" : NULL, V_K_NORM, h->d_k, true },
	};
	char name[NAME_SIZE];

	for (size_t j = 0; j < sizeof specs / sizeof specs[0]; j++) {
		if (specs[j].name == NULL)
			continue;
		if (get_vector(l, layer_name(name, i, specs[j].name), specs[j].n, &y->v[specs[j].slot]) < 0)
			return -1;
		if (specs[j].required && y->v[specs[j].slot].data == NULL)
			return missing(l, name);
		if (specs[j].required && check_norm(l, name, &y->v[specs[j].slot]) < 0)
			return -1;
	}
	return 0;
}

static int
load_layer(struct loader *l, int i)
{
	const struct hyper *h = &l->m->h;
	struct layer *y = &l->m->layers[i];
	char name[NAME_SIZE];

	if (load_norms(l, i, y) < 0 || load_qkv(l, i, y) < 0)
		return -1;
	if (get_weight(l, layer_name(name, i, "attn_output.weight"), h->n_embd, (int64_t)h->n_head * h->d_v,
	    &y->w[W_O]) < 0)
		return -1;
	if (y->w[W_O].data == NULL)
		return missing(l, name);
	if (get_vector(l, layer_name(name, i, "attn_output.bias"), h->n_embd, &y->v[V_O_BIAS]) < 0)
		return -1;
	return load_ffn(l, i, y);
}

/* Which layers see only a native window, and with which rotation. */
static int
set_native_windows(struct loader *l)
{
	struct model *m = l->m;
	struct hyper_keys k = { m->file, l->arch->name };
	int64_t window = 0, pattern = l->arch->local_pattern;
	bool *local = malloc((size_t)m->h.n_layer * sizeof *local);
	int listed = 0, rc = -1;

	if (local == NULL)
		return err_set(l->e, EX_OSERR, "out of memory for %d layers", m->h.n_layer);
	if (hyper_get_int(&k, "attention.sliding_window", &window, l->e) < 0)
		goto out;
	/* Where all layers are alike nobody asks for a pattern, and a file with one is refused. */
	if (l->arch->local_pattern > 0 && ((listed = hyper_get_local_layers(&k, m->h.n_layer, local, l->e)) < 0 ||
	    (listed == 0 && hyper_get_int(&k, "attention.sliding_window_pattern", &pattern, l->e) < 0)))
		goto out;
	if (window < 0 || pattern < 0) {
		err_set(l->e, EX_DATAERR, "%s: a negative sliding window", gguf_get_path(m->file));
		goto out;
	}
	for (int i = 0; i < m->h.n_layer; i++) {
		if (listed == 0)
			local[i] = l->arch->local_pattern == 0 || pattern == 0 || (i + 1) % pattern != 0;
		m->layers[i].native = local[i] ? window : 0;
		m->layers[i].rope = l->arch->local_pattern > 0 && local[i] ? &m->rope_local : &m->rope;
	}
	rc = 0;
out:
	free(local);
	return rc;
}

static int
check_divisors(struct loader *l, const struct vector *v)
{
	for (int64_t i = 0; i < v->n; i++)
		if (!(v->data[i] > 0) || !isfinite(v->data[i]))
			return err_set(l->e, EX_DATAERR, "%s: a rotary factor is not a positive number",
			    gguf_get_path(l->m->file));
	return 0;
}

/* Divisors of the rotary frequencies: rope_freqs (Llama 3), or long and short ones (Phi-3). */
static int
load_rope(struct loader *l)
{
	struct model *m = l->m;
	struct rope_params global, local;
	struct vector divisors, longer = { 0 };

	if (hyper_read_rope(&m->h, l->arch, m->file, &global, &local, l->e) < 0)
		return -1;
	if (get_vector(l, "rope_freqs.weight", global.n_rot / 2, &divisors) < 0)
		return -1;
	if (divisors.data == NULL &&
	    (get_vector(l, "rope_factors_short.weight", global.n_rot / 2, &divisors) < 0 ||
	     get_vector(l, "rope_factors_long.weight", global.n_rot / 2, &longer) < 0))
		return -1;
	if (check_divisors(l, &divisors) < 0 || check_divisors(l, &longer) < 0)
		return -1;
	global.divisors = divisors.data;
	if (rope_init(&m->rope, &global, l->e) < 0 || rope_init(&m->rope_local, &local, l->e) < 0)
		return -1;
	if (longer.data == NULL)
		return 0;
	m->n_ctx_original = (int64_t)global.yarn_original;
	global.divisors = longer.data;
	return rope_init(&m->rope_long, &global, l->e);
}

static int
load_outer(struct loader *l)
{
	struct model *m = l->m;
	const struct gguf_tensor *t = gguf_find_tensor(m->file, "token_embd.weight");

	if (t == NULL)
		return missing(l, "token_embd.weight");
	if (t->n_dims != 2 || t->ne[1] > INT32_MAX)
		return wrong_shape(l, t, m->h.n_embd, m->h.n_vocab);
	m->h.n_vocab = (int32_t)t->ne[1];
	if (get_weight(l, "token_embd.weight", m->h.n_vocab, m->h.n_embd, &m->embed) < 0 ||
	    get_weight(l, "output.weight", m->h.n_vocab, m->h.n_embd, &m->output) < 0 ||
	    get_vector(l, "output_norm.weight", m->h.n_embd, &m->v[V_OUTPUT_NORM]) < 0 ||
	    get_vector(l, "output_norm.bias", m->h.n_embd, &m->v[V_OUTPUT_NORM_BIAS]) < 0 ||
	    get_vector(l, "output.bias", m->h.n_vocab, &m->v[V_OUTPUT_BIAS]) < 0)
		return -1;
	if (m->v[V_OUTPUT_NORM].data == NULL)
		return missing(l, "output_norm.weight");
	if (check_norm(l, "output_norm.weight", &m->v[V_OUTPUT_NORM]) < 0)
		return -1;
	if (m->output.data == NULL)
		m->output = m->embed;
	return 0;
}

static int
load_weights(struct loader *l)
{
	struct model *m = l->m;
	size_t n = gguf_count_tensors(m->file);

	m->layers = calloc((size_t)m->h.n_layer, sizeof *m->layers);
	l->used = calloc(n + 1, sizeof *l->used);
	if (m->layers == NULL || l->used == NULL)
		return err_set(l->e, EX_OSERR, "out of memory for %d layers", m->h.n_layer);
	if (load_outer(l) < 0 || load_rope(l) < 0 || set_native_windows(l) < 0)
		return -1;
	for (int i = 0; i < m->h.n_layer; i++)
		if (load_layer(l, i) < 0)
			return -1;
	for (size_t i = 0; i < n; i++)
		if (!l->used[i])
			return err_set(l->e, EX_DATAERR, "%s: tensor %s is not part of the %s architecture as computed "
			    "here", gguf_get_path(m->file), gguf_get_tensor(m->file, i)->name, l->arch->name);
	return 0;
}

/* A NUL-terminated copy of a string of the metadata; "" or NULL where it is missing. */
static int
copy_string(struct model *m, int slot, const char *key, const char *fallback, const char **out)
{
	struct gguf_string s;

	*out = fallback;
	if (!gguf_get_string(m->file, key, &s))
		return 0;
	m->strings[slot] = malloc(s.len + 1);
	if (m->strings[slot] == NULL)
		return -1;
	memcpy(m->strings[slot], s.data, s.len);
	m->strings[slot][s.len] = '\0';
	*out = m->strings[slot];
	return 0;
}

/* A token id of the metadata, or -1 where it is missing or outside the vocabulary. */
static int32_t
token_id(const struct gguf *g, const char *key, int64_t n_vocab)
{
	int64_t id = -1;

	gguf_get_int(g, key, &id);
	return id >= 0 && id < n_vocab ? (int32_t)id : -1;
}

static bool
string_is(const struct gguf *g, const char *key, const char *value)
{
	struct gguf_string s;

	return gguf_get_string(g, key, &s) && s.len == strlen(value) && memcmp(s.data, value, s.len) == 0;
}

static void
count_weights(const struct gguf *g, struct model_info *info)
{
	bool untied = gguf_find_tensor(g, "output.weight") != NULL;
	int64_t most = 0, by_type[64] = { 0 };

	for (size_t i = 0; i < gguf_count_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_get_tensor(g, i);
		int64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];

		info->n_params += n;
		if (!untied || strcmp(t->name, "token_embd.weight") != 0)
			info->token_bytes += t->size;
		by_type[t->type] += n;
		if (by_type[t->type] > most) {
			most = by_type[t->type];
			info->weight_type = quant_get_name(t->type);
		}
	}
}

/* Names of tokenizer.ggml.pre whose models want a BOS where the file is silent. */
static const char *const bos_pre[] = { "falcon3", "lfm2", "llama-bpe", "llama-v3", "llama3", "pixtral", "tekken" };

static int
fill_info(struct model *m, const char *path, struct err *e)
{
	struct model_info *info = &m->info;
	struct gguf *g = m->file;
	enum gguf_value_type type;
	int64_t n_tokens = gguf_get_array(g, "tokenizer.ggml.tokens", &type);

	info->weight_type = "none";
	count_weights(g, info);
	m->strings[0] = strdup(path);
	if (m->strings[0] == NULL || copy_string(m, 1, "general.architecture", "", &info->architecture) < 0 ||
	    copy_string(m, 2, "general.name", "", &info->name) < 0 ||
	    copy_string(m, 3, "tokenizer.chat_template", NULL, &info->chat_template) < 0)
		return err_set(e, EX_OSERR, "out of memory for %s", path);
	info->path = m->strings[0];
	info->n_vocab = n_tokens > 0 && n_tokens <= INT32_MAX ? (int32_t)n_tokens : 0;
	info->file_size = gguf_get_size(g);
	info->bos = token_id(g, "tokenizer.ggml.bos_token_id", info->n_vocab);
	info->eos = token_id(g, "tokenizer.ggml.eos_token_id", info->n_vocab);
	/* Files that do not say: SentencePiece vocabularies and Llama 3's kind were trained with a BOS. */
	info->add_bos = string_is(g, "tokenizer.ggml.model", "llama");
	for (size_t i = 0; i < sizeof bos_pre / sizeof bos_pre[0]; i++)
		info->add_bos |= string_is(g, "tokenizer.ggml.pre", bos_pre[i]);
	gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &info->add_bos);
	if (info->bos < 0)
		info->add_bos = false;
	return 0;
}

/* A part of a model that was split into several files would count as a whole one with tied weights. */
static int
check_split(const struct gguf *g, struct err *e)
{
	int64_t n = 1, number = 0;

	gguf_get_int(g, "split.count", &n);
	gguf_get_int(g, "split.no", &number);
	if (n <= 1)
		return 0;
	return err_set(e, EX_DATAERR, "%s is part %lld of a model in %lld files: join them into one first, with "
	    "llama-gguf-split --merge", gguf_get_path(g), (long long)number + 1, (long long)n);
}

static int
model_load(struct model *m, struct err *e)
{
	struct loader l = { .m = m, .e = e };
	int r = -1;

	if (m->info.architecture[0] == '\0')
		return err_set(e, EX_DATAERR, "%s: general.architecture is missing", m->info.path);
	l.arch = arch_find(m->info.architecture);
	if (l.arch == NULL)
		return err_set(e, EX_DATAERR, "%s: architecture '%.60s' is not supported (supported: %s)", m->info.path,
		    m->info.architecture, arch_names());
	if (check_split(m->file, e) == 0 && hyper_read(&m->h, l.arch, m->file, e) == 0)
		r = load_weights(&l);
	free(l.used);
	if (r == 0)
		r = hyper_check_rest(&(struct hyper_keys){ m->file, l.arch->name }, e);
	if (r == 0 && m->info.n_vocab > m->h.n_vocab)
		return err_set(e, EX_DATAERR, "%s: the vocabulary has %d tokens, the embedding %d rows", m->info.path,
		    m->info.n_vocab, m->h.n_vocab);
	m->info.n_vocab = m->h.n_vocab;
	m->info.n_layer = m->h.n_layer;
	m->info.n_embd = m->h.n_embd;
	m->info.n_ctx_train = m->h.n_ctx_train;
	return r;
}

struct model *
model_open(const char *path, unsigned flags, struct err *e)
{
	struct model *m = calloc(1, sizeof *m);

	if (m == NULL) {
		err_set(e, EX_OSERR, "out of memory for %s", path);
		return NULL;
	}
	m->file = gguf_open(path, e);
	if (m->file == NULL || fill_info(m, path, e) < 0 ||
	    ((flags & MODEL_VOCAB_ONLY) == 0 && model_load(m, e) < 0)) {
		model_close(m);
		return NULL;
	}
	return m;
}

void
model_close(struct model *m)
{
	if (m == NULL)
		return;
	rope_fini(&m->rope);
	rope_fini(&m->rope_local);
	rope_fini(&m->rope_long);
	for (size_t i = 0; i < m->n_owned; i++)
		free(m->owned[i]);
	for (size_t i = 0; i < sizeof m->strings / sizeof m->strings[0]; i++)
		free(m->strings[i]);
	free(m->owned);
	free(m->layers);
	free(m->h.slopes);
	gguf_close(m->file);
	free(m);
}

const struct model_info *
model_get_info(const struct model *m)
{
	return &m->info;
}

int
model_get_file(const struct model *m)
{
	return gguf_get_file(m->file);
}

struct tokenizer *
tokenizer_new(const struct model *m, struct err *e)
{
	return tokenizer_new_gguf(m->file, e);
}
