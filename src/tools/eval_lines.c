/* Reads files of JSON lines; see eval_lines.h. */
#include "tools/eval_lines.h"

#include <stdlib.h>
#include <string.h>

#include "tools/eval.h"

static int
take_text(const char *text, size_t len, int (*take)(void *arg, const json_t *line, struct err *e), void *arg,
    struct err *e)
{
	json_error_t je;
	json_t *line = json_loadb(text, len, 0, &je);
	int r;

	if (line == NULL)
		return err_set(e, EX_DATAERR, "not JSON: %s", je.text);
	r = json_is_object(line) ? take(arg, line, e) : err_set(e, EX_DATAERR, "not a JSON object");
	json_decref(line);
	return r;
}

int
lines_read(const char *path, int (*take)(void *arg, const json_t *line, struct err *e), void *arg, struct err *e)
{
	size_t len;
	char *text = eval_read_file(path, &len, e);
	int64_t number = 0;
	int r = 0;

	if (text == NULL)
		return -1;
	for (const char *p = text; r == 0 && p < text + len;) {
		const char *end = memchr(p, '\n', (size_t)(text + len - p));
		size_t n = end != NULL ? (size_t)(end - p) : (size_t)(text + len - p);
		struct err inner;

		number++;
		r = take_text(p, n, take, arg, &inner);
		if (r < 0)
			err_set(e, inner.code, "%s, line %lld: %.300s", path, (long long)number, inner.text);
		p += n + 1;
	}
	free(text);
	return r < 0 ? -1 : 0;
}

char *
lines_copy_string(const json_t *string, const char *what, struct err *e)
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
