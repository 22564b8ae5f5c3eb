/*
 * The older files of a followed one, as logrotate(8) and others name them: its
 * name, a dot or a dash, and a number or a date; and which of them comes after
 * which. Loop thread.
 */
#ifndef SINKD_DAEMON_ROTATION_H
#define SINKD_DAEMON_ROTATION_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "daemon/identity.h"

/* Where a file stands among them. */
struct rotation_mark {
	struct timespec modified; /* the last time; the earlier one comes first */
	char suffix[32];          /* number or date, which decides where that time is the same; "": not known */
	ino_t inode;              /* 0: not known */
};

/* The mark of an open file, path being the followed file's. Returns 0, or -1 with errno set. */
int rotation_mark_file(struct rotation_mark *m, int fd, const char *path);

/* The mark of now: what is written from here on comes after it. */
void rotation_mark_now(struct rotation_mark *m);

/*
 * Open the file that comes after a mark: a rotated one, or else the one that
 * has the name. Returns a descriptor, or -1 with errno set. Sets *lost if it
 * left out files that are compressed by now or that it may not read.
 */
int rotation_open_after(const char *path, const struct rotation_mark *after, bool *lost);

/*
 * Open the file that was read: under its name, another name in the same folder,
 * or as a copy that is one of the older files; the second one opens such a copy
 * alone. Each returns a descriptor, or -1 with errno set.
 */
int rotation_open_saved(const char *path, const struct identity *id);
int rotation_open_copy(const char *path, const struct identity *id);

/* Open a file to follow it. Returns a descriptor, or -1 with errno set: EINVAL if it is not a regular file. */
int rotation_open_file(const char *path);

/* Does an errno of these say that there is no such file? Any other says that nobody can tell now. */
bool rotation_is_absent(int error);

#endif
