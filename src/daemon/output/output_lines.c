/* Lines of an output's file, read back; see output_lines.h. Loop thread, at the start. */
#include "daemon/output/output_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FOREIGN = 16 << 20, /* bytes of other lines in a row, after which none of ours is expected */
	CHUNK = 1 << 16,
};

enum kind { FOREIGN_LINE, PLAIN, NUMBERED };

/* What a line of the output is; *first and *last receive the events that a numbered one is about. */
static enum kind
read_line(const char *line, size_t len, const char *key, int64_t *first, int64_t *last)
{
	json_t *o = len > 0 && line[0] == '{' ? json_loadb(line, len, JSON_ALLOW_NUL, NULL) : NULL;
	const json_t *ours = json_object_get(o, key), *seq = json_object_get(ours, "seq");
	const char *type = json_string_value(json_object_get(ours, "type"));
	enum kind kind = type == NULL ? FOREIGN_LINE : PLAIN;

	if (type != NULL && json_is_integer(seq)) {
		*first = *last = json_integer_value(seq);
		kind = NUMBERED;
	} else if (type != NULL && strcmp(type, "skipped") == 0) {
		*first = json_integer_value(json_object_get(ours, "from"));
		*last = json_integer_value(json_object_get(ours, "to"));
		kind = NUMBERED;
	}
	json_decref(o);
	return kind;
}

/* NULL: *error says why. */
static FILE *
open_stream(int fd, int64_t at, int *error)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *f = copy < 0 ? NULL : fdopen(copy, "r");

	if (f == NULL) {
		*error = errno;
		if (copy >= 0)
			close(copy);
	} else if (fseeko(f, (off_t)at, SEEK_SET) < 0) {
		*error = errno;
		fclose(f);
		f = NULL;
	}
	return f;
}

/* As getline; *error receives errno if it is not the file's end that is reached. */
static ssize_t
get_line(char **line, size_t *cap, FILE *f, int *error)
{
	ssize_t n;

	errno = 0;
	if ((n = getline(line, cap, f)) < 0 && !feof(f))
		*error = errno != 0 ? errno : EIO;
	return n;
}

int64_t
output_lines_find_first(int fd, const char *key, int64_t after, int64_t *at, int *error)
{
	FILE *f = open_stream(fd, 0, error);
	int64_t number = -1, begin = 0, run = -1, first = 0, last = 0, foreign = 0;
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	while (f != NULL && number < 0 && foreign < FOREIGN && (n = get_line(&line, &cap, f, error)) > 0) {
		enum kind kind = read_line(line, (size_t)n, key, &first, &last);

		if (kind == FOREIGN_LINE || (kind == NUMBERED && first <= after))
			run = -1;
		else if (run < 0)
			run = begin;
		if (kind == NUMBERED && first > after)
			number = first;
		foreign = kind == FOREIGN_LINE ? foreign + n : 0;
		begin += n;
	}
	free(line);
	if (f != NULL)
		fclose(f);
	*at = run;
	return number;
}

/* The last event among bytes[n], which begin with a line if `whole`, or -1. */
static int64_t
find_last_in(const char *bytes, size_t n, bool whole, const char *key)
{
	const char *end = memrchr(bytes, '\n', n);
	int64_t first, last;

	while (end != NULL && end > bytes) {
		const char *before = memrchr(bytes, '\n', (size_t)(end - bytes)), *line = before == NULL ? bytes
		    : before + 1;

		if (before == NULL && !whole)
			break;
		if (read_line(line, (size_t)(end - line), key, &first, &last) == NUMBERED)
			return last;
		end = before;
	}
	return -1;
}

int64_t
output_lines_find_last(int fd, const char *key, int64_t from, int *error)
{
	struct stat st;
	int64_t found = -1;

	if (fstat(fd, &st) < 0) {
		*error = errno;
		return -1;
	}
	for (int64_t room = CHUNK, size = (int64_t)st.st_size; found < 0; room *= 4) {
		int64_t start = size - room > from ? size - room : from;
		char *bytes = size > start ? malloc((size_t)(size - start)) : NULL;
		ssize_t n = bytes == NULL ? 0 : pread(fd, bytes, (size_t)(size - start), (off_t)start);

		if ((size > start && bytes == NULL) || n < 0)
			*error = errno;
		if (n > 0)
			found = find_last_in(bytes, (size_t)n, start == from, key);
		free(bytes);
		if (n <= 0 || start == from)
			break;
	}
	return found;
}

bool
output_lines_is_ours(int fd, const char *key, int64_t at, int *error)
{
	FILE *f = open_stream(fd, at, error);
	char *line = NULL;
	size_t cap = 0;
	ssize_t n = f == NULL ? 0 : get_line(&line, &cap, f, error);
	int64_t first, last;
	bool ours = f != NULL && (n <= 0 || line[n - 1] != '\n' ||
	    read_line(line, (size_t)n, key, &first, &last) != FOREIGN_LINE);

	free(line);
	if (f != NULL)
		fclose(f);
	return ours;
}
