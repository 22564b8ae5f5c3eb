/*
 * A disk with faults, to be loaded before the C library: while there is a file FAIL_WHILE, one of FAIL_EVERY calls, at
 * random, that open, measure or look for a file whose name begins with FAIL_NAME fails with EIO. Reading what comes
 * next in a file does not fail.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SMALL = 4096 }; /* so much is read at most to compare it with what was read before */

static bool
fails(const char *path)
{
	const char *name = getenv("FAIL_NAME"), *every = getenv("FAIL_EVERY"), *file = getenv("FAIL_WHILE");
	const char *slash = strrchr(path, '/');

	if (name == NULL || every == NULL || file == NULL ||
	    strncmp(slash == NULL ? path : slash + 1, name, strlen(name)) != 0 || access(file, F_OK) < 0 ||
	    random() % atoi(every) != 0)
		return false;
	errno = EIO;
	return true;
}

static bool
fails_open(int fd)
{
	char self[64], path[PATH_MAX];
	ssize_t n;

	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	n = readlink(self, path, sizeof path - 1);
	path[n < 0 ? 0 : n] = '\0';
	return fails(path);
}

/* The C library's own function of that name. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int
fstat(int fd, struct stat *st)
{
	return fails_open(fd) ? -1 : REAL(fstat)(fd, st);
}

int
stat(const char *restrict path, struct stat *restrict st)
{
	return fails(path) ? -1 : REAL(stat)(path, st);
}

int
lstat(const char *restrict path, struct stat *restrict st)
{
	return fails(path) ? -1 : REAL(lstat)(path, st);
}

int
fstatat(int fd, const char *restrict path, struct stat *restrict st, int flags)
{
	return fails(path) ? -1 : REAL(fstatat)(fd, path, st, flags);
}

int
open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return fails(path) ? -1 : REAL(open)(path, flags, mode);
}

int
openat(int fd, const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return fails(path) ? -1 : REAL(openat)(fd, path, flags, mode);
}

off_t
lseek(int fd, off_t offset, int whence)
{
	return fails_open(fd) ? -1 : REAL(lseek)(fd, offset, whence);
}

ssize_t
pread(int fd, void *to, size_t n, off_t from)
{
	return n <= SMALL && fails_open(fd) ? -1 : REAL(pread)(fd, to, n, from);
}
