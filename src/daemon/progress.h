/* One line on a terminal that says how far and how fast the stream has come. */
#ifndef SINKD_DAEMON_PROGRESS_H
#define SINKD_DAEMON_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/output/output.h"

struct progress;

struct progress_numbers {
	int64_t events, errors, tokens; /* so far */
	size_t lag;                     /* records that wait */
};

/*
 * Draw a line five times a second on standard error, a terminal, while that
 * takes it: as wide as the terminal is then, with what ask fills in. shared: the
 * output goes to a terminal too. Borrows terminal, the output to standard error. Returns NULL with *e set (EX_OSERR).
 */
struct progress *progress_new(struct event_base *base, struct output *terminal,
    void (*ask)(void *arg, struct progress_numbers *n), void *arg, bool shared, struct err *e);

/* The output is about to be written: if it goes to the same terminal, erase the line until it is drawn again. */
void progress_make_way(struct progress *p);

/* The last words: what was done and how fast. NULL: nothing. */
void progress_finish(struct progress *p);
void progress_free(struct progress *p);

#endif
