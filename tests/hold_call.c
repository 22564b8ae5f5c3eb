/*
 * To be loaded before the C library: the first call of the function that HOLD_CALL names makes the file HOLD_FILE.held
 * and waits until there is a file HOLD_FILE.go. So a test decides what happens meanwhile.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void
hold(const char *call)
{
	static atomic_bool done;
	const char *wanted = getenv("HOLD_CALL"), *file = getenv("HOLD_FILE");
	char path[PATH_MAX];

	if (wanted == NULL || file == NULL || strcmp(call, wanted) != 0 || atomic_exchange(&done, true))
		return;
	snprintf(path, sizeof path, "%s.held", file);
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	snprintf(path, sizeof path, "%s.go", file);
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
