/*
 * What to say when a number came out that is not finite: which token, which
 * layer, which tensor. Looks for it by computing the tokens once more, which
 * is slow and leaves the context without use.
 */
#ifndef SINKD_ENGINE_FAULT_H
#define SINKD_ENGINE_FAULT_H

#include "engine/context.h"

/* The tokens of the forward pass that failed, as forward_run was given them. */
struct fault_pass {
	const int32_t *ids;
	int n;             /* may be more than a chunk, and 0: there is nothing to be computed again */
	int64_t first, start;
	int rows[2];       /* [from, to): hidden rows that logits or scores were made of, see forward_score */
	int before_row;    /* the hidden row of the token before ids[0] */
	int32_t before;    /* the token before these, or -1: not known */
	int64_t number;    /* of the first token, in what the sentence calls `of` */
	const char *of;
};

/*
 * Find the first token with a number that is not finite, and mark the context
 * as broken. Returns -1 with *e set: EX_DATAERR (the model's file is at fault,
 * or its numbers overflow), EX_TEMPFAIL (the device or the machine is).
 */
int fault_report(struct context *c, const struct fault_pass *p, struct err *e);

#endif
