/* A listening Unix stream socket: made, taken over, removed. Loop thread. */
#ifndef SINKD_DAEMON_LISTENER_H
#define SINKD_DAEMON_LISTENER_H

#include <sys/types.h>

#include "base/err.h"

struct listener {
	int fd;           /* -1: none */
	const char *path; /* the name of a socket that we made, or NULL: it was handed over */
	dev_t device;     /* of that name; another daemon may have made a socket under it since */
	ino_t inode;
};

/*
 * Make a socket at path with these permissions; it listens and does not block.
 * A socket on which nobody listens any more is replaced. While this is done
 * the folder is locked, so that two daemons that start together do not replace
 * each other's socket. Borrows path. Returns 0, or -1 with *e set:
 * EX_UNAVAILABLE (another program listens there, or holds the folder's lock),
 * EX_CANTCREAT, EX_OSERR.
 */
int listener_open(struct listener *l, const char *path, unsigned mode, struct err *e);

/*
 * Could listener_open make a socket at path? Returns 0, 1 (if the program that
 * listens there now ends), or -1 with *e set (EX_USAGE, EX_CANTCREAT).
 */
int listener_check(const char *path, struct err *e);

/*
 * Take over the socket `handed`, which is listening already, or where that is -1 make one at path, as listener_open
 * does. Returns 0, or -1 with *e set.
 */
int listener_take(struct listener *l, int handed, const char *path, unsigned mode, struct err *e);

/*
 * Remove the socket's name, if it still is the name of the socket that
 * listener_open made, and close the socket. Whoever has taken l->fd over closes
 * it after this call: while the socket is open, no other file gets its inode.
 */
void listener_close(struct listener *l);

#endif
