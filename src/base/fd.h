/* A descriptor that is closed on the way out of a failure, whose errno stays. */
#ifndef SINKD_BASE_FD_H
#define SINKD_BASE_FD_H

#include <errno.h>
#include <unistd.h>

/* fd may be below 0: nothing is closed. */
static inline void
fd_close_quietly(int fd)
{
	int why = errno;

	if (fd >= 0)
		close(fd);
	errno = why;
}

#endif
