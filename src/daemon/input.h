/*
 * Input: standard input and files, one after the other, as lines. Reading
 * stops while whoever takes the lines has no room, and the kernel then stops
 * the producer.
 */
#ifndef SINKD_DAEMON_INPUT_H
#define SINKD_DAEMON_INPUT_H

#include <stdbool.h>
#include <stddef.h>

#include <event2/event.h>

#include "base/err.h"
#include "stream/reader.h"

struct input;

struct input_callbacks {
	/*
	 * A line; name is the file's, valid UTF-8 and lasting, or NULL for
	 * standard input. Returns false to be given the line again after
	 * input_resume, or after input_stop never.
	 */
	bool (*line)(void *arg, const char *name, const struct line *line);
	/* The end. e->code is 0, or why it came early: EX_NOINPUT, EX_IOERR, EX_OSERR. Called once, the last call. */
	void (*end)(void *arg, const struct err *e);
};

/*
 * names[n]: paths, "-" for standard input; none: standard input. Borrows
 * names and callbacks. Reading begins with input_resume. Returns NULL with *e
 * set: EX_NOINPUT if one cannot be read, EX_OSERR.
 */
struct input *input_new(struct event_base *base, char *const *names, int n, size_t max_line,
    const struct input_callbacks *callbacks, void *arg, struct err *e);
void input_free(struct input *in);

/* There is room again: go on, from the loop. May be called at any time. */
void input_resume(struct input *in);

/* Read no more; no callback is called from here on. */
void input_stop(struct input *in);

#endif
