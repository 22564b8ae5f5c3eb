/*
 * Where a start goes on in the output's file. A checkpoint marks the file as it
 * was when every line before the checkpoint was in it; what was written later
 * is taken back, in whatever file it lies by now, and will be written again.
 * Loop thread.
 */
#ifndef SINKD_DAEMON_RESUME_H
#define SINKD_DAEMON_RESUME_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Mark an open regular file that path names: device and inode, length, and a
 * hash of the bytes before its end; key names the member that annotations have.
 * Returns an object, a new reference, or NULL with *e set (EX_IOERR, EX_OSERR).
 */
json_t *resume_mark_file(int fd, const char *path, const char *key, struct err *e);

struct resume {
	const char *path;   /* of the output's file now; NULL: it is no regular file */
	int fd;             /* of it */
	int64_t seq;        /* number of the last event before the checkpoint */
	const json_t *mark; /* as resume_mark_file made it */
};

/*
 * Find the marked file under its own name, a rotated one, or as a copy, and the
 * files that were begun after it and before the end; cut all of them back to
 * the checkpoint. Where that cannot be done for sure, nothing is touched, and a
 * message says which events may be there twice. Returns 0, or -1 with *e set
 * (EX_CONFIG: the mark makes no sense; EX_IOERR: a file cannot be read or cut).
 */
int resume_output(const struct resume *r, struct err *e);

#endif
