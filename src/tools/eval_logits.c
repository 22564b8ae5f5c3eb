/* sinkeval logits: the logits after every token of a list, as raw float32. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/eval.h"

struct values {
	struct eval_context c;
	char *tokens, *output;
};

static const struct option_row rows[] = {
	EVAL_CONTEXT_ROWS,
	{ "tokens", 0, OPTION_STRING, "file", offsetof(struct values, tokens), NULL, 0, 0, NULL, OPTION_REQUIRED,
	    "JSON array of token ids, the whole stream: nothing is added." },
	{ "output", 'o', OPTION_STRING, "file", offsetof(struct values, output), NULL, 0, 0, NULL, OPTION_REQUIRED,
	    "File for the logits: little-endian float32, one row of vocabulary size for each token." },
	{ .name = NULL },
};

/*
 * The ids of a JSON array of non-negative integers; *n receives their number.
 * Nothing else is accepted. NULL with *e set.
 */
static int32_t *
parse_ids(const char *text, const char *path, size_t *n, struct err *e)
{
	const char *space = " \t\r\n", *p = text + strspn(text, space);
	int32_t *ids = malloc((strlen(text) / 2 + 1) * sizeof *ids);
	bool first = true;

	*n = 0;
	if (ids == NULL) {
		err_set(e, EX_OSERR, "%s: out of memory", path);
		return NULL;
	}
	if (*p != '[')
		goto bad;
	for (p += 1 + strspn(p + 1, space); *p != ']' || (!first && p[-1] == ','); first = false) {
		char *end;
		long id;

		if (!first) {
			if (*p != ',')
				goto bad;
			p += 1 + strspn(p + 1, space);
		}
		errno = 0;
		id = strtol(p, &end, 10);
		if (*p < '0' || *p > '9' || errno != 0 || id > INT32_MAX)
			goto bad;
		ids[(*n)++] = (int32_t)id;
		p = end + strspn(end, space);
	}
	p++;
	if (p[strspn(p, space)] == '\0')
		return ids;
bad:
	err_set(e, EX_DATAERR, "%s: not a JSON array of token ids (at byte %zu)", path, (size_t)(p - text));
	free(ids);
	return NULL;
}

/* Tokens computed between two writes: bounds the memory for logits. */
enum { STEP = 256 };

static int
write_logits(struct context *c, const struct values *v, const int32_t *ids, size_t n, size_t vocab, FILE *f,
    struct err *e)
{
	float *logits = malloc(STEP * vocab * sizeof *logits);
	int r = 0;

	if (logits == NULL)
		return err_set(e, EX_OSERR, "out of memory for logits");
	for (size_t i = 0; i < n && r == 0; i += STEP) {
		size_t part = n - i < STEP ? n - i : STEP;

		r = context_feed_logits(c, ids + i, part, logits, e);
		if (r == 0 && fwrite(logits, vocab * sizeof *logits, part, f) != part)
			r = err_set(e, EX_IOERR, "%s: %s", v->output, strerror(errno));
		eval_progress(&v->c, "tokens", (int64_t)(i + part), (int64_t)n);
	}
	free(logits);
	return r;
}

static int
run_context(struct model *m, const struct values *v, const int32_t *ids, size_t n, struct err *e)
{
	struct context *c = eval_new_context(m, &v->c, 0, e);
	struct stat st;
	FILE *f;
	bool ours;
	int r;

	if (c == NULL)
		return -1;
	f = fopen(v->output, "wb");
	if (f == NULL) {
		context_free(c);
		return err_set(e, EX_CANTCREAT, "%s: %s", v->output, strerror(errno));
	}
	r = write_logits(c, v, ids, n, (size_t)model_get_info(m)->n_vocab, f, e);
	context_free(c);
	ours = fstat(fileno(f), &st) == 0 && S_ISREG(st.st_mode);
	if (fclose(f) != 0 && r == 0)
		r = err_set(e, EX_IOERR, "%s: %s", v->output, strerror(errno));
	if (r < 0 && ours) /* half a result looks like a result; a device is not ours to remove */
		unlink(v->output);
	return r;
}

static int
run_logits(void *values, char **operands, FILE *out, struct err *e)
{
	struct values *v = values;
	struct model *m = eval_open_model(&v->c, 0, e);
	int32_t *ids = NULL;
	char *text = NULL;
	size_t len, n;
	int r = -1;

	(void)operands;
	(void)out;
	if (m != NULL && (text = eval_read_file(v->tokens, &len, e)) != NULL &&
	    (ids = parse_ids(text, v->tokens, &n, e)) != NULL)
		r = run_context(m, v, ids, n, e);
	free(ids);
	free(text);
	model_close(m);
	return r;
}

const struct eval_command eval_logits = {
	{ "sinkeval logits", NULL, "Write the logits after every token of a stream.", rows },
	sizeof(struct values),
	run_logits,
};
