/*
 * The engine's one public header: a GGUF model, its tokenizer, and the
 * never-ending context of attention sinks plus a recent window (StreamingLLM,
 * Xiao et al. 2023, arXiv 2309.17453). The engine reads its files, never
 * prints and never exits; errors come back in a struct err.
 */
#ifndef SINKD_ENGINE_H
#define SINKD_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

struct model;
struct tokenizer;
struct context;

/* ---- model ---------------------------------------------------------- */

struct model_info {
	const char *path;         /* as given to model_open */
	const char *architecture; /* general.architecture */
	const char *name;         /* general.name, or "" */
	const char *weight_type;  /* the type that most of the weights have, e.g. "Q4_1" */
	const char *chat_template; /* the file's own template text, or NULL */
	int32_t n_vocab;
	int32_t n_layer;
	int32_t n_embd;
	int32_t n_ctx_train;      /* the context length it was trained with, tokens */
	int64_t n_params;
	/* of the weights that every token needs: all but an embedding that is only looked up */
	uint64_t token_bytes;
	uint64_t file_size;       /* bytes */
	int32_t bos;              /* token id, or -1 */
	int32_t eos;              /* token id, or -1 */
	bool add_bos;             /* the file asks for a BOS token at the start of a text */
};

enum model_flags {
	MODEL_VOCAB_ONLY = 1, /* read metadata and tokenizer; the file may lack weights */
};

/*
 * Open a GGUF file. It is mapped, not read; every offset, length, count and
 * type is checked. flags: enum model_flags.
 * Returns a model to be released with model_close, or NULL with *e set:
 * EX_NOINPUT (no such file), EX_DATAERR (damaged or unsupported), EX_OSERR.
 */
struct model *model_open(const char *path, unsigned flags, struct err *e);
void model_close(struct model *m);

/* Borrowed; valid until model_close. */
const struct model_info *model_get_info(const struct model *m);

/* A descriptor of the file that is mapped, whatever its name stands for by now. Borrowed; valid until model_close. */
int model_get_file(const struct model *m);

/* ---- tokenizer ------------------------------------------------------ */

enum tokenizer_flags {
	TOKENIZER_PARSE_SPECIAL = 1, /* the text of special tokens becomes those tokens */
};

/*
 * A tokenizer over the model's vocabulary, with scratch memory of its own:
 * one per thread. It borrows from the model, which must outlive it.
 * Returns NULL with *e set when the file's tokenizer is not supported
 * (EX_DATAERR, the sentence names it).
 */
struct tokenizer *tokenizer_new(const struct model *m, struct err *e);
void tokenizer_free(struct tokenizer *t);

/*
 * Encode len bytes of text. Nothing is added before or after (no BOS); text
 * of special tokens is plain text unless TOKENIZER_PARSE_SPECIAL is given.
 * Any bytes are accepted: text that is not UTF-8 is encoded too, and bytes the
 * vocabulary has no token for are dropped. text may contain NUL.
 * *ids is set to an array owned by the tokenizer, valid until its next call.
 * Returns the number of tokens (at most 2 * len + 1), or -1 with *e set
 * (EX_OSERR: no memory; EX_DATAERR: more than 500 MB at once).
 */
int64_t tokenizer_encode(struct tokenizer *t, const char *text, size_t len, unsigned flags, const int32_t **ids,
    struct err *e);

/*
 * The bytes that token id stands for, not NUL-terminated and not necessarily
 * whole UTF-8 characters; *len receives their number. Control and unknown
 * ids give 0 bytes unless special is set. first: the token is the first of a
 * text (some vocabularies drop a leading space there). Borrowed from the
 * tokenizer, valid until its next call.
 */
const char *tokenizer_decode(struct tokenizer *t, int32_t id, bool special, bool first, size_t *len);

/* ---- chat templates ------------------------------------------------- */

/*
 * How a model was taught to take turns: the texts that stand around what a
 * system prompt, a user and the assistant say. The template program that a
 * file carries is not run; it is recognised by what it contains.
 */
enum { CHAT_TEMPLATE_TEXT = 64, CHAT_TEMPLATE_STOPS = 3 };

/*
 * A conversation is: the system turn (if any), then user and assistant turns
 * by turns, each its prefix, what is said, its suffix. The reply to a user is
 * generated after the assistant's prefix. The texts name special tokens: encode
 * them with TOKENIZER_PARSE_SPECIAL. A BOS before all of it is not among them.
 */
struct chat_template {
	const char *name;       /* "chatml", "llama2", ..., "plain" */
	bool recognised;        /* false: the file has a template, but not one that is known, and plain is used */
	bool system_opens_user; /* the system turn is the start of the first user turn, which then has no prefix */
	char system_prefix[CHAT_TEMPLATE_TEXT], system_suffix[CHAT_TEMPLATE_TEXT];
	char user_prefix[CHAT_TEMPLATE_TEXT], user_suffix[CHAT_TEMPLATE_TEXT];
	char assistant_prefix[CHAT_TEMPLATE_TEXT], assistant_suffix[CHAT_TEMPLATE_TEXT];
	const char *stops[CHAT_TEMPLATE_STOPS + 1]; /* tokens that end a reply as EOS does; ends with NULL */
};

/*
 * Fill t from a file's template text, NULL or "" where it has none (plain, and
 * recognised), and the texts of its BOS and EOS tokens, "" where it has none.
 */
void chat_template_recognise(struct chat_template *t, const char *text, const char *bos, const char *eos);

/* ---- context -------------------------------------------------------- */

/*
 * Which earlier tokens a token attends to. S sinks, W window; token t sees
 *   sink       the tokens 0..S-1 and t-W+1..t
 *   window     t-W+1..t                                  (S = 0)
 *   dense      all of 0..t; memory grows with the stream
 *   recompute  t-W+1..t, all keys and values computed afresh for every token
 * Positions are positions in the cache: sink j is seen at distance
 * min(t, S+W-1) - j, tokens of the window at their true distance.
 */
enum policy { POLICY_SINK, POLICY_WINDOW, POLICY_DENSE, POLICY_RECOMPUTE };

/*
 * Number format of the cached keys and values. Auto is f32 where the weights
 * are F32 or F16; for other weights it is what the device multiplies fastest
 * without more loss than the weights' own products have (bf16 where those run
 * in bfloat16, else f32 on a CPU). On a GPU auto is f32 for F32 weights and
 * f16 for all others, bf16 is kept as f16, which has more digits, and heads of
 * more than 256 elements are always f32.
 */
enum kv_type { KV_AUTO, KV_F32, KV_F16, KV_BF16, KV_Q8_0 };

struct context_options {
	enum policy policy;
	int32_t sinks;       /* S >= 0; 0 unless policy is sink */
	int32_t window;      /* W >= 1; ignored for dense */
	int32_t block;       /* room for the pinned block, see context_pin; 0: none */
	int32_t chunk;       /* tokens computed at once, 0: the default; never changes a result */
	int32_t fork_tokens; /* room for tokens of a fork, see context_fork; 0: none */
	int32_t threads;     /* 0: one per processor this process may run on */
	enum kv_type kv;
	int64_t start;       /* stream position of the first token, normally 0 (a test moves it) */
	const char *path;    /* code path of the CPU, one of context_paths; NULL: "auto" */
	const char *device;  /* NULL or "auto": CUDA where it works and path is "auto", else the CPU; "cpu"; "cuda" */
	int32_t gpu;         /* number of the GPU */
	bool (*loading)(void *arg); /* called for each matrix of weights that was loaded; false: stop; may be NULL */
	void *loading_arg;
};

/*
 * The names of all code paths, built here or not. The first, "auto", stands for the best one that runs here. Ends
 * with NULL.
 */
extern const char *const context_paths[];

/* The names of enum policy, in its order, and of devices. Both end with NULL. */
extern const char *const context_policies[], *const context_devices[];

/* The default options: sink 4 + 1020, one thread per processor. */
void context_options_init(struct context_options *o);

/*
 * A context over a model, which must outlive it; all memory that the stream
 * needs is allocated here (dense: grows later). One thread at a time.
 * Returns NULL with *e set: EX_USAGE (options that cannot work with this
 * model, or a code path that is not there), EX_UNAVAILABLE (no such GPU, or no
 * module, driver for it), EX_OSERR (no memory), ERR_STOPPED (`loading` said stop).
 */
struct context *context_new(struct model *m, const struct context_options *o, struct err *e);
void context_free(struct context *c);

/*
 * Append n tokens to the stream. nll, if not NULL, receives for each token
 * its negative log-likelihood -ln p(token | what it attends to) in nats; the
 * very first token of a stream has none and gets NAN. Scores and state are
 * the same bits however a stream is split into calls (on a GPU: the same but
 * for the order of sums).
 * Returns 0, or -1 with *e set (EX_DATAERR: an id outside the vocabulary, and
 * nothing was appended; EX_OSERR: dense ran out of memory; EX_TEMPFAIL: the
 * GPU failed, now or in the call before, and the context is of no more use;
 * or a number is not finite, see context_is_broken).
 */
int context_feed(struct context *c, const int32_t *ids, size_t n, float *nll, struct err *e);

/* Begin a new stream: as if nothing had been fed yet. */
void context_reset(struct context *c);

/* The same as context_feed, but with the logits after each token: logits[n][n_vocab], float32. */
int context_feed_logits(struct context *c, const int32_t *ids, size_t n, float *logits, struct err *e);

/*
 * Logits after the last token appended, [n_vocab]. Returns 0, or -1 with *e
 * set (EX_SOFTWARE: nothing was appended yet).
 */
int context_get_logits(struct context *c, float *logits, struct err *e);

/* The token with the largest of these logits, the first one where several are: greedy decoding. Returns as above. */
int context_get_likeliest(struct context *c, int32_t *id, struct err *e);

/*
 * Whether what is fed next will as a rule be the token that
 * context_get_likeliest gave. A GPU then begins with it while its id is still
 * on the way to the caller, and does not rest between tokens. No result depends
 * on it; what was begun in vain is given up, which costs the time of a token.
 */
void context_expect_likeliest(struct context *c, bool expected);

/* The same token, of n logits that are there. */
int32_t logits_get_likeliest(const float *logits, int32_t n);

/*
 * Asides. context_fork remembers the stream's state; what is appended after
 * it (at most fork_tokens tokens) goes into spare slots; context_rewind
 * returns to the remembered state, bit-identical. One fork at a time.
 */
int context_fork(struct context *c, struct err *e);
void context_rewind(struct context *c);

/*
 * A fork may wait while the stream goes on, for any length and with forks and
 * pinned blocks of its own. context_suspend returns to the stream as
 * context_rewind does, and context_resume to the fork, which goes on as if
 * nothing had happened: what it sees is the stream as it was when it was
 * forked. One fork may wait at a time. context_rewind drops the fork that was
 * resumed or, where no fork is being fed, the one that waits. The first fork
 * that waits takes memory for keys and values once more, which is kept.
 * Returns 0, or -1 with *e set (EX_OSERR: no memory, the fork is still there;
 * EX_SOFTWARE: there is no such fork; EX_TEMPFAIL).
 */
int context_suspend(struct context *c, struct err *e);
int context_resume(struct context *c, struct err *e);

/*
 * What was appended to the fork becomes part of the stream. Returns false if
 * the fork has waited: the stream went on without it, so that it can only be
 * rewound, and its tokens appended again.
 */
bool context_keep(struct context *c);

/*
 * Put a block of n tokens between sinks and window, in place of the one that
 * was there (n = 0: none). It attends to the sinks and itself, at the cache
 * positions S .. S+n-1; everything that is fed afterwards sees it for ever,
 * and the window behind it. Costs the computing of n tokens; the last token's
 * logits stay.
 * Returns 0, or -1 with *e set (EX_DATAERR: more than `block` tokens, or an id
 * outside the vocabulary; EX_SOFTWARE: forked, or fewer tokens than sinks;
 * EX_TEMPFAIL).
 */
int context_pin(struct context *c, const int32_t *ids, size_t n, struct err *e);

/*
 * The whole state as a sequence of bytes. The same state gives the same bytes, wherever in the ring it lies and
 * whatever was asked in between. Returns 0, or -1 with *e set (EX_SOFTWARE:
 * forked; what `to` set; EX_OSERR; EX_TEMPFAIL).
 */
int context_save(struct context *c, const struct bytes_out *to, struct err *e);

/*
 * The state that context_save wrote. Bytes of another model, other options or a damaged head are refused, but what is
 * damaged further on is not noticed: check a sum first. With the same options
 * and code path all that follows is the same bits as without the interruption.
 * Returns 0, or -1 with *e set (EX_CONFIG: it was saved with other options;
 * EX_DATAERR, or what `from` set); the context is then as after context_reset.
 */
int context_load(struct context *c, const struct bytes_in *from, struct err *e);

/*
 * Did a function fail in a way that leaves the context without use? Either a logit, a score or a hidden row was not
 * finite: the sentence names the token, the layer and, where the file is at fault (EX_DATAERR), the tensor; else the
 * code is EX_TEMPFAIL. Or somebody wrote into the model's file (EX_IOERR).
 */
bool context_is_broken(const struct context *c);

struct context_info {
	int64_t tokens;    /* appended so far */
	int64_t evictions; /* tokens that no longer can be attended to */
	int32_t attended;  /* tokens that the next token can see, itself not included */
	int32_t pinned;    /* of these in the pinned block */
	int32_t capacity;  /* S + W, or 0 for dense */
	int32_t threads;
	int32_t chunk;     /* tokens computed at once */
	enum kv_type kv;
	uint64_t kv_bytes;       /* memory of keys and values */
	uint64_t kv_token_bytes; /* of these, the keys and values of one token in all layers */
	const char *path;  /* the code path or GPU in use */
	bool gpu;          /* it is a GPU */
};
void context_get_info(const struct context *c, struct context_info *info);

#endif
