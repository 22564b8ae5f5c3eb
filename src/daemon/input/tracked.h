/*
 * An open file that is read as it grows. It knows the bytes it has read last,
 * and so notices when they are not there any more: the file was cut or written
 * anew. Used by follow.c. Loop thread.
 */
#ifndef SINKD_DAEMON_TRACKED_H
#define SINKD_DAEMON_TRACKED_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "daemon/identity.h"

struct tracked {
	int fd;        /* -1: none */
	int watch;     /* its number in inotify, -1: none */
	dev_t device;
	ino_t inode;
	int64_t pos;   /* bytes that were read */
	bool written;  /* it may have changed since size and modified were noted */
	int64_t size;
	struct timespec modified;
	size_t head_len;
	char head[IDENTITY_HEAD];
	struct identity_tail tail; /* before pos */
};

/*
 * Take fd over, to be read from pos on, and watch it with inotify's descriptor
 * notify. Returns 0, or -1 with errno set; fd is then closed.
 */
int tracked_open(struct tracked *t, int fd, int64_t pos, int notify);
void tracked_close(struct tracked *t, int notify);

/* Go on in another file that holds the same bytes. Returns 0, or -1 with errno set; fd is then closed. */
int tracked_move(struct tracked *t, int fd, int notify);

/* Read it from its start again. */
void tracked_restart(struct tracked *t);

/*
 * Read up to n bytes, which do not count until tracked_take. Returns their
 * number, 0: there are none now, -1 with errno set.
 */
ssize_t tracked_peek(const struct tracked *t, char *to, size_t n);
void tracked_take(struct tracked *t, const char *bytes, size_t n);

/*
 * Does it still hold what was read? Asked after peek and before take, as then
 * the bytes in hand are known to be the ones that follow. Returns 1 or 0, or -1
 * with errno set: nobody can tell now.
 */
int tracked_check(struct tracked *t);

/* Is it this file? */
bool tracked_is(const struct tracked *t, const struct stat *st);

/* What identifies it at pos; inode and times are filled in, too. */
void tracked_identify(const struct tracked *t, struct identity *id);

#endif
