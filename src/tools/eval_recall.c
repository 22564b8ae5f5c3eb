/*
 * sinkeval recall: a StreamEval. A stream of numbered facts; every few lines a
 * question, on a fork, about the fact some lines back. The same seed gives the
 * same stream and the same questions under every policy.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/eval.h"
#include "tools/eval_stream.h"

enum { DISTANCES_MAX = 64, ANSWER_TOKENS = 16, QUESTION_TOKENS = 64 };

/*
 * A line has a number and a name, as small models hardly tell two numbers
 * apart. The question is the beginning of the line.
 */
static const char question_format[] = "line %lld %s-%s: REGISTER_CONTENT is <";
static const char answer_format[] = "%d>";
static const char *const first_names[] = {
	"amber", "blue", "brave", "calm", "clever", "dark", "dusty", "eager", "empty", "fancy", "fresh", "gentle",
	"green", "happy", "heavy", "icy", "iron", "jolly", "kind", "lazy", "mild", "noble", "odd", "proud",
	"quiet", "red", "silver", "tiny", "ugly", "vivid", "warm", "young",
};
static const char *const last_names[] = {
	"apple", "bear", "bread", "cat", "chair", "desk", "dog", "eagle", "egg", "fish", "flower", "fox", "garden",
	"goat", "horse", "ibis", "jay", "king", "lion", "mouse", "newt", "owl", "pig", "queen", "rabbit", "snake",
	"tiger", "uncle", "violin", "whale", "yak", "zebra",
};
enum { N_FIRST = sizeof first_names / sizeof *first_names, N_LAST = sizeof last_names / sizeof *last_names };

struct values {
	struct eval_context c;
	int64_t lines, every, seed;
	char *distances;
	bool json;
};

static const struct option_row rows[] = {
	EVAL_CONTEXT_ROWS,
	{ "lines", 0, OPTION_INT, "count", offsetof(struct values, lines), "1000", 1, 10000000, NULL, 0,
	    "Make a stream of this many lines, with one fact each." },
	{ "every", 0, OPTION_INT, "lines", offsetof(struct values, every), "2", 1, 1000000, NULL, 0,
	    "Ask each time after this many lines." },
	{ "distances", 0, OPTION_STRING, "lines,...", offsetof(struct values, distances),
	    "1,5,10,20,30,40,50,60,80,100,150,200", 0, 0, NULL, 0,
	    "Ask in turn for facts that are this many lines back. 1 is the last line." },
	{ "seed", 0, OPTION_INT, "number", offsetof(struct values, seed), "1", 0, INT64_MAX, NULL, 0,
	    "Start the random facts from this number." },
	{ "json", 0, OPTION_FLAG, NULL, offsetof(struct values, json), NULL, 0, 0, NULL, 0,
	    "Write a JSON object instead of a table." },
	{ .name = NULL },
};

/* Questions about facts at one distance. */
struct bucket {
	int64_t lines;
	int64_t asked, correct;
	int64_t tokens;  /* sum over the questions: from the fact's first token to the question's last */
	int64_t reached; /* questions whose fact the answer's last token could still attend to */
};

struct fact {
	uint8_t first, last; /* the line's name */
	int number;          /* from 10000 to 99999 */
	int64_t begin;       /* its first token's number in the stream */
};

struct recall {
	const struct values *v;
	struct eval_stream *s;
	struct bucket buckets[DISTANCES_MAX];
	int n_buckets;
	struct fact *facts; /* [lines] */
};

static int
parse_distances(struct recall *r, const char *list, struct err *e)
{
	for (const char *p = list;; p++) {
		char *end;
		long long n = strtoll(p, &end, 10);

		if (end == p || (*end != ',' && *end != '\0') || n < 1 || n > 10000000)
			return err_set(e, EX_USAGE, "--distances needs numbers of lines, not '%s'", p);
		if (r->n_buckets == DISTANCES_MAX)
			return err_set(e, EX_USAGE, "--distances names more than %d distances", DISTANCES_MAX);
		r->buckets[r->n_buckets++].lines = n;
		p = end;
		if (*p == '\0')
			return 0;
	}
}

/*
 * Greedy decoding until the text differs from the answer or holds all of it:
 * what would follow a wrong character cannot make it right. Returns whether
 * it is right, or -1 with *e set.
 */
static int
decode_answer(struct recall *r, const char *answer, struct err *e)
{
	size_t want = strlen(answer), have = 0;

	for (int i = 0; i < ANSWER_TOKENS && have < want; i++) {
		int32_t id = eval_stream_add_likeliest(r->s, e);
		const char *text;
		size_t len;

		if (id < 0)
			return -1;
		text = tokenizer_decode(eval_stream_get_tokenizer(r->s), id, false, false, &len);
		len = len < want - have ? len : want - have;
		if (strncmp(answer + have, text, len) != 0)
			return 0;
		have += len;
	}
	return have == want;
}

/* After `line` lines, ask for the fact of an earlier line. */
static int
ask_for_fact(struct recall *r, int64_t line, struct bucket *b, struct err *e)
{
	int64_t number = line - b->lines, tokens;
	const struct fact *f = &r->facts[number];
	char question[128], answer[16];
	int ok = -1;

	snprintf(question, sizeof question, question_format, (long long)number, first_names[f->first],
	    last_names[f->last]);
	snprintf(answer, sizeof answer, answer_format, f->number);
	if (eval_stream_fork(r->s, e) < 0)
		return -1;
	if (eval_stream_add_text(r->s, question, strlen(question), 0, e) > 0) {
		tokens = eval_stream_count(r->s) - f->begin;
		ok = decode_answer(r, answer, e);
		b->asked++;
		b->correct += ok > 0;
		b->tokens += tokens;
		b->reached += r->v->c.policy == POLICY_DENSE || tokens + (int64_t)strlen(answer) <= r->v->c.window;
	}
	eval_stream_rewind(r->s);
	return ok < 0 ? -1 : 0;
}

/* Draw the fact of a line and add the line to the stream. */
static int
tell_fact(struct recall *r, int64_t line, uint64_t *seed, struct err *e)
{
	struct fact *f = &r->facts[line];
	char text[160];
	int len;

	*f = (struct fact){ .first = (uint8_t)eval_random_below(seed, N_FIRST),
		.last = (uint8_t)eval_random_below(seed, N_LAST), .number = 10000 + (int)eval_random_below(seed, 90000),
		.begin = eval_stream_count(r->s) };
	len = snprintf(text, sizeof text, question_format, (long long)line, first_names[f->first], last_names[f->last]);
	len += snprintf(text + len, sizeof text - (size_t)len, answer_format, f->number);
	len += snprintf(text + len, sizeof text - (size_t)len, "\n");
	return eval_stream_add_text(r->s, text, (size_t)len, 0, e) < 0 ? -1 : 0;
}

static int
run_stream(struct recall *r, struct err *e)
{
	const struct values *v = r->v;
	uint64_t seed = (uint64_t)v->seed;
	int64_t turn = 0;

	for (int64_t line = 0; line < v->lines; line++) {
		if (tell_fact(r, line, &seed, e) < 0)
			return -1;
		if ((line + 1) % v->every == 0) {
			struct bucket *b = &r->buckets[turn++ % r->n_buckets];

			if (b->lines <= line + 1 && ask_for_fact(r, line + 1, b, e) < 0)
				return -1;
		}
		eval_progress(&v->c, "lines", line + 1, v->lines);
	}
	return 0;
}

static void
print_buckets(FILE *out, const struct recall *r)
{
	fprintf(out, "policy %s, window %lld, %lld lines\n\n%8s %8s %8s %8s %9s %8s\n",
	    context_policies[r->v->c.policy], (long long)r->v->c.window, (long long)r->v->lines, "lines", "tokens",
	    "asked",
	    "correct", "accuracy", "reached");
	for (int i = 0; i < r->n_buckets; i++) {
		const struct bucket *b = &r->buckets[i];
		double n = b->asked > 0 ? (double)b->asked : 1;

		fprintf(out, "%8lld %8.0f %8lld %8lld %9.3f %8lld\n", (long long)b->lines, (double)b->tokens / n,
		    (long long)b->asked, (long long)b->correct, (double)b->correct / n, (long long)b->reached);
	}
}

static void
print_buckets_json(FILE *out, const struct recall *r, const struct model *m)
{
	fputc('{', out);
	eval_print_head(out, m, &r->v->c, eval_stream_get_context(r->s));
	fprintf(out, "\"lines\":%lld,\"every\":%lld,\"seed\":%lld,\"distances\":[", (long long)r->v->lines,
	    (long long)r->v->every, (long long)r->v->seed);
	for (int i = 0; i < r->n_buckets; i++) {
		const struct bucket *b = &r->buckets[i];
		double n = b->asked > 0 ? (double)b->asked : 1;

		fprintf(out, "%s{\"lines\":%lld,\"tokens\":%.1f,\"asked\":%lld,\"correct\":%lld,\"accuracy\":%.4f,"
		    "\"reached\":%lld}", i > 0 ? "," : "", (long long)b->lines, (double)b->tokens / n,
		    (long long)b->asked, (long long)b->correct, (double)b->correct / n, (long long)b->reached);
	}
	fputs("]}\n", out);
}

static int
run_recall(void *values, char **operands, FILE *out, struct err *e)
{
	struct values *v = values;
	struct recall *r = calloc(1, sizeof *r);
	struct model *m = NULL;
	int ok = -1;

	(void)operands;
	if (r == NULL)
		return err_set(e, EX_OSERR, "out of memory");
	r->v = v;
	r->facts = calloc((size_t)v->lines, sizeof *r->facts);
	if (r->facts == NULL)
		err_set(e, EX_OSERR, "out of memory for %lld lines", (long long)v->lines);
	else if (parse_distances(r, v->distances, e) == 0 && (m = eval_open_model(&v->c, 0, e)) != NULL &&
	    (r->s = eval_stream_new(m, &v->c, QUESTION_TOKENS + ANSWER_TOKENS, e)) != NULL)
		ok = run_stream(r, e);
	if (ok == 0 && v->json)
		print_buckets_json(out, r, m);
	else if (ok == 0)
		print_buckets(out, r);
	eval_stream_free(r->s);
	model_close(m);
	free(r->facts);
	free(r);
	return ok;
}

const struct eval_command eval_recall = {
	{ "sinkeval recall", NULL, "StreamEval: accuracy of recalling facts by their distance in the stream.", rows },
	sizeof(struct values),
	run_recall,
};
