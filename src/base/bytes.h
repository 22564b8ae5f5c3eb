/*
 * Where the bytes of a saved state go to and come from, piece by piece. Both
 * functions return 0, or -1 with *e set.
 */
#ifndef SINKD_BASE_BYTES_H
#define SINKD_BASE_BYTES_H

#include <stddef.h>

#include "base/err.h"

struct bytes_out {
	int (*write)(void *arg, const void *bytes, size_t n, struct err *e);
	void *arg;
};

struct bytes_in {
	int (*read)(void *arg, void *bytes, size_t n, struct err *e); /* fills all n bytes */
	void *arg;
};

static inline int
bytes_write(const struct bytes_out *to, const void *bytes, size_t n, struct err *e)
{
	return to->write(to->arg, bytes, n, e);
}

static inline int
bytes_read(const struct bytes_in *from, void *bytes, size_t n, struct err *e)
{
	return from->read(from->arg, bytes, n, e);
}

#endif
