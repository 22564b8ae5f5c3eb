/*
 * Requests that wait for the engine thread, and whose is served next: users
 * take turns, and among the connections of a user these do. Limits keep places
 * free for others. Loop thread; control.c is the only user.
 */
#ifndef SINKD_DAEMON_TURNS_H
#define SINKD_DAEMON_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "daemon/request.h"

struct turns;

enum {
	TURNS_PLACES = 64,  /* requests that may wait at once, the one that is served among them */
	TURNS_KEPT = 16,    /* of these places the last ones are for users who have no request yet */
	TURNS_OF_USER = 16, /* places that one user may have, */
	TURNS_OF_OWNER = TURNS_PLACES - TURNS_KEPT, /* or the superuser, or the daemon's own user */
};

/* Returns NULL with *e set (EX_OSERR). turns_free frees the requests that wait. */
struct turns *turns_new(struct err *e);
void turns_free(struct turns *t);

/*
 * Take a request of the user uid; q->client says of which connection. Returns
 * 0, or -1 with *e set, and the request stays the caller's: EX_DATAERR (the user
 * has too many), ERR_BUSY (all users together have), EX_OSERR.
 */
int turns_add(struct turns *t, uid_t uid, struct request *q, struct err *e);

/*
 * The request to be served now, which becomes the caller's. NULL: none waits, or
 * one is being served. turns_end says that it is done, and its place is free.
 */
struct request *turns_take(struct turns *t);
void turns_end(struct turns *t);

/* A connection is gone: drop its requests, and cancel the one that is being served if it is one of them. */
void turns_drop(struct turns *t, uint64_t client);

size_t turns_get_waiting(const struct turns *t);

#endif
