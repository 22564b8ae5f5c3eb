/* Another program's speed, measured by its own word; see sinkeval bench --compare. */
#ifndef SINKD_TOOLS_EVAL_PEER_H
#define SINKD_TOOLS_EVAL_PEER_H

#include "base/err.h"

struct peer;

/*
 * A shell command that prints a number. pattern: a regular expression (PCRE2)
 * whose last match in the output is or, in its first group, holds the number;
 * NULL: the last number on the last line that has one counts. Both are
 * borrowed. NULL with *e set: EX_USAGE (the pattern).
 */
struct peer *peer_new(const char *command, const char *pattern, struct err *e);
void peer_free(struct peer *p);

/*
 * Run it to its end, its standard error passed through. Returns 0 with *value
 * set, or -1 with *e set: EX_UNAVAILABLE (it failed), EX_DATAERR (no number).
 */
int peer_run(struct peer *p, double *value, struct err *e);

#endif
