/* The architectures this engine computes, as data; see arch.h. */
#include "engine/arch.h"

#include <string.h>

static const struct arch archs[] = {
	{ .name = "falcon", .norm = NORM_LAYER, .act = ACT_GELU, .rope = ROPE_HALVES, .residual = RESIDUAL_PARALLEL },
	{ .name = "gemma3", .norm = NORM_RMS, .act = ACT_GELU_TANH, .gated = true, .rope = ROPE_HALVES, .qk_norm = true,
	    .post_norm = true, .scaled_embedding = true, .norm_eps = 1e-6, .rope_base = 1e6, .local_pattern = 6 },
	{ .name = "gptneox", .norm = NORM_LAYER, .act = ACT_GELU, .rope = ROPE_HALVES, .residual = RESIDUAL_BY_KEY,
	    .parallel_default = true },
	{ .name = "llama", .norm = NORM_RMS, .act = ACT_SILU, .gated = true, .rope = ROPE_PAIRS },
	{ .name = "mpt", .norm = NORM_LAYER, .act = ACT_GELU, .rope = ROPE_NONE, .alibi = true },
	{ .name = "phi3", .norm = NORM_RMS, .act = ACT_SILU, .gated = true, .rope = ROPE_HALVES },
	{ .name = "qwen2", .norm = NORM_RMS, .act = ACT_SILU, .gated = true, .rope = ROPE_HALVES },
	{ .name = "qwen3", .norm = NORM_RMS, .act = ACT_SILU, .gated = true, .rope = ROPE_HALVES, .qk_norm = true },
	{ .name = "stablelm", .norm = NORM_LAYER, .act = ACT_SILU, .gated = true, .rope = ROPE_HALVES,
	    .residual = RESIDUAL_BY_KEY },
};

const struct arch *
arch_find(const char *name)
{
	for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++)
		if (strcmp(archs[i].name, name) == 0)
			return &archs[i];
	return NULL;
}

const char *
arch_names(void)
{
	return "falcon, gemma3, gptneox, llama, mpt, phi3, qwen2, qwen3, stablelm";
}
