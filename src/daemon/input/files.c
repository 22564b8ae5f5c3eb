/* Standard input and files as a feed; see files.h. Loop thread. */
#include "daemon/input/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "daemon/service.h"
#include "stream/lines.h"

struct files {
	struct event_base *base;
	char *const *names;
	char **shown;       /* [n] names as valid UTF-8, NULL for standard input */
	int n, current;     /* names[current] is being read, or was the last to be */
	size_t max_line;
	const struct feed_callbacks *callbacks;
	void *arg;
	int fd;             /* -1: none is open */
	bool at_end;        /* of the current one, and all its lines are taken */
	bool always_ready;  /* epoll refuses regular files and the like: those always have bytes or an end */
	bool stopped;
	struct event *ready; /* of fd: there are bytes */
	struct event *turn;  /* a turn of the loop with something to do besides */
	struct lines *lines;
	struct origin origin; /* of the current one */
	struct place place;   /* after its last line that was taken, or where to begin the next one */
};

static void files_free(void *feed);
static void files_resume(void *feed);
static void files_stop(void *feed);
static void files_on_ready(evutil_socket_t fd, short what, void *arg);
static void files_on_turn(evutil_socket_t fd, short what, void *arg);

static bool
is_stdin(const char *name)
{
	return strcmp(name, "-") == 0;
}

int
files_check(const char *name, struct err *e)
{
	if (is_stdin(name) || file_check_read(name) == 0)
		return 0;
	return err_set(e, EX_NOINPUT, "cannot read %s: %s%s", name, strerror(errno),
	    service_explain(name, errno, false));
}

/* All names can be opened, as far as can be told before it is done. */
static int
check_names(struct files *f, struct err *e)
{
	for (int i = 0; i < f->n; i++) {
		if (files_check(f->names[i], e) < 0)
			return -1;
		if (!is_stdin(f->names[i]) && (f->shown[i] = feed_make_name(f->names[i])) == NULL)
			return err_set(e, EX_OSERR, "out of memory for the input");
	}
	return 0;
}

/* ---- where it has come to ------------------------------------------- */

static void
files_save(const void *feed, json_t *state)
{
	const struct files *f = feed;
	json_t *o = json_object(), *names = json_array();
	int current = f->current < 0 ? 0 : f->current;

	for (int i = 0; i < f->n; i++)
		json_array_append_new(names, f->shown[i] == NULL ? json_string("-") : json_string(f->shown[i]));
	json_object_set_new(o, "names", names);
	json_object_set_new(o, "current", json_integer(current));
	feed_save_place(o, &f->place, f->origin.format);
	json_object_set_new(state, "files", o);
}

static int
files_restore(struct files *f, const json_t *state, struct err *e)
{
	const json_t *o = json_object_get(state, "files"), *names = json_object_get(o, "names");
	json_int_t current = json_integer_value(json_object_get(o, "current"));

	if (o == NULL)
		return 0;
	if (!json_is_array(names) || json_array_size(names) != (size_t)f->n || current < 0 || current >= f->n)
		return err_set(e, EX_CONFIG, "the state is of other input files; name the same, or use another "
		    "--state");
	for (int i = 0; i < f->n; i++) {
		const char *was = json_string_value(json_array_get(names, (size_t)i));

		if (was == NULL || strcmp(was, f->shown[i] == NULL ? "-" : f->shown[i]) != 0)
			return err_set(e, EX_CONFIG, "the state is of another input file, %s; use another --state "
			    "for %s", was == NULL ? "?" : was, f->names[i]);
	}
	if (!feed_load_place(o, &f->place, &f->origin.format))
		return err_set(e, EX_CONFIG, "the state does not say where in the input files it was");
	f->current = (int)current - 1;
	return 0;
}

struct files *
files_new(struct event_base *base, const struct files_options *o, const struct feed_callbacks *callbacks, void *arg,
    struct err *e)
{
	static char dash[] = "-";
	static char *const standard_input[] = {dash};
	struct files *f = calloc(1, sizeof *f);

	if (f == NULL)
		goto no_memory;
	f->base = base;
	f->names = o->n > 0 ? o->names : standard_input;
	f->n = o->n > 0 ? o->n : 1;
	f->current = -1;
	f->origin.format = o->format;
	f->max_line = o->max_line;
	f->callbacks = callbacks;
	f->arg = arg;
	f->fd = -1;
	f->turn = evtimer_new(base, files_on_turn, f);
	f->shown = calloc((size_t)f->n, sizeof *f->shown);
	if (f->turn == NULL || f->shown == NULL)
		goto no_memory;
	if (check_names(f, e) < 0 || (o->state != NULL && files_restore(f, o->state, e) < 0))
		goto fail;
	return f;
no_memory:
	err_set(e, EX_OSERR, "out of memory for the input");
fail:
	files_free(f);
	return NULL;
}

/* ---- one file after the other --------------------------------------- */

static void
close_current(struct files *f)
{
	if (f->ready != NULL)
		event_free(f->ready);
	f->ready = NULL;
	if (f->fd > STDIN_FILENO)
		close(f->fd);
	f->fd = -1;
	lines_free(f->lines);
	f->lines = NULL;
}

static void
files_free(void *feed)
{
	struct files *f = feed;

	if (f == NULL)
		return;
	close_current(f);
	if (f->turn != NULL)
		event_free(f->turn);
	for (int i = 0; f->shown != NULL && i < f->n; i++)
		free(f->shown[i]);
	free(f->shown);
	free(f);
}

static int
files_open_next(struct files *f, struct err *e)
{
	const char *name = f->names[++f->current];

	/* Without O_NONBLOCK the loop would stand still until a FIFO has a writer. */
	f->fd = is_stdin(name) ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (f->fd < 0)
		return err_set(e, EX_NOINPUT, "cannot open %s: %s", name, strerror(errno));
	/* Pipes, and what comes on standard input, are not the same as before. */
	if (f->place.offset > 0 && (is_stdin(name) || lseek(f->fd, (off_t)f->place.offset, SEEK_SET) < 0))
		f->place = (struct place){0};
	f->at_end = f->always_ready = false;
	f->origin.name = f->shown[f->current];
	f->lines = lines_new(f->max_line);
	if (f->lines != NULL)
		lines_start_at(f->lines, &f->place);
	f->ready = event_new(f->base, f->fd, EV_READ, files_on_ready, f);
	if (f->lines == NULL || f->ready == NULL)
		return err_set(e, EX_OSERR, "out of memory for the input");
	return 0;
}

static void
files_finish(struct files *f, const struct err *e)
{
	files_stop(f);
	f->callbacks->end(f->arg, e);
}

/* ---- reading -------------------------------------------------------- */

/* Give out the lines there are. Returns false when one was not taken. */
static bool
files_give_lines(struct files *f)
{
	return feed_give_lines(f->callbacks, f->arg, &f->origin, f->lines, &f->place, &f->stopped);
}

/* Read once, so that the work of a turn is bounded. Returns 1, 0 at the end, or -1 with *e set. */
static int
files_read_once(struct files *f, struct err *e)
{
	const char *name = f->shown[f->current] != NULL ? f->names[f->current] : "standard input";
	size_t room;
	char *p = lines_reserve(f->lines, &room);
	ssize_t n;

	if (p == NULL)
		return err_set(e, EX_OSERR, "out of memory for a line of %s", name);
	n = read(f->fd, p, room);
	if (n == 0)
		return 0;
	if (n > 0)
		lines_commit(f->lines, (size_t)n);
	else if (errno != EINTR && errno != EAGAIN)
		return err_set(e, errno == EISDIR ? EX_NOINPUT : EX_IOERR, "cannot read %s: %s", name, strerror(errno));
	return 1;
}

static void
wait_for_bytes(struct files *f)
{
	if (!f->always_ready && event_add(f->ready, NULL) < 0)
		f->always_ready = true;
	if (f->always_ready)
		files_resume(f);
}

/*
 * The lines that are left, then a read if there are bytes, and the lines of
 * that. A line that nobody takes ends the turn: files_resume begins another.
 */
static void
files_take_turn(struct files *f, bool bytes)
{
	struct err e = {0};
	int rc = 1;

	if (!files_give_lines(f))
		return;
	if (bytes && !lines_have_ended(f->lines)) {
		if ((rc = files_read_once(f, &e)) < 0) {
			files_finish(f, &e);
			return;
		}
		if (rc == 0)
			lines_end(f->lines);
		if (!files_give_lines(f))
			return;
	}
	f->at_end = lines_have_ended(f->lines);
	if (f->at_end)
		files_resume(f); /* the descriptor's event is not freed inside its own callback */
	else
		wait_for_bytes(f);
}

static void
files_on_ready(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	files_take_turn(arg, true);
}

static void
files_on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct files *f = arg;
	struct err e = {0};

	(void)fd;
	(void)what;
	if (f->at_end) {
		close_current(f);
		if (f->current + 1 < f->n)
			f->place = (struct place){0};
		f->at_end = false;
	}
	if (f->fd < 0 && f->current + 1 == f->n)
		files_finish(f, &e);
	else if (f->fd < 0 && files_open_next(f, &e) < 0)
		files_finish(f, &e);
	else
		files_take_turn(f, f->always_ready);
}

static void
files_resume(void *feed)
{
	static const struct timeval now = {0, 0};
	struct files *f = feed;

	/* A timer rather than event_active: that would run again before other descriptors are looked at. */
	if (!f->stopped)
		evtimer_add(f->turn, &now);
}

static void
files_stop(void *feed)
{
	struct files *f = feed;

	f->stopped = true;
	evtimer_del(f->turn);
	if (f->ready != NULL)
		event_del(f->ready);
}

const struct feed_ops files_ops = {files_resume, files_stop, files_free, files_save};
