/* Multiple-choice questions from JSON lines {"query", "choices", "gold"}; see sinkeval qa. */
#ifndef SINKD_TOOLS_EVAL_QUESTIONS_H
#define SINKD_TOOLS_EVAL_QUESTIONS_H

#include <stdint.h>

#include "base/err.h"

enum { CHOICES_MAX = 26 };

struct question {
	char *query;
	char *choices[CHOICES_MAX]; /* none is empty */
	int n_choices;              /* >= 2 */
	int gold;                   /* index of the right one */
};

struct questions {
	struct question *q;
	int64_t n, limit;
};

/*
 * Read at most `limit` questions from the file at path ("-": standard input).
 * Release with questions_free in every case. Returns 0, or -1 with *e set: the
 * errors of lines_read (eval_lines.h), and EX_DATAERR when there is none.
 */
int questions_read(struct questions *all, const char *path, int64_t limit, struct err *e);
void questions_free(struct questions *all);

#endif
