/* Input as lines; see input.h. Loop thread. */
#include "daemon/input.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "stream/lines.h"
#include "stream/text.h"

struct input {
	struct event_base *base;
	char *const *names;
	char **shown;       /* [n] names as valid UTF-8, NULL for standard input */
	int n, current;     /* names[current] is being read, or was the last to be */
	size_t max_line;
	const struct input_callbacks *callbacks;
	void *arg;
	int fd;             /* -1: none is open */
	bool at_end;        /* of the current one, and all its lines are taken */
	bool always_ready;  /* epoll refuses regular files and the like: those always have bytes or an end */
	bool stopped;
	struct event *ready; /* of fd: there are bytes */
	struct event *turn;  /* a turn of the loop with something to do besides */
	struct lines *lines;
};

static void on_ready(evutil_socket_t fd, short what, void *arg);
static void on_turn(evutil_socket_t fd, short what, void *arg);

static char *
make_shown(const char *name)
{
	struct buf b = {0};

	text_add_clean(&b, name, strlen(name));
	buf_add(&b, "", 1);
	if (b.failed)
		buf_fini(&b);
	return b.data;
}

static bool
is_stdin(const char *name)
{
	return strcmp(name, "-") == 0;
}

/* All names can be opened, as far as can be told before it is done. */
static int
check_names(struct input *in, struct err *e)
{
	for (int i = 0; i < in->n; i++) {
		if (is_stdin(in->names[i]))
			continue;
		if (access(in->names[i], R_OK) < 0)
			return err_set(e, EX_NOINPUT, "cannot read %s: %s", in->names[i], strerror(errno));
		if ((in->shown[i] = make_shown(in->names[i])) == NULL)
			return err_set(e, EX_OSERR, "out of memory for the input");
	}
	return 0;
}

struct input *
input_new(struct event_base *base, char *const *names, int n, size_t max_line,
    const struct input_callbacks *callbacks, void *arg, struct err *e)
{
	static char dash[] = "-";
	static char *const standard_input[] = {dash};
	struct input *in = calloc(1, sizeof *in);

	if (in == NULL)
		goto no_memory;
	in->base = base;
	in->names = n > 0 ? names : standard_input;
	in->n = n > 0 ? n : 1;
	in->current = -1;
	in->max_line = max_line;
	in->callbacks = callbacks;
	in->arg = arg;
	in->fd = -1;
	in->turn = evtimer_new(base, on_turn, in);
	in->shown = calloc((size_t)in->n, sizeof *in->shown);
	if (in->turn == NULL || in->shown == NULL)
		goto no_memory;
	if (check_names(in, e) < 0)
		goto fail;
	return in;
no_memory:
	err_set(e, EX_OSERR, "out of memory for the input");
fail:
	input_free(in);
	return NULL;
}

/* ---- one file after the other --------------------------------------- */

static void
close_current(struct input *in)
{
	if (in->ready != NULL)
		event_free(in->ready);
	in->ready = NULL;
	if (in->fd > STDIN_FILENO)
		close(in->fd);
	in->fd = -1;
	lines_free(in->lines);
	in->lines = NULL;
}

void
input_free(struct input *in)
{
	if (in == NULL)
		return;
	close_current(in);
	if (in->turn != NULL)
		event_free(in->turn);
	for (int i = 0; in->shown != NULL && i < in->n; i++)
		free(in->shown[i]);
	free(in->shown);
	free(in);
}

static int
open_next(struct input *in, struct err *e)
{
	const char *name = in->names[++in->current];

	/* Without O_NONBLOCK the loop would stand still until a FIFO has a writer. */
	in->fd = is_stdin(name) ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (in->fd < 0)
		return err_set(e, EX_NOINPUT, "cannot open %s: %s", name, strerror(errno));
	in->at_end = in->always_ready = false;
	in->lines = lines_new(in->max_line);
	in->ready = event_new(in->base, in->fd, EV_READ, on_ready, in);
	if (in->lines == NULL || in->ready == NULL)
		return err_set(e, EX_OSERR, "out of memory for the input");
	return 0;
}

static void
finish(struct input *in, const struct err *e)
{
	input_stop(in);
	in->callbacks->end(in->arg, e);
}

/* ---- reading -------------------------------------------------------- */

/* Give out the lines there are. Returns false when one was not taken. */
static bool
give_lines(struct input *in)
{
	const struct line *line;

	while (!in->stopped && (line = lines_peek(in->lines)) != NULL) {
		if (!in->callbacks->line(in->arg, in->shown[in->current], line))
			return false;
		lines_pop(in->lines);
	}
	return !in->stopped;
}

/* Read once, so that the work of a turn is bounded. Returns 1, 0 at the end, or -1 with *e set. */
static int
read_once(struct input *in, struct err *e)
{
	const char *name = in->shown[in->current] != NULL ? in->names[in->current] : "standard input";
	size_t room;
	char *p = lines_reserve(in->lines, &room);
	ssize_t n;

	if (p == NULL)
		return err_set(e, EX_OSERR, "out of memory for a line of %s", name);
	n = read(in->fd, p, room);
	if (n == 0)
		return 0;
	if (n > 0)
		lines_commit(in->lines, (size_t)n);
	else if (errno != EINTR && errno != EAGAIN)
		return err_set(e, errno == EISDIR ? EX_NOINPUT : EX_IOERR, "cannot read %s: %s", name, strerror(errno));
	return 1;
}

static void
wait_for_bytes(struct input *in)
{
	if (!in->always_ready && event_add(in->ready, NULL) < 0)
		in->always_ready = true;
	if (in->always_ready)
		input_resume(in);
}

/*
 * The lines that are left, then a read if there are bytes, and the lines of
 * that. A line that nobody takes ends the turn: input_resume begins another.
 */
static void
take_turn(struct input *in, bool bytes)
{
	struct err e = {0};
	int rc = 1;

	if (!give_lines(in))
		return;
	if (bytes && !lines_have_ended(in->lines)) {
		if ((rc = read_once(in, &e)) < 0) {
			finish(in, &e);
			return;
		}
		if (rc == 0)
			lines_end(in->lines);
		if (!give_lines(in))
			return;
	}
	in->at_end = lines_have_ended(in->lines);
	if (in->at_end)
		input_resume(in); /* the descriptor's event is not freed inside its own callback */
	else
		wait_for_bytes(in);
}

static void
on_ready(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	take_turn(arg, true);
}

static void
on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct input *in = arg;
	struct err e = {0};

	(void)fd;
	(void)what;
	if (in->at_end)
		close_current(in);
	if (in->fd < 0 && in->current + 1 == in->n)
		finish(in, &e);
	else if (in->fd < 0 && open_next(in, &e) < 0)
		finish(in, &e);
	else
		take_turn(in, in->always_ready);
}

void
input_resume(struct input *in)
{
	static const struct timeval now = {0, 0};

	/* A timer rather than event_active: that would run again before other descriptors are looked at. */
	if (!in->stopped)
		evtimer_add(in->turn, &now);
}

void
input_stop(struct input *in)
{
	in->stopped = true;
	evtimer_del(in->turn);
	if (in->ready != NULL)
		event_del(in->ready);
}
