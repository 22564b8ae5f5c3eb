/*
 * To be loaded before the C library: calls of the function that HOLD_CALL names write into the file HOLD_FILE.held and
 * wait while there is no file HOLD_FILE.go. So a test decides what happens meanwhile. The program makes HOLD_FILE.held
 * when it starts, since a sandbox may forbid that later.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int held = -1;

static __attribute__((constructor)) void
open_held(void)
{
	const char *file = getenv("HOLD_FILE");
	char path[PATH_MAX];

	if (file == NULL)
		return;
	snprintf(path, sizeof path, "%s.held", file);
	held = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static void
hold(const char *call)
{
	const char *wanted = getenv("HOLD_CALL"), *file = getenv("HOLD_FILE");
	char path[PATH_MAX];

	if (wanted == NULL || file == NULL || strcmp(call, wanted) != 0)
		return;
	snprintf(path, sizeof path, "%s.go", file);
	if (access(path, F_OK) != 0)
		(void)!write(held, "held\n", 5);
	while (access(path, F_OK) != 0)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

int
mallopt(int param, int value)
{
	int (*next)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "mallopt");

	hold("mallopt");
	return next(param, value);
}

int
unlink(const char *path)
{
	int (*next)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");

	hold("unlink");
	return next(path);
}

int
listen(int fd, int n)
{
	int (*next)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "listen");

	hold("listen");
	return next(fd, n);
}

void *
aligned_alloc(size_t alignment, size_t size)
{
	void *(*next)(size_t, size_t) = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "aligned_alloc");

	hold("aligned_alloc");
	return next(alignment, size);
}

/* The engine's thread calls this for a number of its state. */
void *
XXH3_createState(void)
{
	void *(*next)(void) = (void *(*)(void))dlsym(RTLD_NEXT, "XXH3_createState");

	hold("XXH3_createState");
	return next();
}
