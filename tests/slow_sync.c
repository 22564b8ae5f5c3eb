/* A slow disk, to be loaded before the C library: what syncs a file takes SLOW_SYNC_MS milliseconds. */
#include <stdlib.h>
#include <unistd.h>

static int
wait_a_little(void)
{
	const char *ms = getenv("SLOW_SYNC_MS");

	return usleep(1000 * (useconds_t)(ms == NULL ? 0 : atoi(ms)));
}

int
fsync(int fd)
{
	(void)fd;
	return wait_a_little();
}

int
fdatasync(int fd)
{
	(void)fd;
	return wait_a_little();
}
