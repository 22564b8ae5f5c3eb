/*
 * Output: whole lines to one descriptor, never blocking the loop where that
 * can be helped. Lines are gathered and written together when asked to.
 */
#ifndef SINKD_DAEMON_OUTPUT_H
#define SINKD_DAEMON_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "base/buf.h"
#include "base/err.h"

enum {
	OUTPUT_FULL = 1 << 16, /* bytes gathered before no more are taken; also the memory kept after a long line */
};

struct output;

struct output_callbacks {
	/* All that an earlier output_flush left is written by now. */
	void (*drained)(void *arg);
	/* Nothing more can be written: e->code is 0 if the reader went away, else EX_IOERR. The last call. */
	void (*failed)(void *arg, const struct err *e);
};

/*
 * Write to fd, which name is for messages. fd is taken over, also on failure; borrows name and callbacks. Returns NULL
 * with *e set (EX_IOERR, EX_OSERR).
 */
struct output *output_new(struct event_base *base, int fd, const char *name, const struct output_callbacks *callbacks,
    void *arg, struct err *e);

/* The same for a standard descriptor: STDOUT_FILENO or STDERR_FILENO, which stays open. */
struct output *output_new_standard(struct event_base *base, int standard, const struct output_callbacks *callbacks,
    void *arg, struct err *e);
void output_free(struct output *o);

/* Where lines are gathered: append whole ones. */
struct buf *output_get_buf(struct output *o);

/* Is so much gathered that nothing should be added before some of it is written? */
bool output_is_full(const struct output *o);
bool output_is_drained(const struct output *o);

/*
 * Write what is gathered, as far as the descriptor takes it, and the rest as
 * soon as it can. The callback `failed` may be called from here.
 */
void output_flush(struct output *o);

/* From now on fail with EX_IOERR when the descriptor has taken nothing for so many seconds. */
void output_set_patience(struct output *o, int seconds);

#endif
