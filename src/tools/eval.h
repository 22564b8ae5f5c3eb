/* What sinkeval's subcommands share: options of model and context, input files, JSON output. */
#ifndef SINKD_TOOLS_EVAL_H
#define SINKD_TOOLS_EVAL_H

#include <stdio.h>

#include "base/options.h"
#include "engine/engine.h"

/* A subcommand: its options, and the work once they are parsed. Both print nothing but results to out. */
struct eval_command {
	struct options options;
	size_t values_size;
	/* Returns 0, or -1 with *e set; operands are the argv entries after the options, NULL-terminated. */
	int (*run)(void *values, char **operands, FILE *out, struct err *e);
};

extern const struct eval_command eval_bench, eval_chat, eval_logits, eval_ppl, eval_qa, eval_recall, eval_tokenize;

/* Model and context as options; the first member of every subcommand's values. */
struct eval_context {
	char *model;
	int policy; /* enum policy */
	int64_t sinks, window, chunk, threads, start;
	int kv; /* enum kv_type */
	int path;
	int device;
	int64_t gpu;
	bool quiet;
};

/* The rows for it, for the head of a table of options. */
#define EVAL_MODEL_ROWS \
	{ "model", 'm', OPTION_STRING, "file", offsetof(struct eval_context, model), NULL, 0, 0, NULL, 0, \
	    "GGUF file of the model. Without it the default model is used, see sinkd-fetch-model(1)." }, \
	{ "quiet", 'q', OPTION_FLAG, NULL, offsetof(struct eval_context, quiet), NULL, 0, 0, NULL, 0, \
	    "Show no progress line on the terminal." }
#define EVAL_CONTEXT_ROWS \
	EVAL_MODEL_ROWS, \
	{ "policy", 'p', OPTION_CHOICE, "policy", offsetof(struct eval_context, policy), "sink", 0, 0, \
	    context_policies, 0, \
	    "What a token attends to: the sinks and the window, the window only, all tokens, or a window whose keys " \
	    "and values are computed afresh for every token." }, \
	{ "sinks", 's', OPTION_INT, "tokens", offsetof(struct eval_context, sinks), "-1", -1, INT32_MAX, NULL, 0, \
	    "Tokens at the beginning of the stream that are kept for ever; -1 stands for 4 with the policy sink and " \
	    "0 with the others." }, \
	{ "window", 'w', OPTION_INT, "tokens", offsetof(struct eval_context, window), "1020", 0, INT32_MAX, NULL, 0, \
	    "Most recent tokens that are attended to, the newest included. The policy dense ignores it." }, \
	{ "chunk", 0, OPTION_INT, "tokens", offsetof(struct eval_context, chunk), "0", 0, INT32_MAX, NULL, 0, \
	    "Tokens computed at once, 0 for the default. On a CPU it never changes a result." }, \
	{ "threads", 't', OPTION_INT, "threads", offsetof(struct eval_context, threads), "0", 0, 1024, NULL, 0, \
	    "Threads of the computation, 0 for one per processor. It never changes a result." }, \
	{ "kv", 0, OPTION_CHOICE, "type", offsetof(struct eval_context, kv), "auto", 0, 0, eval_kv_types, 0, \
	    "Number format of the cached keys and values. Auto: f32 for models whose weights are F32 or F16, for " \
	    "others bf16 where the processor multiplies it, else f32; on a GPU f32 for F32 and f16 for all others." }, \
	{ "path", 0, OPTION_CHOICE, "path", offsetof(struct eval_context, path), "auto", 0, 0, context_paths, 0, \
	    "Code path of the CPU. Auto: the fastest that the processor runs." }, \
	{ "device", 0, OPTION_CHOICE, "device", offsetof(struct eval_context, device), "auto", 0, 0, context_devices, \
	    0, \
	    "What computes. Auto: a GPU where the CUDA module and its driver find one with enough memory, unless " \
	    "--path is given, else the CPU." }, \
	{ "gpu", 0, OPTION_INT, "number", offsetof(struct eval_context, gpu), "0", 0, 1024, NULL, 0, \
	    "Use the GPU with this number if there are several." }, \
	{ "start", 0, OPTION_INT, "position", offsetof(struct eval_context, start), "0", 0, INT64_MAX / 2, NULL, 0, \
	    "Stream position of the first token; for tests of far positions." }

extern const char *const eval_kv_types[];

/* Open the model that the options name, or the default one. NULL with *e set. */
struct model *eval_open_model(const struct eval_context *o, unsigned flags, struct err *e);

/* The context that the options describe, with room for a fork of so many tokens. NULL with *e set. */
struct context *eval_new_context(struct model *m, const struct eval_context *o, int32_t fork_tokens, struct err *e);

/* The whole file at path ("-": standard input), NUL-terminated, on the heap; *len without the NUL. NULL with *e set. */
char *eval_read_file(const char *path, size_t *len, struct err *e);

/* The tokens of the text in a file, on the heap; nothing is added. At least one, or NULL with *e set. */
int32_t *eval_read_tokens(const struct model *m, const char *path, int64_t *n, struct err *e);

/* The one operand that a command wants, called `what` in the message; NULL with *e set (EX_USAGE). */
const char *eval_operand(char **operands, const char *what, struct err *e);

/* A JSON string with its quotes; what is not UTF-8 becomes U+FFFD. */
void eval_print_string(FILE *out, const char *s);

/* The members that head every result, "model" to "threads": what was computed and how, each with a comma. */
void eval_print_head(FILE *out, const struct model *m, const struct eval_context *o, const struct context *c);

/* The next number of random_next's sequence, from 0 to below - 1. */
uint64_t eval_random_below(uint64_t *state, uint64_t below);

/* A progress line on a terminal's standard error: done of all, with a rate; done == all erases it. */
void eval_progress(const struct eval_context *o, const char *what, int64_t done, int64_t all);

#endif
