/* A listening Unix stream socket: made, taken over, removed. */
#ifndef SINKD_DAEMON_LISTENER_H
#define SINKD_DAEMON_LISTENER_H

#include "base/err.h"

struct listener {
	int fd;           /* -1: none */
	const char *path; /* to be removed at the end, or NULL: it was handed over */
};

/*
 * A socket at path with these permissions, listening, not blocking. A socket
 * that nobody listens on any more is replaced. Borrows path. Returns 0, or -1
 * with *e set: EX_UNAVAILABLE if another program listens there,
 * EX_CANTCREAT, EX_OSERR.
 */
int listener_open(struct listener *l, const char *path, unsigned mode, struct err *e);

/* Take over a socket that is listening already. */
int listener_adopt(struct listener *l, int fd, struct err *e);

/* Nothing new comes in from here on; what was made is removed. */
void listener_close(struct listener *l);

#endif
