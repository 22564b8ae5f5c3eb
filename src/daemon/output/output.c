/* Output: whole lines to one descriptor; see output.h. Loop thread. */
#include "daemon/output/output.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct output {
	const char *name; /* what it is called in messages */
	int fd;
	bool regular, socket;
	bool failed;
	const struct output_callbacks *callbacks;
	void *arg;
	struct buf buf;
	size_t written;       /* of buf */
	size_t torn;          /* bytes written since the last newline */
	struct event *ready;  /* fd takes bytes */
	struct timeval patience; /* with which that is waited for; 0: for ever */
	struct event *gone;   /* a pipe's reader went away; NULL: cannot be told */
};

static void output_on_ready(evutil_socket_t fd, short what, void *arg);
static void output_on_gone(evutil_socket_t fd, short what, void *arg);

/* Standard descriptors stay open: they are the program's. */
static void
output_close(int fd)
{
	if (fd > STDERR_FILENO)
		close(fd);
}

/*
 * The write end of a pipe is never readable; epoll reports its error, "no
 * reader", to whoever waits for that. So a reader's end is seen while idle.
 */
static void
watch_reader(struct output *o, struct event_base *base, const struct stat *st)
{
	int flags = fcntl(o->fd, F_GETFL);

	if (!S_ISFIFO(st->st_mode) || flags < 0 || (flags & O_ACCMODE) != O_WRONLY)
		return;
	o->gone = event_new(base, o->fd, EV_READ, output_on_gone, o);
	if (o->gone != NULL)
		event_add(o->gone, NULL);
}

/*
 * A terminal is written to by a description of our own, which need not be
 * shared in blocking mode: poll calls it writable as soon as it has room for a
 * byte, and a write then waits for the rest.
 */
static int
open_standard(int standard)
{
	char self[32];
	int fd = -1;

	snprintf(self, sizeof self, "/proc/self/fd/%d", standard);
	if (isatty(standard))
		fd = open(self, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	return fd >= 0 ? fd : standard;
}

struct output *
output_new(struct event_base *base, int fd, const char *name, const struct output_callbacks *callbacks, void *arg,
    struct err *e)
{
	struct output *o = calloc(1, sizeof *o);
	struct stat st;

	if (o == NULL) {
		output_close(fd);
		err_set(e, EX_OSERR, "out of memory for the output");
		return NULL;
	}
	o->fd = fd;
	o->name = name;
	o->callbacks = callbacks;
	o->arg = arg;
	if ((o->ready = event_new(base, fd, EV_WRITE, output_on_ready, o)) == NULL)
		err_set(e, EX_OSERR, "out of memory for the output");
	else if (fstat(fd, &st) < 0)
		err_set(e, EX_IOERR, "cannot write to %s: %s", name, strerror(errno));
	else {
		o->regular = S_ISREG(st.st_mode);
		o->socket = S_ISSOCK(st.st_mode);
		watch_reader(o, base, &st);
		return o;
	}
	output_free(o);
	return NULL;
}

struct output *
output_new_standard(struct event_base *base, int standard, const struct output_callbacks *callbacks, void *arg,
    struct err *e)
{
	return output_new(base, open_standard(standard), standard == STDERR_FILENO ? "standard error"
	    : "standard output", callbacks, arg, e);
}

void
output_free(struct output *o)
{
	if (o == NULL)
		return;
	if (o->gone != NULL)
		event_free(o->gone);
	if (o->ready != NULL)
		event_free(o->ready);
	output_close(o->fd);
	buf_fini(&o->buf);
	free(o);
}

struct buf *
output_get_buf(struct output *o)
{
	return &o->buf;
}

bool
output_is_full(const struct output *o)
{
	return o->buf.len - o->written >= OUTPUT_FULL;
}

bool
output_is_drained(const struct output *o)
{
	return o->buf.len == 0;
}

/* ---- failure -------------------------------------------------------- */

/* The disk is full, say, in the middle of a line: take that part of the line back, if the file ends with it. */
static void
cut_torn_line(const struct output *o)
{
	off_t at = lseek(o->fd, 0, SEEK_CUR);
	struct stat st;

	if (!o->regular || o->torn == 0 || at < (off_t)o->torn || fstat(o->fd, &st) < 0 || st.st_size != at)
		return;
	if (ftruncate(o->fd, at - (off_t)o->torn) == 0)
		(void)lseek(o->fd, at - (off_t)o->torn, SEEK_SET);
}

static void
output_fail(struct output *o, const struct err *e)
{
	o->failed = true;
	event_del(o->ready);
	if (o->gone != NULL)
		event_del(o->gone);
	o->callbacks->failed(o->arg, e);
}

static void
fail_writing(struct output *o, int error)
{
	struct err e = {0};

	if (error != EPIPE && error != ECONNRESET) {
		cut_torn_line(o);
		err_set(&e, EX_IOERR, "cannot write to %s: %s", o->name, strerror(error));
	}
	output_fail(o, &e);
}

static void
output_on_gone(evutil_socket_t fd, short what, void *arg)
{
	struct output *o = arg;
	struct pollfd p = {.fd = o->fd, .events = POLLOUT};
	struct err e = {0};

	(void)fd;
	(void)what;
	if (!o->failed && poll(&p, 1, 0) > 0 && (p.revents & POLLERR))
		output_fail(o, &e);
}

/* ---- writing -------------------------------------------------------- */

static void
wait_until_ready(struct output *o)
{
	/* Once more would begin the time anew. */
	if (!event_pending(o->ready, EV_WRITE, NULL))
		event_add(o->ready, o->patience.tv_sec > 0 ? &o->patience : NULL);
}

void
output_set_patience(struct output *o, int seconds)
{
	o->patience.tv_sec = seconds;
	event_del(o->ready);
	output_flush(o);
}

static bool
can_write(const struct output *o)
{
	struct pollfd p = {.fd = o->fd, .events = POLLOUT};

	return o->regular || o->socket || poll(&p, 1, 0) != 0;
}

/*
 * Write some, without waiting. A pipe's descriptor may be shared with other
 * programs, so it is left in blocking mode; but if poll calls it writable it
 * takes PIPE_BUF bytes at once.
 */
static ssize_t
write_some(const struct output *o)
{
	const char *p = o->buf.data + o->written;
	size_t n = o->buf.len - o->written;

	if (o->socket)
		return send(o->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	return write(o->fd, p, o->regular || n < PIPE_BUF ? n : PIPE_BUF);
}

static void
count_written(struct output *o, size_t n)
{
	const char *from = o->buf.data + o->written, *newline = memrchr(from, '\n', n);

	o->torn = newline == NULL ? o->torn + n : n - (size_t)(newline - from) - 1;
	o->written += n;
}

void
output_flush(struct output *o)
{
	if (o->failed)
		return;
	while (o->written < o->buf.len) {
		ssize_t n;

		if (!can_write(o)) {
			wait_until_ready(o);
			return;
		}
		n = write_some(o);
		if (n >= 0)
			count_written(o, (size_t)n);
		else if (errno == EAGAIN) {
			wait_until_ready(o);
			return;
		} else if (errno != EINTR) {
			fail_writing(o, errno);
			return;
		}
	}
	o->written = 0;
	buf_clear(&o->buf);
	buf_trim(&o->buf, 2 * OUTPUT_FULL);
}

static void
output_on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct output *o = arg;
	struct err e;

	(void)fd;
	if (!(what & EV_WRITE)) {
		err_set(&e, EX_IOERR, "nothing was taken from %s for %lld s: what waited for it is lost", o->name,
		    (long long)o->patience.tv_sec);
		output_fail(o, &e);
		return;
	}
	output_flush(o);
	if (!o->failed && output_is_drained(o))
		o->callbacks->drained(o->arg);
}
