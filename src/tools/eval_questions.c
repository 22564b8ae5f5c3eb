/* Reads multiple-choice questions; see eval_questions.h. */
#include "tools/eval_questions.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tools/eval.h"

/* A heap copy of a JSON string; NULL with *e set when it is none, empty, or holds a NUL. */
static char *
copy_string(const json_t *string, const char *what, struct err *e)
{
	char *copy;

	if (!json_is_string(string) || json_string_length(string) == 0 ||
	    strlen(json_string_value(string)) != json_string_length(string)) {
		err_set(e, EX_DATAERR, "%s is not a string with text in it", what);
		return NULL;
	}
	copy = strdup(json_string_value(string));
	if (copy == NULL)
		err_set(e, EX_OSERR, "out of memory");
	return copy;
}

static void
free_question(struct question *q)
{
	free(q->query);
	for (int i = 0; i < q->n_choices; i++)
		free(q->choices[i]);
}

static int
parse_question(struct question *q, const json_t *line, struct err *e)
{
	const json_t *choices = json_object_get(line, "choices"), *gold = json_object_get(line, "gold");

	memset(q, 0, sizeof *q);
	if (!json_is_object(line))
		return err_set(e, EX_DATAERR, "not a JSON object");
	if (json_array_size(choices) < 2 || json_array_size(choices) > CHOICES_MAX)
		return err_set(e, EX_DATAERR, "choices is not an array of 2 to %d strings", CHOICES_MAX);
	if (!json_is_integer(gold) || json_integer_value(gold) < 0 ||
	    json_integer_value(gold) >= (json_int_t)json_array_size(choices))
		return err_set(e, EX_DATAERR, "gold is not the index of a choice");
	q->gold = (int)json_integer_value(gold);
	q->query = copy_string(json_object_get(line, "query"), "query", e);
	if (q->query == NULL)
		return -1;
	for (size_t i = 0; i < json_array_size(choices); i++) {
		q->choices[i] = copy_string(json_array_get(choices, i), "a choice", e);
		if (q->choices[i] == NULL)
			return -1;
		q->n_choices++;
	}
	return 0;
}

static int
add_line(struct questions *all, const char *text, size_t len, struct err *e)
{
	struct question *more = realloc(all->q, (size_t)(all->n + 1) * sizeof *more);
	json_error_t je;
	json_t *line;
	int r;

	if (more == NULL)
		return err_set(e, EX_OSERR, "out of memory");
	all->q = more;
	line = json_loadb(text, len, 0, &je);
	if (line == NULL)
		return err_set(e, EX_DATAERR, "not JSON: %s", je.text);
	r = parse_question(&all->q[all->n], line, e);
	json_decref(line);
	if (r < 0)
		free_question(&all->q[all->n]);
	else
		all->n++;
	return r;
}

int
questions_read(struct questions *all, const char *path, int64_t limit, struct err *e)
{
	size_t len;
	char *text = eval_read_file(path, &len, e);
	int64_t number = 0;

	*all = (struct questions){ 0 };
	if (text == NULL)
		return -1;
	for (const char *p = text; p < text + len && all->n < limit;) {
		const char *end = memchr(p, '\n', (size_t)(text + len - p));
		size_t n = end != NULL ? (size_t)(end - p) : (size_t)(text + len - p);
		struct err inner;

		number++;
		if (add_line(all, p, n, &inner) < 0) {
			free(text);
			return err_set(e, inner.code, "%s, line %lld: %.300s", path, (long long)number, inner.text);
		}
		p += n + 1;
	}
	free(text);
	if (all->n == 0)
		return err_set(e, EX_DATAERR, "%s: there are no questions", path);
	return 0;
}

void
questions_free(struct questions *all)
{
	for (int64_t i = 0; i < all->n; i++)
		free_question(&all->q[i]);
	free(all->q);
}
