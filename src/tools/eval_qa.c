/*
 * sinkeval qa: multiple-choice questions in one endless stream, each answered
 * on a fork before its answer joins the stream; and the same questions one at
 * a time, each in a stream of its own.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tools/eval.h"
#include "tools/eval_questions.h"
#include "tools/eval_stream.h"

enum mode { MODE_BOTH, MODE_STREAM, MODE_SINGLE };
static const char *const modes[] = { "both", "stream", "single", NULL };

/* A line with a letter needs no more. */
enum { LETTER_TOKENS = 8 };

struct values {
	struct eval_context c;
	int64_t questions;
	int mode;
	bool exact, own, json;
};

static const struct option_row rows[] = {
	EVAL_CONTEXT_ROWS,
	{ "questions", 'n', OPTION_INT, "count", offsetof(struct values, questions), "0", 0, INT64_MAX, NULL, 0,
	    "Ask only this many questions. 0: all." },
	{ "mode", 0, OPTION_CHOICE, "mode", offsetof(struct values, mode), "both", 0, 0, modes, 0,
	    "stream: ask all questions in one stream; single: ask each in a stream of its own; both: do "
	    "the one and then the other." },
	{ "exact", 0, OPTION_FLAG, NULL, offsetof(struct values, exact), NULL, 0, 0, NULL, 0,
	    "List the choices with letters. An answer is right if the line that greedy decoding gives "
	    "begins with the right letter, and no letter or digit follows. Without this option the answer "
	    "is the choice with the least nll per byte of its text." },
	{ "own", 0, OPTION_FLAG, NULL, offsetof(struct values, own), NULL, 0, 0, NULL, 0,
	    "Let the model's own answer join the stream, not the right one." },
	{ "json", 0, OPTION_FLAG, NULL, offsetof(struct values, json), NULL, 0, 0, NULL, 0,
	    "Write a JSON object instead of a table." },
	{ .name = NULL },
};

struct result {
	const char *name;
	int64_t asked, correct;
	int64_t tokens; /* of the stream, or of all streams together */
};

struct qa {
	const struct values *v;
	struct eval_stream *s;
	struct questions all;
	struct buf text; /* scratch: the question as it is asked, and more */
};

/* The question as the model reads it, up to where the answer begins. */
static void
write_question(struct qa *a, const struct question *q)
{
	buf_clear(&a->text);
	buf_printf(&a->text, "%s\n", q->query);
	for (int i = 0; a->v->exact && i < q->n_choices; i++)
		buf_printf(&a->text, "%c. %s\n", 'A' + i, q->choices[i]);
	buf_add_text(&a->text, "Answer:");
}

/* What follows "Answer: " for a choice. */
static void
write_choice(const struct qa *a, const struct question *q, int choice, struct buf *to)
{
	if (a->v->exact)
		buf_printf(to, " %c", 'A' + choice);
	else
		buf_printf(to, " %s", q->choices[choice]);
}

/*
 * Score of a choice in nats per byte. Its tokens are those that it has behind
 * the question, whose own n are left out.
 */
static int
score_choice(struct qa *a, const struct question *q, int choice, int64_t n, double *score, struct err *e)
{
	size_t len = a->text.len;
	const int32_t *ids;
	int64_t all;
	int r;

	write_choice(a, q, choice, &a->text);
	if (a->text.failed)
		return err_set(e, EX_OSERR, "out of memory");
	all = tokenizer_encode(eval_stream_get_tokenizer(a->s), a->text.data, a->text.len, 0, &ids, e);
	a->text.len = len;
	if (all < 0 || eval_stream_fork(a->s, e) < 0)
		return -1;
	r = eval_stream_score(a->s, ids + n, all - n, score, e);
	eval_stream_rewind(a->s);
	*score /= (double)strlen(q->choices[choice]);
	return r;
}

static int
choose_likeliest(struct qa *a, const struct question *q, int64_t n, struct err *e)
{
	double best = INFINITY, score;
	int choice = 0;

	for (int i = 0; i < q->n_choices; i++) {
		if (score_choice(a, q, i, n, &score, e) < 0)
			return -1;
		if (score < best) {
			best = score;
			choice = i;
		}
	}
	return choice;
}

/* The letter that a line begins with, as an index; n_choices if it begins with none. */
static int
parse_letter(const char *line, int n_choices)
{
	line += strspn(line, " ");
	if (line[0] < 'A' || line[0] >= 'A' + n_choices || isalnum((unsigned char)line[1]))
		return n_choices;
	return line[0] - 'A';
}

static int
choose_greedily(struct qa *a, const struct question *q, struct err *e)
{
	char line[256] = "";
	size_t have = 0;
	int32_t id = 0;

	if (eval_stream_fork(a->s, e) < 0)
		return -1;
	for (int i = 0; i < LETTER_TOKENS && id >= 0 && strchr(line, '\n') == NULL; i++) {
		const char *text;
		size_t len;

		id = eval_stream_add_likeliest(a->s, e);
		if (id < 0)
			break;
		text = tokenizer_decode(eval_stream_get_tokenizer(a->s), id, false, false, &len);
		have += (size_t)snprintf(line + have, sizeof line - have, "%.*s", (int)(len < 16 ? len : 16), text);
	}
	eval_stream_rewind(a->s);
	return id < 0 ? -1 : parse_letter(line, q->n_choices);
}

/* Ask a question, which stays in the stream. The answer chosen, n_choices for none of them, or -1 with *e set. */
static int
ask_question(struct qa *a, const struct question *q, struct err *e)
{
	int64_t n;

	write_question(a, q);
	if (a->text.failed)
		return err_set(e, EX_OSERR, "out of memory");
	n = eval_stream_add_text(a->s, a->text.data, a->text.len, 0, e);
	if (n < 0)
		return -1;
	return a->v->exact ? choose_greedily(a, q, e) : choose_likeliest(a, q, n, e);
}

/* The answer joins the stream behind its question. */
static int
add_answer(struct qa *a, const struct question *q, int choice, struct err *e)
{
	buf_clear(&a->text);
	if (choice < q->n_choices)
		write_choice(a, q, choice, &a->text);
	buf_add_text(&a->text, "\n\n");
	if (a->text.failed)
		return err_set(e, EX_OSERR, "out of memory");
	return eval_stream_add_text(a->s, a->text.data, a->text.len, 0, e) < 0 ? -1 : 0;
}

static int
ask_questions(struct qa *a, bool stream, struct result *r, struct err *e)
{
	*r = (struct result){ .name = stream ? "stream" : "single" };
	if (eval_stream_reset(a->s, e) < 0)
		return -1;
	for (int64_t i = 0; i < a->all.n; i++) {
		const struct question *q = &a->all.q[i];
		int choice = ask_question(a, q, e);

		if (choice < 0)
			return -1;
		r->asked++;
		r->correct += choice == q->gold;
		if (stream && add_answer(a, q, a->v->own ? choice : q->gold, e) < 0)
			return -1;
		if (!stream || i == a->all.n - 1)
			r->tokens += eval_stream_count(a->s);
		if (!stream && eval_stream_reset(a->s, e) < 0)
			return -1;
		eval_progress(&a->v->c, r->name, i + 1, a->all.n);
	}
	return 0;
}

/* Wilson's interval for a proportion, 95 %. */
static void
find_interval(const struct result *r, double *low, double *high)
{
	const double z = 1.959964;
	double n = (double)r->asked, p = (double)r->correct / n, middle = (p + z * z / (2 * n)) / (1 + z * z / n);
	double half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n));

	*low = middle - half;
	*high = middle + half;
}

static void
print_accuracies_json(FILE *out, struct qa *a, const struct model *m, const struct result *results, int n)
{
	double low, high;

	fputc('{', out);
	eval_print_head(out, m, &a->v->c, eval_stream_get_context(a->s));
	fprintf(out, "\"answers\":\"%s\",\"joins\":\"%s\"", a->v->exact ? "exact" : "likelihood",
	    a->v->own ? "own" : "gold");
	for (int i = 0; i < n; i++) {
		const struct result *r = &results[i];

		find_interval(r, &low, &high);
		fprintf(out, ",\"%s\":{\"asked\":%lld,\"correct\":%lld,\"accuracy\":%.4f,\"low\":%.4f,\"high\":%.4f,"
		    "\"tokens\":%lld}", r->name, (long long)r->asked, (long long)r->correct,
		    (double)r->correct / (double)r->asked, low, high, (long long)r->tokens);
	}
	fputs("}\n", out);
}

static void
print_accuracies(FILE *out, const struct qa *a, const struct result *results, int n)
{
	double low, high;

	fprintf(out, "policy %s, answers by %s, %s answers join\n\n%-8s %8s %8s %9s  %-16s %8s\n",
	    context_policies[a->v->c.policy], a->v->exact ? "exact match" : "likelihood per byte",
	    a->v->own ? "the model's" : "the right", "", "asked", "correct", "accuracy", "95 % interval", "tokens");
	for (int i = 0; i < n; i++) {
		const struct result *r = &results[i];

		find_interval(r, &low, &high);
		fprintf(out, "%-8s %8lld %8lld %8.2f%%  %5.2f to %-5.2f%% %9lld\n", r->name, (long long)r->asked,
		    (long long)r->correct, 100 * (double)r->correct / (double)r->asked, 100 * low, 100 * high,
		    (long long)r->tokens);
	}
}

/* Room for an aside: the longest choice, as many tokens as its text can have. */
static int32_t
count_fork_tokens(const struct questions *all)
{
	size_t longest = LETTER_TOKENS;

	for (int64_t i = 0; i < all->n; i++)
		for (int j = 0; j < all->q[i].n_choices; j++) {
			size_t len = strlen(all->q[i].choices[j]);

			longest = len > longest ? len : longest;
		}
	return (int32_t)(longest < 1 << 20 ? 2 * longest + 4 : 1 << 21);
}

static int
run_qa(void *values, char **operands, FILE *out, struct err *e)
{
	struct values *v = values;
	const char *path = eval_operand(operands, "file of questions", e);
	struct qa a = { .v = v };
	struct result results[2];
	struct model *m = NULL;
	int n = 0, r = -1;

	if (path != NULL && (m = eval_open_model(&v->c, 0, e)) != NULL &&
	    questions_read(&a.all, path, v->questions > 0 ? v->questions : INT64_MAX, e) == 0 &&
	    (a.s = eval_stream_new(m, &v->c, count_fork_tokens(&a.all), e)) != NULL)
		r = 0;
	if (r == 0 && v->mode != MODE_SINGLE)
		r = ask_questions(&a, true, &results[n++], e);
	if (r == 0 && v->mode != MODE_STREAM)
		r = ask_questions(&a, false, &results[n++], e);
	if (r == 0 && v->json)
		print_accuracies_json(out, &a, m, results, n);
	else if (r == 0)
		print_accuracies(out, &a, results, n);
	buf_fini(&a.text);
	questions_free(&a.all);
	eval_stream_free(a.s);
	model_close(m);
	return r;
}

const struct eval_command eval_qa = {
	{ "sinkeval qa", "questions", "Multiple-choice questions in one stream, and one at a time.", rows },
	sizeof(struct values),
	run_qa,
};
