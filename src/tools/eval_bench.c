/* sinkeval bench: what a model costs on this machine; medians of rounds in which everything takes its turn. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/eval.h"
#include "tools/eval_peer.h"
#include "tools/eval_report.h"

struct values {
	struct eval_context c;
	int64_t rounds, prompt, generate, question, depth;
	char *measure, *caches, *text, *compare, *pattern;
	bool json;
};

static const struct option_row rows[] = {
	EVAL_CONTEXT_ROWS,
	{ "rounds", 'r', OPTION_INT, "count", offsetof(struct values, rounds), "5", 1, ROUNDS_MAX, NULL, 0,
	    "Take this many rounds. The results are medians over them. In each round every measure has "
	    "its turn." },
	{ "measure", 0, OPTION_STRING, "name,...", offsetof(struct values, measure), "all", 0, 0, NULL, 0,
	    "Take only these measures. none: take none." },
	{ "caches", 0, OPTION_STRING, "tokens,...", offsetof(struct values, caches), NULL, 0, 0, NULL, 0,
	    "Capacities at which a token read as a stream (policy sink, with the sinks of --sinks) is set against one "
	    "recomputed, or none. Without it 256,512,1024,2048,4096, and with --measure none." },
	{ "prompt", 0, OPTION_INT, "tokens", offsetof(struct values, prompt), "512", 1, 1 << 20, NULL, 0,
	    "Tokens read for a measure." },
	{ "generate", 'g', OPTION_INT, "tokens", offsetof(struct values, generate), "64", 1, 1 << 20, NULL, 0,
	    "Tokens generated for a measure." },
	{ "question", 0, OPTION_INT, "tokens", offsetof(struct values, question), "16", 1, 1 << 20, NULL, 0,
	    "Length of the question of the measure first-token." },
	{ "depth", 0, OPTION_INT, "tokens", offsetof(struct values, depth), "0", 0, INT32_MAX, NULL, 0,
	    "Tokens read before a measure behind a full window; 0: sinks and window together, or 1024 for the policy "
	    "dense." },
	{ "text", 0, OPTION_STRING, "file", offsetof(struct values, text), NULL, 0, 0, NULL, 0,
	    "Read this text, again and again, instead of random tokens." },
	{ "compare", 0, OPTION_STRING, "command", offsetof(struct values, compare), NULL, 0, 0, NULL, 0,
	    "Run this shell command in every round and compare the number that it prints with the one measure that "
	    "--measure names. The last number on the last line that has one counts." },
	{ "compare-pattern", 0, OPTION_STRING, "regex", offsetof(struct values, pattern), NULL, 0, 0, NULL, 0,
	    "Regular expression (PCRE2) for the number that --compare wants: its last match, or the first group of "
	    "that." },
	{ "json", 0, OPTION_FLAG, NULL, offsetof(struct values, json), NULL, 0, 0, NULL, 0,
	    "Write a JSON object instead of a table." },
	{ .name = NULL },
};

/* ---- options -------------------------------------------------------- */

/* The measures of a comma-separated list. */
static int
choose_measures(struct report *r, const char *list, struct err *e)
{
	char name[64];

	if (strcmp(list, "none") == 0)
		return 0;
	for (const struct measure *m = measures; strcmp(list, "all") == 0 && m->name != NULL; m++)
		r->chosen[r->n_chosen++] = m;
	if (r->n_chosen > 0)
		return 0;
	for (const char *p = list;; p++) {
		const struct measure *m = measures;
		size_t len = strcspn(p, ",");

		snprintf(name, sizeof name, "%.*s", (int)len, p);
		while (m->name != NULL && strcmp(m->name, name) != 0)
			m++;
		if (m->name == NULL)
			return err_set(e, EX_USAGE, "there is no measure '%s', see sinkeval(1)", name);
		if (r->n_chosen == MEASURES_MAX)
			return err_set(e, EX_USAGE, "--measure names more than %d measures", MEASURES_MAX);
		r->chosen[r->n_chosen++] = m;
		p += len;
		if (*p == '\0')
			return 0;
	}
}

static int
choose_caches(struct report *r, const char *list, int64_t sinks, struct err *e)
{
	if (strcmp(list, "none") == 0)
		return 0;
	for (const char *p = list;; p++) {
		char *end;
		long long n = strtoll(p, &end, 10);

		if (end == p || (*end != ',' && *end != '\0') || n <= sinks || n > 1 << 24)
			return err_set(e, EX_USAGE, "--caches needs capacities above the %lld sinks, not '%s'",
			    (long long)sinks, p);
		if (r->n_pairs == CACHES_MAX)
			return err_set(e, EX_USAGE, "--caches names more than %d capacities", CACHES_MAX);
		r->pairs[r->n_pairs++].cache = n;
		p = end;
		if (*p == '\0')
			return 0;
	}
}

static int64_t
count_sinks(const struct eval_context *o)
{
	return o->sinks >= 0 ? o->sinks : 4;
}

static int
choose_runs(struct report *r, const struct values *v, struct err *e)
{
	const char *caches = v->caches;

	if (v->c.policy == POLICY_RECOMPUTE)
		return err_set(e, EX_USAGE,
		    "bench compares the policy recompute with the stream by itself, see --caches");
	if (choose_measures(r, v->measure, e) < 0)
		return -1;
	if (caches == NULL)
		caches = strcmp(v->measure, "all") == 0 ? "256,512,1024,2048,4096" : "none";
	if (choose_caches(r, caches, count_sinks(&v->c), e) < 0)
		return -1;
	if (v->compare != NULL && r->n_chosen != 1)
		return err_set(e, EX_USAGE, "--compare needs --measure with one name");
	if (v->pattern != NULL && v->compare == NULL)
		return err_set(e, EX_USAGE, "--compare-pattern needs --compare");
	return 0;
}

/* ---- rounds --------------------------------------------------------- */

/* The peer may be NULL: nothing to compare with. */
static int
run_rounds(struct report *r, struct bench *b, struct peer *p, struct err *e)
{
	for (int i = 0; i < r->rounds; i++) {
		for (int j = 0; j < r->n_chosen; j++) {
			/* Memory is what a stream takes: before the buffer whose reading is the bandwidth. */
			if (i == 0 && strcmp(r->chosen[j]->name, "bandwidth") == 0)
				machine_get_memory(&r->memory);
			if (r->chosen[j]->run(b, &r->values[j][i], e) < 0)
				return -1;
			eval_progress(r->o, "measures", i * r->n_chosen + j, r->rounds * r->n_chosen);
		}
		if (p != NULL && peer_run(p, &r->peer[i], e) < 0)
			return -1;
	}
	eval_progress(r->o, "measures", 1, 1);
	if (r->memory.resident == 0)
		machine_get_memory(&r->memory);
	return 0;
}

/* A context with n tokens in it. NULL with *e set. */
static struct context *
new_full_context(struct bench *b, const struct eval_context *base, enum policy policy, int64_t sinks, int64_t n,
    struct err *e)
{
	struct eval_context o = *base;
	struct context *c;

	o.policy = (int)policy;
	o.sinks = sinks;
	o.window = n - sinks;
	c = eval_new_context(b->m, &o, 0, e);
	if (c != NULL && measures_read(b, c, n, NULL, e) < 0) {
		context_free(c);
		return NULL;
	}
	return c;
}

/* A token streamed and a token recomputed, in turn; short ones are repeated, as the clock is not endlessly fine. */
static int
run_pair(struct report *r, struct bench *b, struct pair *p, struct err *e)
{
	int64_t passes = p->cache < 1024 ? 1024 / p->cache : 1;
	struct context *stream, *recompute = NULL;
	int ok = 0;

	stream = new_full_context(b, r->o, POLICY_SINK, count_sinks(r->o), p->cache, e);
	if (stream != NULL)
		recompute = new_full_context(b, r->o, POLICY_RECOMPUTE, 0, p->cache, e);
	for (int i = 0; recompute != NULL && ok == 0 && i < r->rounds; i++) {
		ok = measures_generate(stream, 16, &p->stream[i], e);
		if (ok == 0)
			ok = measures_generate(recompute, passes, &p->recompute[i], e);
		eval_progress(r->o, "rounds of recomputation", i + 1, r->rounds);
	}
	context_free(recompute);
	context_free(stream);
	return recompute != NULL ? ok : -1;
}

/* ---- the command ---------------------------------------------------- */

/* The input: tokens of the text, or random ones. On the heap; NULL with *e set. */
static int32_t *
make_input(struct model *m, const struct values *v, int64_t *n, struct err *e)
{
	int32_t *ids;
	uint64_t seed = 1;

	if (v->text != NULL)
		return eval_read_tokens(m, v->text, n, e);
	*n = 4096;
	ids = malloc((size_t)*n * sizeof *ids);
	if (ids == NULL)
		err_set(e, EX_OSERR, "out of memory");
	for (int64_t i = 0; ids != NULL && i < *n; i++)
		ids[i] = (int32_t)eval_random_below(&seed, (uint64_t)model_get_info(m)->n_vocab);
	return ids;
}

static int
measure(struct report *r, struct bench *b, const struct values *v, FILE *out, struct err *e)
{
	struct peer *p = NULL;
	int ok = -1;

	if (v->compare == NULL || (p = peer_new(v->compare, v->pattern, e)) != NULL)
		ok = run_rounds(r, b, p, e);
	peer_free(p);
	for (int i = 0; ok == 0 && i < r->n_pairs; i++)
		ok = run_pair(r, b, &r->pairs[i], e);
	if (ok < 0)
		return -1;
	r->weight_bytes = model_get_info(b->m)->token_bytes;
	context_get_info(b->c, &r->ci);
	if (v->json)
		report_print_json(out, r, b->m, b->c);
	else
		report_print_table(out, r, b->m);
	return 0;
}

static int
run_bench(void *values, char **operands, FILE *out, struct err *e)
{
	struct values *v = values;
	struct report *r = calloc(1, sizeof *r);
	struct bench b = { .prompt = v->prompt, .generate = v->generate, .question = v->question, .depth = v->depth };
	int32_t *ids = NULL;
	int ok = -1;

	(void)operands;
	if (r == NULL)
		return err_set(e, EX_OSERR, "out of memory");
	r->o = &v->c;
	r->compare = v->compare;
	r->rounds = (int)v->rounds;
	if (choose_runs(r, v, e) == 0 && (b.m = eval_open_model(&v->c, 0, e)) != NULL &&
	    (ids = make_input(b.m, v, &b.n_ids, e)) != NULL &&
	    (b.c = eval_new_context(b.m, &v->c, (int32_t)v->question, e)) != NULL) {
		context_get_info(b.c, &r->ci);
		if (b.depth == 0)
			b.depth = r->ci.capacity > 0 ? r->ci.capacity : 1024;
		b.ids = ids;
		b.logits = malloc((size_t)model_get_info(b.m)->n_vocab * sizeof *b.logits);
		b.nll = malloc((size_t)v->prompt * sizeof *b.nll);
		if (b.logits != NULL && b.nll != NULL)
			ok = measure(r, &b, v, out, e);
		else
			err_set(e, EX_OSERR, "out of memory");
	}
	free(b.nll);
	free(b.logits);
	free(ids);
	context_free(b.c);
	model_close(b.m);
	free(r);
	return ok;
}

const struct eval_command eval_bench = {
	{ "sinkeval bench", NULL, "Speed and memory, streaming against recomputation and others.", rows },
	sizeof(struct values),
	run_bench,
};
