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
 * path: a file to append to, or NULL: the standard descriptor, of output or
 * error. Borrows path and callbacks. Returns NULL with *e set (EX_CANTCREAT,
 * EX_IOERR, EX_OSERR).
 */
struct output *output_new(struct event_base *base, const char *path, int standard,
    const struct output_callbacks *callbacks, void *arg, struct err *e);
void output_free(struct output *o);

/* Could output_new open this file? Nothing is made. Returns 0, or -1 with *e set (EX_CANTCREAT). */
int output_check(const char *path, struct err *e);

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

/* The descriptor of a regular file that was named, or -1: it is none that can be cut and synced. */
int output_get_file(const struct output *o);

/* Was the file removed, so that what is written to it is lost to everybody? */
bool output_is_removed(const struct output *o);

/*
 * Open the file by its name again: it was renamed or removed. What was gathered
 * must be flushed. The one before is kept open until output_take_files. Returns
 * 0, or -1 with *e set and the output as it was: EX_CANTCREAT; EX_DATAERR where
 * the name is no regular file's now.
 */
int output_reopen(struct output *o, struct err *e);

/*
 * Copies of the descriptors of all files that were written to since the last
 * call, for fdatasync; they are the caller's. Returns how many, at most
 * OUTPUT_FILES, or -1 with *e set (EX_OSERR), and then they are given later.
 */
enum { OUTPUT_FILES = 8 };
int output_take_files(struct output *o, int files[OUTPUT_FILES], struct err *e);

#endif
