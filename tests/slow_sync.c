/*
 * A slow disk, to be loaded before the C library: what syncs a file takes SLOW_SYNC_MS milliseconds, if its name has
 * SLOW_SYNC_NAME in it or that is not set.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
wait_a_little(int fd)
{
	const char *ms = getenv("SLOW_SYNC_MS"), *name = getenv("SLOW_SYNC_NAME");
	char self[64], path[PATH_MAX];
	ssize_t n;

	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	n = readlink(self, path, sizeof path - 1);
	path[n < 0 ? 0 : n] = '\0';
	if (name != NULL && strstr(path, name) == NULL)
		return 0;
	return usleep(1000 * (useconds_t)(ms == NULL ? 0 : atoi(ms)));
}

int
fsync(int fd)
{
	return wait_a_little(fd);
}

int
fdatasync(int fd)
{
	return wait_a_little(fd);
}
