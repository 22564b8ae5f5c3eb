/*
 * A feed: the systemd journal, read as journalctl -f -o json writes it, and
 * gone on with where a cursor says.
 */
#ifndef SINKD_DAEMON_JOURNAL_H
#define SINKD_DAEMON_JOURNAL_H

#include <event2/event.h>

#include "daemon/input/feed.h"

struct journal;

struct journal_options {
	const char *matches;   /* words FIELD=VALUE, and + for or; NULL: everything */
	const char *directory; /* NULL: this system's own journal */
	size_t max_line;
	bool from_end;         /* where there is no state: begin with what is logged from now on */
	const json_t *state;   /* what save added to an object, or NULL */
};

extern const struct feed_ops journal_ops;

/*
 * Borrows callbacks. Reading begins with resume. Returns NULL with *e set:
 * EX_USAGE (a match that is none), EX_CONFIG (the state cannot be right),
 * EX_NOINPUT, EX_OSERR.
 */
struct journal *journal_new(struct event_base *base, const struct journal_options *o,
    const struct feed_callbacks *callbacks, void *arg, struct err *e);

/*
 * Can the journal be read with these matches? A journal of which this user may
 * read a part only, or that is yet to come, is a warning in the log. Returns 0,
 * or -1 with *e set (EX_NOINPUT, EX_USAGE).
 */
int journal_check(const struct journal_options *o, struct err *e);

#endif
