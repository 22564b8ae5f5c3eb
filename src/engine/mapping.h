/*
 * A model's file, mapped read-only. It is read for as long as the model is in
 * use, so whoever writes into it meanwhile changes results: mapping_check
 * notices that. What is renamed over it or deleted does no harm.
 */
#ifndef SINKD_ENGINE_MAPPING_H
#define SINKD_ENGINE_MAPPING_H

#include <stddef.h>
#include <time.h>

#include "base/err.h"

struct mapping {
	const void *base;
	size_t size;
	int fd;
	struct timespec modified; /* when it was mapped */
};

/* Map the file at path. Returns 0, or -1 with *e set: EX_NOINPUT, EX_DATAERR (empty) or EX_OSERR. */
int mapping_open(struct mapping *m, const char *path, struct err *e);
void mapping_close(struct mapping *m);

/* Has nobody written into the file? Cheap: one system call. Returns 0, or -1 with *e set (EX_IOERR). */
int mapping_check(const struct mapping *m, const char *path, struct err *e);

/* Give back the memory that it takes; what is read again comes from the file. */
void mapping_forget(const struct mapping *m);

#endif
