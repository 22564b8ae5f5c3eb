/* sinkeval tokenize: JSON strings to arrays of token ids, a line each, and back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/utf8.h"
#include "tools/eval.h"

struct values {
	struct eval_context c;
	bool decode, parse_special;
};

static const struct option_row rows[] = {
	EVAL_MODEL_ROWS,
	{ "decode", 'd', OPTION_FLAG, NULL, offsetof(struct values, decode), NULL, 0, 0, NULL, 0,
	    "Read arrays of ids and write strings. Bytes that are not UTF-8 become U+FFFD." },
	{ "parse-special", 0, OPTION_FLAG, NULL, offsetof(struct values, parse_special), NULL, 0, 0, NULL, 0,
	    "Read the text of special tokens as these tokens, and with --decode write these tokens as "
	    "text." },
	{ .name = NULL },
};

/* One line: a string in, an array of ids out. */
static int
encode_line(struct tokenizer *t, const struct values *v, const json_t *line, FILE *out, struct err *e)
{
	const int32_t *ids;
	int64_t n;

	if (!json_is_string(line))
		return err_set(e, EX_DATAERR, "not a JSON string");
	n = tokenizer_encode(t, json_string_value(line), json_string_length(line),
	    v->parse_special ? TOKENIZER_PARSE_SPECIAL : 0, &ids, e);
	if (n < 0)
		return -1;
	fputc('[', out);
	for (int64_t i = 0; i < n; i++)
		fprintf(out, "%s%d", i > 0 ? "," : "", ids[i]);
	fputs("]\n", out);
	return 0;
}

/* The text of an array of ids on the heap; *len its length. NULL with *e set. */
static char *
decode_ids(struct tokenizer *t, const struct values *v, const json_t *line, int32_t n_vocab, size_t *len, struct err *e)
{
	struct utf8 u;
	char *text = NULL;

	*len = 0;
	utf8_init(&u);
	for (size_t i = 0; i < json_array_size(line); i++) {
		json_int_t id = json_integer_value(json_array_get(line, i));
		const char *bytes;
		char *more;
		size_t n;

		if (!json_is_integer(json_array_get(line, i)) || id < 0 || id >= n_vocab) {
			err_set(e, EX_DATAERR, "element %zu is not a token id below %d", i, n_vocab);
			free(text);
			return NULL;
		}
		bytes = tokenizer_decode(t, (int32_t)id, v->parse_special, i == 0, &n);
		more = realloc(text, *len + 3 * (n + 1) + 3);
		if (more == NULL) {
			err_set(e, EX_OSERR, "out of memory");
			free(text);
			return NULL;
		}
		text = more;
		*len += utf8_feed(&u, bytes, n, text + *len);
	}
	if (text != NULL)
		*len += utf8_flush(&u, text + *len);
	return text != NULL ? text : calloc(1, 1);
}

/* One line: an array of ids in, a string out. */
static int
decode_line(struct tokenizer *t, const struct values *v, const json_t *line, int32_t n_vocab, FILE *out, struct err *e)
{
	json_t *string;
	char *text;
	size_t len;
	int r;

	if (!json_is_array(line))
		return err_set(e, EX_DATAERR, "not a JSON array");
	text = decode_ids(t, v, line, n_vocab, &len, e);
	if (text == NULL)
		return -1;
	string = json_stringn(text, len);
	free(text);
	r = string == NULL ? -1 : json_dumpf(string, out, JSON_ENCODE_ANY | JSON_COMPACT);
	json_decref(string);
	if (r < 0)
		return err_set(e, EX_IOERR, "the string cannot be written");
	fputc('\n', out);
	return 0;
}

static int
convert_line(struct tokenizer *t, const struct values *v, const char *text, size_t len, int32_t n_vocab, FILE *out,
    struct err *e)
{
	json_error_t je;
	json_t *line = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
	int r;

	if (line == NULL)
		return err_set(e, EX_DATAERR, "not JSON: %s", je.text);
	r = v->decode ? decode_line(t, v, line, n_vocab, out, e) : encode_line(t, v, line, out, e);
	json_decref(line);
	return r;
}

static int
convert_lines(struct tokenizer *t, const struct values *v, int32_t n_vocab, FILE *out, struct err *e)
{
	char *line = NULL;
	size_t size = 0;
	int64_t number = 0;
	ssize_t len;
	int r = 0;

	while (r == 0 && (len = getline(&line, &size, stdin)) >= 0) {
		struct err inner;

		number++;
		r = convert_line(t, v, line, (size_t)len, n_vocab, out, &inner);
		if (r < 0)
			err_set(e, inner.code, "line %lld: %.400s", (long long)number, inner.text);
	}
	if (r == 0 && ferror(stdin))
		r = err_set(e, EX_IOERR, "standard input: %s", strerror(errno));
	free(line);
	return r;
}

static int
run_tokenize(void *values, char **operands, FILE *out, struct err *e)
{
	struct values *v = values;
	struct model *m = eval_open_model(&v->c, MODEL_VOCAB_ONLY, e);
	struct tokenizer *t = NULL;
	int r = -1;

	(void)operands;
	if (m != NULL && (t = tokenizer_new(m, e)) != NULL)
		r = convert_lines(t, v, model_get_info(m)->n_vocab, out, e);
	tokenizer_free(t);
	model_close(m);
	return r;
}

const struct eval_command eval_tokenize = {
	{ "sinkeval tokenize", NULL, "Turn JSON strings into token ids, a line each, or back.", rows },
	sizeof(struct values),
	run_tokenize,
};
