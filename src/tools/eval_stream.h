/*
 * A context with text going in and answers coming out, for the commands that
 * ask questions on a stream. Under the policy recompute tokens are only
 * remembered until logits are wanted, and then the last W are computed: the
 * same result without a pass for every token that nobody asks about.
 */
#ifndef SINKD_TOOLS_EVAL_STREAM_H
#define SINKD_TOOLS_EVAL_STREAM_H

#include "tools/eval.h"

struct eval_stream;

/*
 * A stream over a model, which must outlive it; empty but for a BOS token
 * where the model asks for one. Asides have room for fork_tokens tokens. NULL
 * with *e set.
 */
struct eval_stream *eval_stream_new(struct model *m, const struct eval_context *o, int32_t fork_tokens, struct err *e);
void eval_stream_free(struct eval_stream *s);

/* Begin again with an empty stream. */
int eval_stream_reset(struct eval_stream *s, struct err *e);

/* Borrowed. */
struct context *eval_stream_get_context(struct eval_stream *s);
struct tokenizer *eval_stream_get_tokenizer(struct eval_stream *s);

/* Tokens in the stream by now. */
int64_t eval_stream_count(const struct eval_stream *s);

int eval_stream_add(struct eval_stream *s, const int32_t *ids, int64_t n, struct err *e);

/* The same with the tokens of a text, flags: enum tokenizer_flags. Returns their number, or -1 with *e set. */
int64_t eval_stream_add_text(struct eval_stream *s, const char *text, size_t len, unsigned flags, struct err *e);

/* What is added after a fork is gone after the rewind. One fork at a time. */
int eval_stream_fork(struct eval_stream *s, struct err *e);
void eval_stream_rewind(struct eval_stream *s);

/* Logits after the last token, [n_vocab], the stream's own until its next call. NULL with *e set. */
const float *eval_stream_get_logits(struct eval_stream *s, struct err *e);

/* Add n tokens; *nll receives the sum of their scores in nats. */
int eval_stream_score(struct eval_stream *s, const int32_t *ids, int64_t n, double *nll, struct err *e);

/* Add the likeliest token and return it, or -1 with *e set. */
int32_t eval_stream_add_likeliest(struct eval_stream *s, struct err *e);

#endif
