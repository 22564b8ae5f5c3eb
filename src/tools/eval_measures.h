/*
 * What sinkeval bench measures of a model: each measure is a function that
 * takes one round of it. They run in the order of the table, which brings the
 * stream into the state that each names.
 */
#ifndef SINKD_TOOLS_EVAL_MEASURES_H
#define SINKD_TOOLS_EVAL_MEASURES_H

#include "engine/engine.h"

/* What the measures work on. */
struct bench {
	struct model *m;
	struct context *c;  /* with room for a fork of `question` tokens */
	const int32_t *ids; /* the input, repeated as needed */
	int64_t n_ids;      /* >= 1 */
	int64_t prompt;     /* tokens that are read for a measure */
	int64_t generate;   /* tokens that are generated */
	int64_t question;   /* tokens of a question */
	int64_t depth;      /* tokens read before a "full" measure */
	int64_t position;   /* where in ids the stream goes on */
	bool full;          /* the stream has at least depth tokens */
	float *logits;      /* [n_vocab] */
	float *nll;         /* [prompt] */
};

struct measure {
	const char *name, *unit, *about;
	/* One round: 0 with *value in `unit`, or -1 with *e set. */
	int (*run)(struct bench *b, double *value, struct err *e);
};

/* Ends with a name of NULL. */
extern const struct measure measures[];

/* Feed n tokens of the input; nll[n] receives their scores if it is not NULL. */
int measures_read(struct bench *b, struct context *c, int64_t n, float *nll, struct err *e);

/* Greedy decoding of n tokens; *seconds of one of them: choosing it, appending it, and the logits after it. */
int measures_generate(struct context *c, int64_t n, double *seconds, struct err *e);

#endif
