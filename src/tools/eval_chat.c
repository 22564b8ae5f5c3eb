/*
 * sinkeval chat: one endless conversation. What the user says and what the
 * model answers both join the stream, and an answer is written as it comes.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "stream/sample.h"
#include "stream/stops.h"
#include "tools/eval.h"
#include "tools/eval_lines.h"
#include "tools/eval_stream.h"

struct values {
	struct eval_context c;
	char *system, *temperature, *top_p;
	int64_t tokens, prompts, seed;
	bool json;
};

static const struct option_row rows[] = {
	EVAL_CONTEXT_ROWS,
	{ "system", 0, OPTION_STRING, "text", offsetof(struct values, system), NULL, 0, 0, NULL, 0,
	    "Begin the conversation with this system message." },
	{ "tokens", 'n', OPTION_INT, "count", offsetof(struct values, tokens), "512", 1, 1 << 20, NULL, 0,
	    "Cut an answer off after this many tokens." },
	{ "prompts", 0, OPTION_INT, "count", offsetof(struct values, prompts), "0", 0, INT64_MAX, NULL, 0,
	    "Take only this many lines from the beginning of the file. 0: all." },
	{ "temperature", 0, OPTION_STRING, "number", offsetof(struct values, temperature), "0", 0, 0, NULL, 0,
	    "Choose each token at random, the more freely the higher this number is. 0: take the "
	    "likeliest token each time." },
	{ "top-p", 0, OPTION_STRING, "number", offsetof(struct values, top_p), "0.95", 0, 0, NULL, 0,
	    "With a temperature, choose only among the likeliest tokens that together have this share of "
	    "the probability." },
	{ "seed", 0, OPTION_INT, "number", offsetof(struct values, seed), "1", 0, INT64_MAX, NULL, 0,
	    "With a temperature, start the random choices from this number." },
	{ "json", 0, OPTION_FLAG, NULL, offsetof(struct values, json), NULL, 0, 0, NULL, 0,
	    "Write a JSON object for each answer." },
	{ .name = NULL },
};

struct chat {
	const struct values *v;
	struct model *m;
	struct eval_stream *s;
	struct sampler *sampler;
	struct chat_template template;
	struct stops stops;
	int64_t turns;   /* answered so far */
	int64_t prompts; /* lines of the file taken so far */
	struct utf8 utf8;
	struct buf answer, piece;
	FILE *out;
};

/* ---- the model's side ----------------------------------------------- */

/* How the model takes turns, and the tokens that end its own. */
static int
learn_turns(struct chat *c, struct err *e)
{
	if (stops_learn(&c->stops, &c->template, c->m, eval_stream_get_tokenizer(c->s), e) < 0)
		return -1;
	if (!c->template.recognised)
		fputs("sinkeval: the model's chat template is not known, turns are plain text\n", stderr);
	return 0;
}

/* A turn's frame may name special tokens; what somebody says may not. */
static int
add_turn(struct chat *c, const char *prefix, const char *text, const char *suffix, struct err *e)
{
	if (eval_stream_add_text(c->s, prefix, strlen(prefix), TOKENIZER_PARSE_SPECIAL, e) < 0 ||
	    eval_stream_add_text(c->s, text, strlen(text), 0, e) < 0 ||
	    eval_stream_add_text(c->s, suffix, strlen(suffix), TOKENIZER_PARSE_SPECIAL, e) < 0)
		return -1;
	return 0;
}

/* ---- the reader's side ---------------------------------------------- */

/* Whole characters to the answer and the output; control characters, which a terminal might obey, become '?'. */
static void
write_piece(struct chat *c, size_t n)
{
	char *p = c->piece.data;
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned char byte = (unsigned char)p[i];
		bool c1 = byte == 0xc2 && i + 1 < n && (unsigned char)p[i + 1] < 0xa0;

		if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f || c1)
			p[len++] = '?';
		else
			p[len++] = (char)byte;
		i += c1;
	}
	buf_add(&c->answer, p, len);
	if (!c->v->json) {
		fwrite(p, 1, len, c->out);
		fflush(c->out);
	}
}

static int
write_reply_token(struct chat *c, int32_t id, struct err *e)
{
	const char *text;
	size_t len;

	text = tokenizer_decode(eval_stream_get_tokenizer(c->s), id, false, c->answer.len == 0, &len);
	buf_clear(&c->piece);
	if (buf_reserve(&c->piece, 3 * (len + 1)) == NULL)
		return err_set(e, EX_OSERR, "out of memory");
	write_piece(c, utf8_feed(&c->utf8, text, len, c->piece.data));
	if (c->answer.failed)
		return err_set(e, EX_OSERR, "out of memory");
	return ferror(c->out) ? err_set(e, EX_IOERR, "standard output: %s", strerror(errno)) : 0;
}

/* What an answer was, as a line of JSON or as the end of its text. */
static int
write_end(struct chat *c, int64_t id, int64_t tokens, bool ended, double seconds, struct err *e)
{
	struct context_info ci;

	if (!c->v->json) {
		fputs("\n\n", c->out);
		return 0;
	}
	context_get_info(eval_stream_get_context(c->s), &ci);
	buf_add(&c->answer, "", 1);
	if (c->answer.failed)
		return err_set(e, EX_OSERR, "out of memory");
	fprintf(c->out, "{\"turn\":%lld,", (long long)c->turns);
	if (id >= 0)
		fprintf(c->out, "\"question_id\":%lld,", (long long)id);
	fputs("\"reply\":", c->out);
	eval_print_string(c->out, c->answer.data);
	fprintf(c->out, ",\"tokens\":%lld,\"ended\":%s,\"seconds\":%.3f,\"stream\":%lld,\"evictions\":%lld}\n",
	    (long long)tokens, ended ? "true" : "false", seconds, (long long)eval_stream_count(c->s),
	    (long long)ci.evictions);
	return 0;
}

/* ---- turns ---------------------------------------------------------- */

/* The model's turn. id: the question's, or -1. */
static int
write_reply(struct chat *c, int64_t id, struct err *e)
{
	const char *prefix = c->template.assistant_prefix, *suffix = c->template.assistant_suffix;
	double begin = clock_get_seconds();
	int64_t tokens = 0;
	bool ended = false;

	if (eval_stream_add_text(c->s, prefix, strlen(prefix), TOKENIZER_PARSE_SPECIAL, e) < 0)
		return -1;
	buf_clear(&c->answer);
	utf8_init(&c->utf8);
	while (tokens < c->v->tokens && !ended) {
		const float *logits = eval_stream_get_logits(c->s, e);
		int32_t token;

		if (logits == NULL)
			return -1;
		token = sampler_choose(c->sampler, logits, NULL);
		ended = stops_have(&c->stops, token);
		if (!ended && (eval_stream_add(c->s, &token, 1, e) < 0 || write_reply_token(c, token, e) < 0))
			return -1;
		tokens += !ended;
	}
	if (buf_reserve(&c->piece, 3) != NULL)
		write_piece(c, utf8_flush(&c->utf8, c->piece.data));
	if (eval_stream_add_text(c->s, suffix, strlen(suffix), TOKENIZER_PARSE_SPECIAL, e) < 0)
		return -1;
	c->turns++;
	return write_end(c, id, tokens, ended, clock_get_seconds() - begin, e);
}

/* A user's turn and the answer to it. */
static int
say(struct chat *c, const char *text, int64_t id, struct err *e)
{
	const struct chat_template *t = &c->template;
	bool opened = t->system_opens_user && c->turns == 0 && c->v->system != NULL;

	if (add_turn(c, opened ? "" : t->user_prefix, text, t->user_suffix, e) < 0)
		return -1;
	return write_reply(c, id, e);
}

/* A line {"question_id", "turns": [...]} of the file. */
static int
take_prompt(void *arg, const json_t *line, struct err *e)
{
	struct chat *c = arg;
	const json_t *turns = json_object_get(line, "turns"), *id = json_object_get(line, "question_id");

	if (c->v->prompts > 0 && c->prompts == c->v->prompts)
		return 1;
	c->prompts++;
	if (!json_is_array(turns))
		return err_set(e, EX_DATAERR, "turns is not an array");
	for (size_t i = 0; i < json_array_size(turns); i++) {
		char *text = lines_copy_string(json_array_get(turns, i), "a turn", e);
		int r;

		if (text == NULL)
			return -1;
		if (!c->v->json)
			fprintf(c->out, "USER: %s\n\nASSISTANT: ", text);
		r = say(c, text, json_is_integer(id) ? json_integer_value(id) : -1, e);
		free(text);
		if (r < 0)
			return -1;
	}
	return 0;
}

/* Lines of the standard input, each a user's turn. */
static int
talk(struct chat *c, struct err *e)
{
	bool terminal = isatty(STDIN_FILENO);
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int r = 0;

	if (terminal)
		fputs("> ", stderr);
	while (r == 0 && (len = getline(&line, &size, stdin)) >= 0) {
		line[strcspn(line, "\r\n")] = '\0';
		if (line[0] != '\0')
			r = say(c, line, -1, e);
		if (terminal)
			fputs("> ", stderr);
	}
	if (r == 0 && ferror(stdin))
		r = err_set(e, EX_IOERR, "standard input: %s", strerror(errno));
	free(line);
	return r;
}

static int
converse(struct chat *c, const char *path, struct err *e)
{
	const struct chat_template *t = &c->template;

	if (learn_turns(c, e) < 0)
		return -1;
	if (c->v->system != NULL && add_turn(c, t->system_prefix, c->v->system, t->system_suffix, e) < 0)
		return -1;
	return path != NULL ? lines_read(path, take_prompt, c, e) : talk(c, e);
}

/* ---- the command ---------------------------------------------------- */

static int
parse_number(const char *name, const char *text, double max, double *value, struct err *e)
{
	char *end;

	*value = strtod(text, &end);
	if (end == text || *end != '\0' || !(*value >= 0 && *value <= max))
		return err_set(e, EX_USAGE, "--%s must be a number from 0 to %g, not '%s'", name, max, text);
	return 0;
}

static int
run_chat(void *values, char **operands, FILE *out, struct err *e)
{
	struct values *v = values;
	struct chat c = { .v = v, .out = out };
	struct sample_options o = { .seed = (uint64_t)v->seed };
	int r = -1;

	if (operands[0] != NULL && operands[1] != NULL)
		return err_set(e, EX_USAGE, "only one file of prompts can be read, not also '%s'", operands[1]);
	if (parse_number("temperature", v->temperature, 100, &o.temperature, e) < 0 ||
	    parse_number("top-p", v->top_p, 1, &o.top_p, e) < 0)
		return -1;
	if ((c.m = eval_open_model(&v->c, 0, e)) != NULL && (c.s = eval_stream_new(c.m, &v->c, 0, e)) != NULL &&
	    (c.sampler = sampler_new(model_get_info(c.m)->n_vocab, e)) != NULL) {
		sampler_start(c.sampler, &o);
		r = converse(&c, operands[0], e);
	}
	buf_fini(&c.answer);
	buf_fini(&c.piece);
	sampler_free(c.sampler);
	eval_stream_free(c.s);
	model_close(c.m);
	return r;
}

const struct eval_command eval_chat = {
	{ "sinkeval chat", "[prompts]", "One endless conversation, with the terminal or a file of prompts.", rows },
	sizeof(struct values),
	run_chat,
};
