/*
 * A feed: standard input and files, one after the other, to the end of each.
 * Reading stops while whoever takes the lines has no room, and the kernel then
 * stops the producer.
 */
#ifndef SINKD_DAEMON_FILES_H
#define SINKD_DAEMON_FILES_H

#include <event2/event.h>

#include "daemon/input/feed.h"

struct files;

struct files_options {
	char *const *names; /* [n] paths, "-" for standard input; n = 0: standard input */
	int n;
	enum reader_format format;
	size_t max_line;
	const json_t *state; /* what save added to an object, or NULL: from the start */
};

extern const struct feed_ops files_ops;

/*
 * Borrows names and callbacks. Reading begins with resume. Returns NULL with
 * *e set: EX_NOINPUT if one cannot be read, EX_CONFIG if the state is of other
 * files, EX_OSERR.
 */
struct files *files_new(struct event_base *base, const struct files_options *o, const struct feed_callbacks *callbacks,
    void *arg, struct err *e);

/* Can this file be read, "-" being standard input? Returns 0, or -1 with *e set (EX_NOINPUT). */
int files_check(const char *name, struct err *e);

#endif
