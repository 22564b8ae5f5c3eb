/*
 * A library to be loaded before the C library. It counts calls that a program makes of the functions in $FAIL_CALLS
 * (a list with commas), from main on, and makes the one of number $FAIL_FROM fail. See read_plan for all variables.
 * With $SLOW_SYNC_MS the disk is slow. It cannot see calls that the C library makes of itself, except those of malloc
 * and its relatives.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What becomes of a call. */
enum fate { PASSES, FAILS, IS_SHORT, IS_LAST };

enum how { HOW_ERROR, HOW_SHORT, HOW_KILL_BEFORE, HOW_KILL_AFTER };

static struct {
	bool active;
	const char *calls;  /* with commas; NULL: none */
	const char *path;   /* only files whose name has this in it; NULL: all */
	const char *report; /* a file that gets a line when the fault happens; NULL: none */
	long from;
	bool ever;          /* all later calls fail too */
	long every;         /* one of this number of calls fails, at random; 0: from and ever say which */
	const char *during; /* calls fail only while there is this file; NULL: always */
	size_t largest;     /* transfers of more bytes pass */
	bool in_loop;       /* count from the first wait of the loop on, not from main on */
	enum how how;
	int error;
	useconds_t sync_us;    /* how long each call that syncs a file waits first */
	const char *sync_name; /* only files whose name has this in it; NULL: all */
} plan = {.largest = SIZE_MAX};

static atomic_long count;
static atomic_bool counting;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

/* ---- the plan ------------------------------------------------------- */

static void
read_how(const char *how)
{
	static const struct {
		const char *name;
		enum how how;
		int error;
	} names[] = {
		{"short", HOW_SHORT, 0}, {"kill-before", HOW_KILL_BEFORE, 0}, {"kill-after", HOW_KILL_AFTER, 0},
		{"EAGAIN", HOW_ERROR, EAGAIN}, {"ECONNABORTED", HOW_ERROR, ECONNABORTED},
		{"ECONNRESET", HOW_ERROR, ECONNRESET}, {"EINTR", HOW_ERROR, EINTR}, {"EIO", HOW_ERROR, EIO},
		{"EMFILE", HOW_ERROR, EMFILE}, {"ENOMEM", HOW_ERROR, ENOMEM}, {"ENOSPC", HOW_ERROR, ENOSPC},
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (how != NULL && strcmp(names[i].name, how) == 0) {
			plan.how = names[i].how;
			plan.error = names[i].error;
			return;
		}
	fprintf(stderr, "fail_calls: no such FAIL_HOW\n");
	_exit(64);
}

static long
read_number(const char *name, long otherwise)
{
	const char *value = getenv(name);

	return value == NULL ? otherwise : atol(value);
}

/* FAIL_EVER and FAIL_IN_LOOP are set or not; the others have values. Without FAIL_CALLS nothing fails. */
static void
read_plan(void)
{
	plan.sync_us = 1000 * (useconds_t)read_number("SLOW_SYNC_MS", 0);
	plan.sync_name = getenv("SLOW_SYNC_NAME");
	plan.calls = getenv("FAIL_CALLS");
	if (plan.calls == NULL)
		return;
	plan.path = getenv("FAIL_PATH");
	plan.report = getenv("FAIL_REPORT");
	plan.during = getenv("FAIL_WHILE");
	plan.from = read_number("FAIL_FROM", 1);
	plan.every = read_number("FAIL_EVERY", 0);
	plan.largest = (size_t)read_number("FAIL_LARGEST", LONG_MAX);
	plan.ever = getenv("FAIL_EVER") != NULL;
	plan.in_loop = getenv("FAIL_IN_LOOP") != NULL;
	read_how(getenv("FAIL_HOW"));
	plan.active = true;
	atomic_store(&counting, !plan.in_loop);
}

static bool
is_in_plan(const char *call)
{
	size_t len = strlen(call);

	for (const char *p = plan.calls; (p = strstr(p, call)) != NULL; p += len)
		if ((p == plan.calls || p[-1] == ',') && (p[len] == ',' || p[len] == '\0'))
			return true;
	return false;
}

/* Is part in the file's name, or where path is relative, in that of its folder? "/out" is in "out" as well. */
static bool
has_path(int fd, const char *path, const char *part)
{
	char self[32], name[4096] = "";
	ssize_t n;

	if (part == NULL)
		return true;
	if (path == NULL || path[0] != '/') {
		snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
		n = fd < 0 ? 0 : readlink(self, name, sizeof name - 1);
		name[n < 0 ? 0 : n] = '\0';
	}
	if (path != NULL) {
		size_t len = strlen(name);

		snprintf(name + len, sizeof name - len, "%s%s", path[0] == '/' ? "" : "/", path);
	}
	return strstr(name, part) != NULL;
}

/* By system calls alone: what is above them may be made to fail. */
static void
report(const char *call, long number)
{
	char line[64];
	long fd;

	if (plan.report == NULL || (number != plan.from))
		return;
	snprintf(line, sizeof line, "%s %ld\n", call, number);
	fd = syscall(SYS_openat, AT_FDCWD, plan.report, O_WRONLY | O_CREAT | O_APPEND, 0600);
	(void)syscall(SYS_write, fd, line, strlen(line));
	(void)syscall(SYS_close, fd);
}

static void
die(void)
{
	(void)syscall(SYS_kill, getpid(), SIGKILL);
}

/*
 * fd: the file, or the folder of path, or -1; path: a name, or NULL. Standard error is left alone, so that messages
 * can be seen.
 */
static enum fate
decide(const char *call, int fd, const char *path)
{
	int saved = errno;
	enum fate fate;
	long number;

	if (plan.sync_us > 0 && strstr(call, "sync") != NULL && has_path(fd, path, plan.sync_name))
		usleep(plan.sync_us);
	if (!plan.active || !atomic_load(&counting) || fd == STDERR_FILENO || !is_in_plan(call) ||
	    !has_path(fd, path, plan.path) || (plan.during != NULL && access(plan.during, F_OK) < 0))
		return PASSES;
	number = atomic_fetch_add(&count, 1) + 1;
	errno = saved;
	if (plan.every > 0 ? random() % plan.every != 0 : number != plan.from && !(plan.ever && number > plan.from))
		return PASSES;
	report(call, number);
	if (plan.how == HOW_KILL_BEFORE)
		die();
	fate = plan.how == HOW_SHORT ? IS_SHORT : plan.how == HOW_ERROR ? FAILS : IS_LAST;
	errno = fate == FAILS ? plan.error : saved;
	return fate;
}

/* From main on: what the loader does before is not the program's own. */
int
__libc_start_main(int (*program)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
    void (*loader_fini)(void), void *stack)
{
	__typeof__(__libc_start_main) *real = (__typeof__(real))dlsym(RTLD_NEXT, "__libc_start_main");

	read_plan();
	return real(program, argc, argv, init, fini, loader_fini, stack);
}

/* ---- memory --------------------------------------------------------- */

void *
malloc(size_t n)
{
	return decide("malloc", -1, NULL) == FAILS ? NULL : __libc_malloc(n);
}

void *
calloc(size_t n, size_t size)
{
	return decide("calloc", -1, NULL) == FAILS ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *p, size_t n)
{
	return decide("realloc", -1, NULL) == FAILS ? NULL : __libc_realloc(p, n);
}

void *
aligned_alloc(size_t alignment, size_t n)
{
	return decide("aligned_alloc", -1, NULL) == FAILS ? NULL : __libc_memalign(alignment, n);
}

/* ---- calls that return -1 (or NULL, MAP_FAILED) and set errno -------- */

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* name, with these parameters, is passed on with these arguments; on_error is what it returns if it fails. */
#define CALL(type, name, on_error, fd, path, parameters, arguments)   \
	type                                                          \
	name parameters                                               \
	{                                                             \
		static __typeof__(&name) next;                        \
		enum fate fate;                                       \
		type result;                                          \
                                                                      \
		if (next == NULL)                                     \
			next = NEXT(name);                            \
		fate = decide(#name, fd, path);                       \
		if (fate == FAILS)                                    \
			return on_error;                              \
		result = next arguments;                              \
		if (fate == IS_LAST)                                  \
			die();                                        \
		return result;                                        \
	}

/* The same for calls with n bytes; eventfds and the like, which know no half, have at most eight. */
#define TRANSFER(type, name, fd, size, parameters, arguments)         \
	type                                                          \
	name parameters                                               \
	{                                                             \
		static __typeof__(&name) next;                        \
		enum fate fate;                                       \
		type result;                                          \
                                                                      \
		if (next == NULL)                                     \
			next = NEXT(name);                            \
		fate = size > plan.largest ? PASSES : decide(#name, fd, NULL); \
		if (fate == FAILS)                                    \
			return (type)-1;                              \
		if (fate == IS_SHORT && size > 8)                     \
			size /= 2;                                    \
		result = next arguments;                              \
		if (fate == IS_LAST)                                  \
			die();                                        \
		return result;                                        \
	}

CALL(void *, mmap, MAP_FAILED, fd, NULL, (void *at, size_t n, int prot, int flags, int fd, off_t from),
    (at, n, prot, flags, fd, from))
CALL(int, fsync, -1, fd, NULL, (int fd), (fd))
CALL(int, fdatasync, -1, fd, NULL, (int fd), (fd))
CALL(int, ftruncate, -1, fd, NULL, (int fd, off_t size), (fd, size))
CALL(int, rename, -1, -1, from, (const char *from, const char *to), (from, to))
CALL(int, renameat, -1, folder, from, (int folder, const char *from, int to_folder, const char *to),
    (folder, from, to_folder, to))
CALL(int, link, -1, -1, from, (const char *from, const char *to), (from, to))
CALL(int, unlink, -1, -1, path, (const char *path), (path))
CALL(int, unlinkat, -1, folder, path, (int folder, const char *path, int flags), (folder, path, flags))
CALL(int, mkdir, -1, -1, path, (const char *path, mode_t mode), (path, mode))
CALL(int, fstat, -1, fd, NULL, (int fd, struct stat *st), (fd, st))
CALL(int, stat, -1, -1, path, (const char *path, struct stat *st), (path, st))
CALL(int, lstat, -1, -1, path, (const char *path, struct stat *st), (path, st))
CALL(int, fstatat, -1, folder, path, (int folder, const char *path, struct stat *st, int flags),
    (folder, path, st, flags))
CALL(off_t, lseek, -1, fd, NULL, (int fd, off_t offset, int whence), (fd, offset, whence))
CALL(int, dup, -1, fd, NULL, (int fd), (fd))
CALL(int, dup2, -1, fd, NULL, (int fd, int to), (fd, to))
CALL(int, dup3, -1, fd, NULL, (int fd, int to, int flags), (fd, to, flags))
CALL(int, accept, -1, fd, NULL, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n))
CALL(int, accept4, -1, fd, NULL, (int fd, struct sockaddr *a, socklen_t *n, int flags), (fd, a, n, flags))
CALL(int, socket, -1, -1, NULL, (int domain, int type, int protocol), (domain, type, protocol))
CALL(int, socketpair, -1, -1, NULL, (int domain, int type, int protocol, int fds[2]), (domain, type, protocol, fds))
CALL(int, pipe2, -1, -1, NULL, (int fds[2], int flags), (fds, flags))
CALL(int, bind, -1, fd, NULL, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
CALL(int, listen, -1, fd, NULL, (int fd, int backlog), (fd, backlog))
CALL(int, epoll_create1, -1, -1, NULL, (int flags), (flags))
CALL(int, epoll_ctl, -1, target, NULL, (int fd, int op, int target, struct epoll_event *e), (fd, op, target, e))
CALL(int, eventfd, -1, -1, NULL, (unsigned n, int flags), (n, flags))
CALL(int, inotify_init1, -1, -1, NULL, (int flags), (flags))
CALL(int, inotify_add_watch, -1, -1, path, (int fd, const char *path, uint32_t mask), (fd, path, mask))
CALL(int, poll, -1, -1, NULL, (struct pollfd *fds, nfds_t n, int timeout), (fds, n, timeout))
CALL(DIR *, opendir, NULL, -1, path, (const char *path), (path))
CALL(FILE *, fopen, NULL, -1, path, (const char *path, const char *mode), (path, mode))
CALL(FILE *, fdopen, NULL, fd, NULL, (int fd, const char *mode), (fd, mode))

TRANSFER(ssize_t, read, fd, n, (int fd, void *p, size_t n), (fd, p, n))
TRANSFER(ssize_t, pread, fd, n, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
TRANSFER(ssize_t, write, fd, n, (int fd, const void *p, size_t n), (fd, p, n))
TRANSFER(ssize_t, pwrite, fd, n, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
TRANSFER(ssize_t, recv, fd, n, (int fd, void *p, size_t n, int flags), (fd, p, n, flags))
TRANSFER(ssize_t, send, fd, n, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags))

/* The first wait of an event loop; with FAIL_IN_LOOP, what comes before it is not counted. */
int
epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
	static __typeof__(&epoll_wait) next;

	if (next == NULL)
		next = NEXT(epoll_wait);
	atomic_store(&counting, true);
	return decide("epoll_wait", fd, NULL) == FAILS ? -1 : next(fd, events, n, timeout);
}

static mode_t
take_mode(int flags, va_list ap)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int
open(const char *path, int flags, ...)
{
	enum fate fate = decide("open", -1, path);
	va_list ap;
	int fd;

	if (fate == FAILS)
		return -1;
	va_start(ap, flags);
	fd = NEXT(open)(path, flags, take_mode(flags, ap));
	va_end(ap);
	if (fate == IS_LAST)
		die();
	return fd;
}

int
openat(int folder, const char *path, int flags, ...)
{
	enum fate fate = decide("openat", folder, path);
	va_list ap;
	int fd;

	if (fate == FAILS)
		return -1;
	va_start(ap, flags);
	fd = NEXT(openat)(folder, path, flags, take_mode(flags, ap));
	va_end(ap);
	if (fate == IS_LAST)
		die();
	return fd;
}

/* Only those that make a descriptor are counted; the argument is passed on as it came. */
int
fcntl(int fd, int command, ...)
{
	enum fate fate = command == F_DUPFD_CLOEXEC ? decide("fcntl", fd, NULL) : PASSES;
	va_list ap;
	void *arg;
	int rc;

	if (fate == FAILS)
		return -1;
	va_start(ap, command);
	arg = va_arg(ap, void *);
	va_end(ap);
	rc = NEXT(fcntl)(fd, command, arg);
	if (fate == IS_LAST)
		die();
	return rc;
}

/* ---- others --------------------------------------------------------- */

int
pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	return decide("pthread_create", -1, NULL) == FAILS ? plan.error : NEXT(pthread_create)(thread, attr, run, arg);
}

size_t
fwrite(const void *p, size_t size, size_t n, FILE *f)
{
	enum fate fate = decide("fwrite", fileno(f), NULL);

	if (fate == FAILS || fate == IS_SHORT)
		n = fate == FAILS ? 0 : n / 2;
	n = NEXT(fwrite)(p, size, n, f);
	if (fate == IS_LAST)
		die();
	return n;
}

int
fclose(FILE *f)
{
	enum fate fate = decide("fclose", fileno(f), NULL);
	int rc = NEXT(fclose)(f);

	if (fate == IS_LAST)
		die();
	if (fate == FAILS)
		errno = plan.error;
	return fate == FAILS ? EOF : rc;
}
