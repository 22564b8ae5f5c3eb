/* Reads multiple-choice questions; see eval_questions.h. */
#include "tools/eval_questions.h"

#include <stdlib.h>
#include <string.h>

#include "tools/eval_lines.h"

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
	if (json_array_size(choices) < 2 || json_array_size(choices) > CHOICES_MAX)
		return err_set(e, EX_DATAERR, "choices is not an array of 2 to %d strings", CHOICES_MAX);
	if (!json_is_integer(gold) || json_integer_value(gold) < 0 ||
	    json_integer_value(gold) >= (json_int_t)json_array_size(choices))
		return err_set(e, EX_DATAERR, "gold is not the index of a choice");
	q->gold = (int)json_integer_value(gold);
	q->query = lines_copy_string(json_object_get(line, "query"), "query", e);
	if (q->query == NULL)
		return -1;
	for (size_t i = 0; i < json_array_size(choices); i++) {
		q->choices[i] = lines_copy_string(json_array_get(choices, i), "a choice", e);
		if (q->choices[i] == NULL)
			return -1;
		q->n_choices++;
	}
	return 0;
}

static int
take_question(void *arg, const json_t *line, struct err *e)
{
	struct questions *all = arg;
	struct question *more;

	if (all->n == all->limit)
		return 1;
	more = realloc(all->q, (size_t)(all->n + 1) * sizeof *more);
	if (more == NULL)
		return err_set(e, EX_OSERR, "out of memory");
	all->q = more;
	if (parse_question(&all->q[all->n], line, e) < 0) {
		free_question(&all->q[all->n]);
		return -1;
	}
	all->n++;
	return 0;
}

int
questions_read(struct questions *all, const char *path, int64_t limit, struct err *e)
{
	*all = (struct questions){ .limit = limit };
	if (lines_read(path, take_question, all, e) < 0)
		return -1;
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
