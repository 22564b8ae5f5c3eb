/* Files of JSON lines, for the commands that read them; see sinkeval qa and chat. */
#ifndef SINKD_TOOLS_EVAL_LINES_H
#define SINKD_TOOLS_EVAL_LINES_H

#include <jansson.h>

#include "base/err.h"

/*
 * Call take for each line of the file at path ("-": standard input). take
 * returns 0 to go on, 1 when it wants no more, or -1 with *e set, to which
 * file and line are added. Returns 0, or -1 with *e set: that, the errors of
 * eval_read_file, or EX_DATAERR for a line that is no JSON object.
 */
int lines_read(const char *path, int (*take)(void *arg, const json_t *line, struct err *e), void *arg, struct err *e);

/* A heap copy of a JSON string, called `what` in messages; NULL with *e set when it is none, empty, or holds a NUL. */
char *lines_copy_string(const json_t *string, const char *what, struct err *e);

#endif
