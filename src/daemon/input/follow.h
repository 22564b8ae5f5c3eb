/*
 * A feed: one file that grows for ever, as tail -F reads it. When it is renamed
 * and another one takes its name, or when it is cut to nothing, reading goes on
 * with what is there now.
 */
#ifndef SINKD_DAEMON_FOLLOW_H
#define SINKD_DAEMON_FOLLOW_H

#include <event2/event.h>

#include "daemon/input/feed.h"

struct follow;

struct follow_options {
	const char *path;
	enum reader_format format;
	size_t max_line;
	bool from_end;       /* where there is no state: begin with what is written from now on */
	const json_t *state; /* what save added to an object, or NULL */
};

extern const struct feed_ops follow_ops;

/*
 * Borrows path and callbacks. The file need not be there yet, but its folder
 * must. Reading begins with resume. Returns NULL with *e set: EX_NOINPUT,
 * EX_CONFIG if the state is of another file, EX_OSERR.
 */
struct follow *follow_new(struct event_base *base, const struct follow_options *o,
    const struct feed_callbacks *callbacks, void *arg, struct err *e);

/* Could a file of that name be followed? Returns 1, 0 (it is not there yet) or -1 with *e set (EX_NOINPUT). */
int follow_check(const char *path, struct err *e);

#endif
