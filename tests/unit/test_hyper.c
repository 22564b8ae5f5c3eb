/* Hyperparameters: each converter's names are read, and what would be ignored is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/hyper.h"
#include "gguf_build.h"

struct pair {
	const char *name;
	double value;
	uint32_t type; /* GGUF_U32, GGUF_F32 or GGUF_BOOL */
};

static struct build b;
static struct err err;

/* A head with the least that the architecture needs, and n more keys. */
static struct gguf *
make(const char *arch, const struct pair *more, size_t n, void **copy)
{
	static const struct pair least[] = {
		{"block_count", 4, GGUF_U32}, {"embedding_length", 64, GGUF_U32}, {"feed_forward_length", 64, GGUF_U32},
		{"context_length", 512, GGUF_U32}, {"attention.head_count", 4, GGUF_U32},
	};
	size_t n_least = sizeof least / sizeof *least;
	char name[128];

	put_header(&b, 0, n_least + n);
	for (size_t i = 0; i < n_least + n; i++) {
		const struct pair *p = i < n_least ? &least[i] : &more[i - n_least];

		snprintf(name, sizeof name, "%s.%s", arch, p->name);
		put_key(&b, name, p->type);
		if (p->type == GGUF_U32)
			put_u32(&b, (uint32_t)p->value);
		else if (p->type == GGUF_BOOL)
			put_u8(&b, p->value != 0);
		else
			put_f32(&b, (float)p->value);
	}
	put_data(&b, 32, 0);
	struct gguf *g = open_build(&b, b.n, copy, &err);
	if (g == NULL)
		fail_msg("%s", err.text);
	return g;
}

struct all {
	struct hyper h;
	struct rope_params global, local;
};

/* Read all of it. Returns 0, or -1 with err set. */
static int
read_all(const char *name, const struct pair *more, size_t n, struct all *a)
{
	const struct arch *arch = arch_find(name);
	void *copy;
	struct gguf *g = make(name, more, n, &copy);
	struct hyper_keys k = {g, name};
	int64_t window;
	int rc;

	memset(a, 0, sizeof *a);
	memset(&err, 0, sizeof err);
	rc = hyper_read(&a->h, arch, g, &err) < 0 || hyper_read_rope(&a->h, arch, g, &a->global, &a->local, &err) < 0 ||
	    hyper_get_int(&k, "attention.sliding_window", &window, &err) < 0 || hyper_check_rest(&k, &err) < 0 ? -1 : 0;
	free(a->h.slopes);
	gguf_close(g);
	free(copy);
	return rc;
}

static void
refuse(const char *arch, const struct pair *more, size_t n, const char *object)
{
	struct all a;

	assert_int_equal(read_all(arch, more, n, &a), -1);
	assert_int_equal(err.code, EX_DATAERR);
	if (strstr(err.text, object) == NULL)
		fail_msg("'%s' does not name '%s'", err.text, object);
}

static void
test_unknown_keys_are_refused_by_name(void **state)
{
	static const struct pair eps = {"attention.layer_norm_rms_epsilon", 1e-5, GGUF_F32};
	static const struct pair wrong[] = {
		{"logit_scale", 0.5, GGUF_F32}, {"embedding_scale", 12, GGUF_F32}, {"residual_scale", 0.25, GGUF_F32},
		{"attention.temperature_scale", 0.1, GGUF_F32}, {"attention.causal", 0, GGUF_BOOL},
		{"attention.sliding_window_pattern", 4, GGUF_U32}, {"rope.freq_base_swa", 5000, GGUF_F32},
		{"rope.scaling.yarn_log_multiplier", 0.1, GGUF_F32}, {"use_parallel_residual", 1, GGUF_BOOL},
		{"what_comes_next_year", 1, GGUF_U32}, {"attention.max_alibi_bias", 8, GGUF_F32},
	};
	static const struct pair right[] = {
		{"logit_scale", 1, GGUF_F32}, {"attention.causal", 1, GGUF_BOOL}, {"vocab_size", 77, GGUF_U32},
		{"rope.scaling.finetuned", 1, GGUF_BOOL}, {"vision.block_count", 27, GGUF_U32},
		{"mm.tokens_per_image", 256, GGUF_U32}, {"expert_used_count", 0, GGUF_U32},
		{"use_parallel_residual", 0, GGUF_BOOL}, {"attention.layer_norm_epsilon", 1e-5, GGUF_F32},
	};
	struct all a;

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		refuse("llama", (struct pair[]){eps, wrong[i]}, 2, wrong[i].name);
	for (size_t i = 0; i < sizeof right / sizeof *right; i++)
		if (read_all("llama", (struct pair[]){eps, right[i]}, 2, &a) < 0)
			fail_msg("%s", err.text);
}

static void
test_what_a_file_must_say(void **state)
{
	(void)state;
	refuse("llama", NULL, 0, "llama.attention.layer_norm_rms_epsilon is missing");
	refuse("gptneox", NULL, 0, "gptneox.attention.layer_norm_epsilon is missing");
}

static void
test_yarn_needs_a_factor(void **state)
{
	const struct arch *arch = arch_find("llama");
	struct rope_params global, local;
	struct hyper h = {.d_k = 16, .n_ctx_train = 512};
	void *copy;

	(void)state;
	for (int with = 0; with < 2; with++) {
		put_header(&b, 0, 1 + (uint64_t)with);
		put_string_key(&b, "llama.rope.scaling.type", "yarn");
		if (with) {
			put_key(&b, "llama.rope.scaling.factor", GGUF_F32);
			put_f32(&b, 4);
		}
		put_data(&b, 32, 0);
		struct gguf *g = open_build(&b, b.n, &copy, &err);
		assert_non_null(g);
		assert_int_equal(hyper_read_rope(&h, arch, g, &global, &local, &err), with ? 0 : -1);
		if (!with)
			assert_non_null(strstr(err.text, "llama.rope.scaling.factor is missing"));
		gguf_close(g);
		free(copy);
	}
	assert_true(global.yarn && global.factor == 4);
}

/* Ollama's converter names the rotary bases otherwise, leaves out what is always the same, and adds a cap. */
static void
test_gemma_3_of_both_converters(void **state)
{
	static const struct pair one[] = {
		{"attention.layer_norm_rms_epsilon", 1e-6, GGUF_F32}, {"rope.freq_base", 2e6, GGUF_F32},
		{"rope.freq_base_swa", 3e4, GGUF_F32},
	};
	static const struct pair other[] = {
		{"rope.global.freq_base", 2e6, GGUF_F32}, {"rope.local.freq_base", 3e4, GGUF_F32},
		{"final_logit_softcapping", 30, GGUF_F32},
	};
	static const struct pair capped[] = {{"final_logit_softcapping", 30, GGUF_F32}};
	struct all a, z;

	(void)state;
	if (read_all("gemma3", one, 3, &a) < 0 || read_all("gemma3", other, 3, &z) < 0)
		fail_msg("%s", err.text);
	assert_true(a.global.base == 2e6 && a.local.base == 3e4);
	assert_true(z.global.base == 2e6 && z.local.base == 3e4);
	assert_true(a.h.norm_eps == z.h.norm_eps && a.h.final_softcap == 0 && z.h.final_softcap == 0);
	assert_int_equal(read_all("gemma3", capped, 1, &z), 0);
	assert_true(z.h.final_softcap == 30 && z.global.base == 1e6 && z.local.base == 1e4);
	assert_true(z.h.norm_eps == a.h.norm_eps);
}

static void
test_local_layers_one_by_one(void **state)
{
	static const char wrong[] = {1, 0, 1};
	void *copy;
	bool local[4];

	(void)state;
	for (int n = 3; n <= 4; n++) {
		put_header(&b, 0, 1);
		put_array(&b, "gemma3.attention.sliding_window_pattern", GGUF_BOOL, (uint64_t)n);
		put(&b, wrong, 3);
		if (n == 4)
			put_u8(&b, 1);
		put_data(&b, 32, 0);
		struct gguf *g = open_build(&b, b.n, &copy, &err);
		assert_non_null(g);
		struct hyper_keys k = {g, "gemma3"};
		assert_int_equal(hyper_get_local_layers(&k, 4, local, &err), n == 4 ? 1 : -1);
		gguf_close(g);
		free(copy);
	}
	assert_true(local[0] && !local[1] && local[2] && local[3]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unknown_keys_are_refused_by_name),
		cmocka_unit_test(test_what_a_file_must_say),
		cmocka_unit_test(test_yarn_needs_a_factor),
		cmocka_unit_test(test_gemma_3_of_both_converters),
		cmocka_unit_test(test_local_layers_one_by_one),
	};

	return cmocka_run_group_tests_name("hyper", tests, NULL, NULL);
}
