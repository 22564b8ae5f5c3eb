/* Hyperparameters of a model out of a file's metadata; see hyper.h. */
#include "engine/hyper.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_SIZE = 128 };

/* No model is anywhere near these; they keep every later product far inside 64 bits. */
static const int64_t max_layers = 1 << 12, max_heads = 1 << 14, max_width = 1 << 20;

/*
 * Gemma 3 has no cap on its logits, but an early converter of Ollama's wrote its
 * own default of 30 into every file, with its own names for the rotary bases.
 */
static const double WRONG_SOFTCAP = 30;

static const char *
key(const struct hyper_keys *k, const char *name, char buf[KEY_SIZE])
{
	snprintf(buf, KEY_SIZE, "%s.%s", k->arch, name);
	return buf;
}

int
hyper_get_int(const struct hyper_keys *k, const char *name, int64_t *value, struct err *e)
{
	char buf[KEY_SIZE];

	if (gguf_has_key(k->g, key(k, name, buf)) && !gguf_get_int(k->g, buf, value))
		return err_set(e, EX_DATAERR, "%s: %s is not one integer, and models with one for each layer are not "
		    "supported", gguf_get_path(k->g), buf);
	return 0;
}

int
hyper_get_local_layers(const struct hyper_keys *k, int32_t n_layer, bool *local, struct err *e)
{
	char buf[KEY_SIZE];
	enum gguf_value_type type;
	int64_t n = gguf_get_array(k->g, key(k, "attention.sliding_window_pattern", buf), &type), v;

	if (n < 0)
		return 0;
	if (n != n_layer)
		return err_set(e, EX_DATAERR, "%s: %s has %lld values for %d layers", gguf_get_path(k->g), buf,
		    (long long)n, n_layer);
	for (int32_t i = 0; i < n_layer; i++) {
		if (!gguf_get_array_int(k->g, buf, i, &v) || v < 0 || v > 1)
			return err_set(e, EX_DATAERR, "%s: %s is no array of truth values", gguf_get_path(k->g), buf);
		local[i] = v != 0;
	}
	return 1;
}

/* An integer within lo..hi; a missing key leaves the fallback, which must pass too. */
static int
get_checked(const struct hyper_keys *k, const char *name, int64_t fallback, int64_t lo, int64_t hi, int32_t *out,
    struct err *e)
{
	char buf[KEY_SIZE];
	int64_t v = fallback;

	key(k, name, buf);
	if (gguf_has_key(k->g, buf) && !gguf_get_int(k->g, buf, &v))
		return err_set(e, EX_DATAERR, "%s: %s is not one integer", gguf_get_path(k->g), buf);
	if (!gguf_has_key(k->g, buf) && (v < lo || v > hi))
		return err_set(e, EX_DATAERR, "%s: %s is missing", gguf_get_path(k->g), buf);
	if (v < lo || v > hi)
		return err_set(e, EX_DATAERR, "%s: %s is %lld, outside %lld to %lld", gguf_get_path(k->g), buf,
		    (long long)v, (long long)lo, (long long)hi);
	*out = (int32_t)v;
	return 0;
}

/* A finite float within lo..hi, or the fallback. */
static int
get_float(const struct hyper_keys *k, const char *name, double fallback, double lo, double hi, double *out,
    struct err *e)
{
	char buf[KEY_SIZE];

	*out = fallback;
	if (!gguf_has_key(k->g, key(k, name, buf)))
		return 0;
	if (!gguf_get_float(k->g, buf, out) || !(*out >= lo && *out <= hi))
		return err_set(e, EX_DATAERR, "%s: %s is not a number from %g to %g", gguf_get_path(k->g), buf, lo, hi);
	return 0;
}

/* ALiBi slopes (Press et al. 2022); head counts that are no power of two interleave those of the next one. */
static int
make_slopes(struct hyper *h, double max_bias, struct err *e)
{
	int n = 1;

	while (n * 2 <= h->n_head)
		n *= 2;
	h->slopes = malloc((size_t)h->n_head * sizeof *h->slopes);
	if (h->slopes == NULL)
		return err_set(e, EX_OSERR, "out of memory for the ALiBi slopes");
	for (int i = 0; i < h->n_head; i++)
		h->slopes[i] = (float)(i < n ? pow(2, -max_bias * (i + 1) / n)
		                             : pow(2, -max_bias / 2 * (2 * (i - n) + 1) / n));
	return 0;
}

/* Did a converter write it that names the rotary bases otherwise? */
static bool
has_other_names(const struct hyper_keys *k)
{
	char buf[KEY_SIZE];

	return gguf_has_key(k->g, key(k, "rope.global.freq_base", buf));
}

/* A number under the name that most files use, or under another converter's. */
static int
get_float_or(const struct hyper_keys *k, const char *name, const char *other, double fallback, double lo, double hi,
    double *out, struct err *e)
{
	if (get_float(k, other, fallback, lo, hi, out, e) < 0)
		return -1;
	return get_float(k, name, *out, lo, hi, out, e);
}

static int
read_attention(struct hyper *h, const struct arch *a, const struct hyper_keys *k, struct err *e)
{
	double scale, softcap, final, clamp, bias;

	if (get_checked(k, "attention.head_count", 0, 1, max_heads, &h->n_head, e) < 0 ||
	    get_checked(k, "attention.head_count_kv", h->n_head, 1, h->n_head, &h->n_head_kv, e) < 0)
		return -1;
	if (h->n_head % h->n_head_kv != 0)
		return err_set(e, EX_DATAERR, "%s: %d attention heads do not share %d key-value heads evenly",
		    gguf_get_path(k->g), h->n_head, h->n_head_kv);
	if (get_checked(k, "attention.key_length", h->n_embd / h->n_head, 1, max_heads, &h->d_k, e) < 0 ||
	    get_checked(k, "attention.value_length", h->n_embd / h->n_head, 1, max_heads, &h->d_v, e) < 0)
		return -1;
	/* Gemma 3 27B alone scales by its width per head; its files do not say so. */
	scale = a->local_pattern > 0 && h->n_layer == 62 ? 1 / sqrt((double)h->n_embd / h->n_head)
	                                                 : 1 / sqrt((double)h->d_k);
	if (get_float(k, "attention.scale", scale, 1e-6, 1e3, &scale, e) < 0 ||
	    get_float(k, "attn_logit_softcapping", 0, 0, 1e6, &softcap, e) < 0 ||
	    get_float(k, "final_logit_softcapping", 0, 0, 1e6, &final, e) < 0 ||
	    get_float(k, "attention.clamp_kqv", 0, 0, 1e6, &clamp, e) < 0)
		return -1;
	if (a->alibi && get_float(k, "attention.max_alibi_bias", 8, 0, 1e3, &bias, e) < 0)
		return -1;
	if (a->local_pattern > 0 && final == WRONG_SOFTCAP && has_other_names(k))
		final = 0;
	h->attn_scale = (float)scale;
	h->attn_softcap = (float)softcap;
	h->final_softcap = (float)final;
	h->clamp_qkv = (float)clamp;
	return a->alibi ? make_slopes(h, bias, e) : 0;
}

int
hyper_read(struct hyper *h, const struct arch *a, const struct gguf *g, struct err *e)
{
	struct hyper_keys k = { g, a->name };
	const char *eps_name = a->norm == NORM_RMS ? "attention.layer_norm_rms_epsilon"
	    : "attention.layer_norm_epsilon";
	int64_t experts = 0;
	double eps;
	char buf[KEY_SIZE];

	if (hyper_get_int(&k, "expert_count", &experts, e) < 0)
		return -1;
	if (experts > 0)
		return err_set(e, EX_DATAERR, "%s: mixture-of-experts models are not supported", gguf_get_path(g));
	if (get_checked(&k, "block_count", 0, 1, max_layers, &h->n_layer, e) < 0 ||
	    get_checked(&k, "embedding_length", 0, 1, max_width, &h->n_embd, e) < 0 ||
	    get_checked(&k, "feed_forward_length", 0, 1, max_width, &h->n_ff, e) < 0 ||
	    get_checked(&k, "context_length", 0, 1, INT32_MAX, &h->n_ctx_train, e) < 0 ||
	    get_float(&k, eps_name, a->norm_eps, 0, 1, &eps, e) < 0 ||
	    read_attention(h, a, &k, e) < 0)
		return -1;
	if (a->norm_eps == 0 && !gguf_has_key(g, key(&k, eps_name, buf)))
		return err_set(e, EX_DATAERR, "%s: %s is missing", gguf_get_path(g), buf);
	h->norm = a->norm;
	h->norm_eps = (float)eps;
	h->act = a->act;
	h->parallel = a->residual == RESIDUAL_PARALLEL;
	if (a->residual == RESIDUAL_BY_KEY) {
		h->parallel = a->parallel_default;
		gguf_get_bool(g, key(&k, "use_parallel_residual", buf), &h->parallel);
	}
	h->embed_scale = a->scaled_embedding ? sqrtf((float)h->n_embd) : 1;
	return 0;
}

/* The scaling kind's name, with the old key of linear scaling. */
static int
read_scaling(const struct hyper_keys *k, const struct hyper *h, struct rope_params *p, struct err *e)
{
	char buf[KEY_SIZE], old[KEY_SIZE];
	struct gguf_string kind = { "none", 4 };
	int64_t original = h->n_ctx_train;

	if (get_float_or(k, "rope.scaling.factor", "rope.scale_linear", 1, 1e-3, 1e6, &p->factor, e) < 0 ||
	    get_float(k, "rope.scaling.attn_factor", 1, 1e-3, 1e3, &p->attn_factor, e) < 0 ||
	    get_float_or(k, "rope.scaling.yarn_beta_fast", "rope.scaling.beta_fast", 32, 1e-3, 1e6, &p->yarn_fast,
	    e) < 0 ||
	    get_float_or(k, "rope.scaling.yarn_beta_slow", "rope.scaling.beta_slow", 1, 1e-3, 1e6, &p->yarn_slow,
	    e) < 0)
		return -1;
	if (hyper_get_int(k, "rope.scaling.original_context_length", &original, e) < 0)
		return -1;
	p->yarn_original = (double)original;
	if (!gguf_get_string(k->g, key(k, "rope.scaling.type", buf), &kind)) {
		/* No kind: the old key alone means linear scaling. */
		if (!gguf_has_key(k->g, key(k, "rope.scale_linear", old)))
			p->factor = 1;
		return 0;
	}
#define KIND_IS(s) (kind.len == strlen(s) && memcmp(kind.data, (s), kind.len) == 0)
	if (KIND_IS("yarn"))
		p->yarn = true;
	else if (KIND_IS("none") || KIND_IS("longrope") || KIND_IS("llama3"))
		p->factor = 1; /* the last two scale by divisors that are tensors of the file */
	else if (!KIND_IS("linear"))
		return err_set(e, EX_DATAERR, "%s: rope scaling '%.*s' is not supported", gguf_get_path(k->g),
		    (int)(kind.len < 40 ? kind.len : 40), kind.data);
#undef KIND_IS
	if (p->yarn && !gguf_has_key(k->g, key(k, "rope.scaling.factor", buf)))
		return err_set(e, EX_DATAERR, "%s: %s is missing: YaRN scaling needs a factor", gguf_get_path(k->g),
		    buf);
	if (p->yarn && original <= 0)
		return err_set(e, EX_DATAERR, "%s: YaRN scaling without an original context length",
		    gguf_get_path(k->g));
	return 0;
}

int
hyper_read_rope(const struct hyper *h, const struct arch *a, const struct gguf *g, struct rope_params *global,
    struct rope_params *local, struct err *e)
{
	struct hyper_keys k = { g, a->name };
	struct rope_params p = { .style = a->rope, .factor = 1, .attn_factor = 1 };
	double local_base = 10000, base = a->rope_base > 0 ? a->rope_base : 10000;
	int32_t n_rot = 0;

	if (a->rope != ROPE_NONE) {
		if (get_checked(&k, "rope.dimension_count", h->d_k, 1, h->d_k, &n_rot, e) < 0)
			return -1;
		if (n_rot % 2 != 0)
			return err_set(e, EX_DATAERR, "%s: an odd number of rotated elements, %d", gguf_get_path(g),
			    n_rot);
		if (get_float_or(&k, "rope.freq_base", "rope.global.freq_base", base, 1 + 1e-6, 1e12, &p.base, e) < 0 ||
		    read_scaling(&k, h, &p, e) < 0)
			return -1;
		if (a->local_pattern > 0 && get_float_or(&k, "rope.freq_base_swa", "rope.local.freq_base", local_base,
		    1 + 1e-6, 1e12, &local_base, e) < 0)
			return -1;
	} else {
		p.base = 10000;
	}
	p.n_rot = n_rot;
	*global = p;
	/* Local layers keep the angles they were trained with: no context extension. */
	p.base = local_base;
	p.factor = 1;
	p.yarn = false;
	p.attn_factor = 1;
	*local = p;
	return 0;
}

/* ---- what is left ---------------------------------------------------- */

enum harmless_kind { ANY, ONLY, BELOW };

/* Keys that change nothing for a text model that is computed as here. */
static const struct harmless {
	const char *name;
	enum harmless_kind kind; /* any value; only this one; every key whose name begins so */
	double value;
} harmless[] = {
	{ "attention.causal", ONLY, 1 },
	{ "attention.layer_norm_epsilon", ANY, 0 }, /* of the norm that the architecture does not have */
	{ "attention.layer_norm_rms_epsilon", ANY, 0 },
	{ "audio.", BELOW, 0 },
	{ "embedding_scale", ONLY, 1 },
	{ "expert_used_count", ONLY, 0 },
	{ "logit_scale", ONLY, 1 },
	{ "mm.", BELOW, 0 },
	{ "nextn_predict_layers", ONLY, 0 },
	{ "pooling_type", ANY, 0 },
	{ "residual_scale", ONLY, 1 },
	{ "rope.scaling.extrapolation_factor", ONLY, 1 },
	{ "rope.scaling.finetuned", ANY, 0 },
	{ "rope.scaling.yarn_attn_factor", ONLY, 1 },
	{ "rope.scaling.yarn_ext_factor", ONLY, 1 },
	{ "rope.scaling.yarn_log_multiplier", ONLY, 0 },
	{ "tensor_data_layout", ANY, 0 },
	{ "use_parallel_residual", ONLY, 0 },
	{ "vision.", BELOW, 0 },
	{ "vocab_size", ANY, 0 },
};

/* The value of a key, whatever its kind. Returns false where it is no single number or truth value. */
static bool
get_number(const struct gguf *g, const char *name, double *value)
{
	int64_t i;
	bool b;

	if (gguf_get_float(g, name, value))
		return true;
	if (gguf_get_int(g, name, &i))
		*value = (double)i;
	else if (gguf_get_bool(g, name, &b))
		*value = b;
	else
		return false;
	return true;
}

static bool
is_harmless(const struct gguf *g, const char *full, const char *name)
{
	double value;

	for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
		const struct harmless *h = &harmless[i];

		if (h->kind == BELOW ? strncmp(name, h->name, strlen(h->name)) != 0 : strcmp(name, h->name) != 0)
			continue;
		if (h->kind != ONLY || (get_number(g, full, &value) && value == h->value))
			return true;
	}
	return false;
}

int
hyper_check_rest(const struct hyper_keys *k, struct err *e)
{
	char prefix[KEY_SIZE], full[KEY_SIZE];
	struct gguf_string name;
	size_t i = 0;

	key(k, "", prefix);
	while (gguf_next_unasked(k->g, prefix, &i, &name)) {
		snprintf(full, sizeof full, "%.*s", (int)(name.len < sizeof full ? name.len : sizeof full - 1),
		    name.data);
		if (!is_harmless(k->g, full, full + strlen(prefix)))
			return err_set(e, EX_DATAERR, "%s: the key %s is not known: without it the model would be "
			    "computed wrongly", gguf_get_path(k->g), full);
	}
	return 0;
}
