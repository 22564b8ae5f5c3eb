/* What sinkeval bench has measured, and how it is written down. */
#ifndef SINKD_TOOLS_EVAL_REPORT_H
#define SINKD_TOOLS_EVAL_REPORT_H

#include "tools/eval.h"
#include "tools/eval_machine.h"
#include "tools/eval_measures.h"

enum { MEASURES_MAX = 16, CACHES_MAX = 16, ROUNDS_MAX = 100 };

/* A capacity: seconds a token, streamed and recomputed. */
struct pair {
	int64_t cache;
	double stream[ROUNDS_MAX], recompute[ROUNDS_MAX];
};

struct report {
	const struct eval_context *o;
	const char *compare; /* the other program's command, or NULL */
	int rounds;
	const struct measure *chosen[MEASURES_MAX];
	double values[MEASURES_MAX][ROUNDS_MAX];
	int n_chosen;
	struct pair pairs[CACHES_MAX];
	int n_pairs;
	double peer[ROUNDS_MAX];
	struct machine_memory memory;
	uint64_t weight_bytes; /* read for each token */
	struct context_info ci;
};

/* As a table and as a JSON object. */
void report_print_table(FILE *out, const struct report *r, const struct model *m);
void report_print_json(FILE *out, const struct report *r, const struct model *m, const struct context *c);

#endif
