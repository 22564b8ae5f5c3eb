/* A followed file as a feed; see follow.h. Loop thread. */
#include "daemon/follow.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "daemon/rotation.h"
#include "daemon/service.h"
#include "stream/lines.h"

enum {
	HEAD = 256,       /* bytes at a file's start that tell it from another one with its inode number */
	TAIL = 1 << 16,   /* bytes at its end that are searched for the start of a line */
	LOOK_SECONDS = 5, /* where inotify sees nothing: network file systems */
	NANO = 1000000000,
};

struct follow {
	const struct follow_options *options;
	struct follow_options kept;
	const struct feed_callbacks *callbacks;
	void *arg;
	char folder[PATH_MAX];
	char *shown;
	int fd;               /* -1: the file is not there */
	ino_t inode;
	struct lines *lines;
	struct origin origin;
	struct place place;   /* after the last line that was taken */
	int notify, watch;    /* inotify, and its number for the file that is open */
	struct event *notified, *turn, *look;
	bool stopped;
};

static void follow_free(void *feed);
static void follow_resume(void *feed);

/* ---- which file ----------------------------------------------------- */

/* The hash of the file's first bytes, of those before offset. */
static uint64_t
hash_head(int fd, int64_t offset)
{
	char head[HEAD];
	ssize_t n = pread(fd, head, offset < HEAD ? (size_t)offset : HEAD, 0);

	return n > 0 ? XXH3_64bits(head, (size_t)n) : 0;
}

static void
use(struct follow *f, int fd, const struct place *p)
{
	struct stat st;
	char self[64];

	f->fd = fd;
	f->place = *p;
	f->inode = fstat(fd, &st) == 0 ? st.st_ino : 0;
	lines_start_at(f->lines, p);
	if (p->offset > 0)
		(void)lseek(fd, (off_t)p->offset, SEEK_SET);
	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	f->watch = inotify_add_watch(f->notify, self, IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF);
}

static int
renew_lines(struct follow *f)
{
	lines_free(f->lines);
	return (f->lines = lines_new(f->options->max_line)) == NULL ? -1 : 0;
}

static void
leave(struct follow *f)
{
	if (f->fd < 0)
		return;
	if (f->watch >= 0)
		inotify_rm_watch(f->notify, f->watch);
	close(f->fd);
	f->fd = f->watch = -1;
}

/* The file that comes after the one of that mark: a rotated one that was not read yet, or the one that has the name. */
static int
open_next(const struct follow *f, const struct rotation_mark *after, bool *lost)
{
	int last, fd;

	/* First: all that were in between have been renamed before this one got the name. */
	last = rotation_open_file(f->options->path);
	fd = rotation_open_next(f->options->path, after, lost);
	if (fd < 0)
		return last;
	if (last >= 0)
		close(last);
	return fd;
}

/* The start of the last line that is not finished, or the file's end. */
static int64_t
find_end(int fd)
{
	int64_t size = lseek(fd, 0, SEEK_END), from = size > TAIL ? size - TAIL : 0;
	char *tail = malloc(TAIL), *newline = NULL;
	ssize_t n = tail == NULL ? -1 : pread(fd, tail, TAIL, (off_t)from);

	if (n > 0)
		newline = memrchr(tail, '\n', (size_t)n);
	if (newline != NULL)
		size = from + (newline - tail) + 1;
	else if (n > 0 && from == 0)
		size = 0;
	free(tail);
	return size < 0 ? 0 : size;
}

/* ---- where it has come to ------------------------------------------- */

static void
follow_save(const void *feed, json_t *state)
{
	const struct follow *f = feed;
	struct rotation_mark mark;
	json_t *o = json_object();
	char hex[17];

	json_object_set_new(o, "path", json_string(f->shown));
	if (f->fd >= 0) {
		rotation_mark_file(&mark, f->fd, f->options->path);
		json_object_set_new(o, "modified", json_integer((json_int_t)mark.modified.tv_sec * NANO +
		    mark.modified.tv_nsec));
		snprintf(hex, sizeof hex, "%016" PRIx64, hash_head(f->fd, f->place.offset));
		json_object_set_new(o, "inode", json_integer((json_int_t)f->inode));
		json_object_set_new(o, "head", json_string(hex));
	}
	feed_save_place(o, &f->place, f->origin.format);
	json_object_set_new(state, "follow", o);
}

/* Is it the file that was saved, or a copy: does it begin as that one, and is it as long as that was read? */
static bool
is_saved(int fd, bool copy, const json_t *o, const struct place *p)
{
	const char *head = json_string_value(json_object_get(o, "head"));
	struct stat st;
	char hex[17];

	if (fd < 0 || head == NULL || fstat(fd, &st) < 0 || st.st_size < p->offset ||
	    (!copy && (json_int_t)st.st_ino != json_integer_value(json_object_get(o, "inode"))))
		return false;
	snprintf(hex, sizeof hex, "%016" PRIx64, hash_head(fd, p->offset));
	return strcmp(hex, head) == 0;
}

/* It was renamed meanwhile, perhaps: look among its neighbours. */
static int
find_renamed(const struct follow *f, const json_t *o, const struct place *p)
{
	json_int_t inode = json_integer_value(json_object_get(o, "inode"));
	DIR *d = opendir(f->folder);
	const struct dirent *entry;
	int fd = -1;

	while (d != NULL && fd < 0 && (entry = readdir(d)) != NULL) {
		char path[2 * PATH_MAX];

		if ((json_int_t)entry->d_ino != inode)
			continue;
		snprintf(path, sizeof path, "%s/%s", f->folder, entry->d_name);
		fd = rotation_open_file(path);
		if (fd >= 0 && !is_saved(fd, false, o, p)) {
			close(fd);
			fd = -1;
		}
	}
	if (d != NULL)
		closedir(d);
	return fd;
}

/* The saved file is not there, but perhaps a copy of it (copytruncate), or those that were written later. */
static void
restore_later(struct follow *f, const json_t *o, const struct place *p)
{
	static const struct place start;
	json_int_t modified = json_integer_value(json_object_get(o, "modified"));
	struct rotation_mark mark = {.modified = {(time_t)(modified / NANO), (long)(modified % NANO)}};
	bool lost = false;
	int fd = modified > 0 ? rotation_open_next(f->options->path, &mark, &lost) : -1;

	if (p->offset > 0 && is_saved(fd, true, o, p)) {
		use(f, fd, p);
		return;
	}
	log_message(LOG_WARNING, "%s is not the file that was read before, and that one is gone or compressed: "
	    "what was not read of it is lost", f->options->path);
	if (fd < 0)
		fd = rotation_open_file(f->options->path);
	if (fd >= 0)
		use(f, fd, &start);
}

static int
restore(struct follow *f, const json_t *o, struct err *e)
{
	const char *path = json_string_value(json_object_get(o, "path"));
	struct place p, start = {0};
	int fd;

	if (path == NULL || strcmp(path, f->shown) != 0)
		return err_set(e, EX_CONFIG, "the state is of another followed file, %s; use another --state for %s",
		    path == NULL ? "?" : path, f->options->path);
	if (!feed_load_place(o, &p, &f->origin.format))
		return err_set(e, EX_CONFIG, "the state does not say where in %s it was", path);
	fd = rotation_open_file(f->options->path);
	if (json_object_get(o, "inode") == NULL || is_saved(fd, false, o, &p)) {
		if (fd >= 0)
			use(f, fd, json_object_get(o, "inode") == NULL ? &start : &p);
		return 0;
	}
	if (fd >= 0)
		close(fd);
	if ((fd = find_renamed(f, o, &p)) >= 0)
		use(f, fd, &p);
	else
		restore_later(f, o, &p);
	return 0;
}

/* ---- reading -------------------------------------------------------- */

static void
finish(struct follow *f, const struct err *e)
{
	follow_ops.stop(f);
	f->callbacks->end(f->arg, e);
}

/* Returns false when a line was not taken. */
static bool
give_lines(struct follow *f)
{
	return feed_give_lines(f->callbacks, f->arg, &f->origin, f->lines, &f->place, &f->stopped);
}

/* Returns bytes read, 0 for none now, or -1 with *e set. */
static ssize_t
read_once(struct follow *f, struct err *e)
{
	size_t room;
	char *p = lines_reserve(f->lines, &room);
	ssize_t n;

	if (p == NULL)
		return err_set(e, EX_OSERR, "out of memory for a line of %s", f->options->path);
	if ((n = read(f->fd, p, room)) > 0)
		lines_commit(f->lines, (size_t)n);
	else if (n < 0 && errno != EINTR && errno != EAGAIN)
		return err_set(e, EX_IOERR, "cannot read %s: %s", f->options->path, strerror(errno));
	return n < 0 ? 0 : n;
}

/* Was it cut to less than was read of it? */
static bool
is_truncated(const struct follow *f)
{
	struct stat st;

	return fstat(f->fd, &st) == 0 && st.st_size < lseek(f->fd, 0, SEEK_CUR);
}

/* Was it rotated more than once? Asked at its end only. */
static bool
has_next(const struct follow *f)
{
	struct rotation_mark mark;
	struct stat st;
	bool lost = false;
	int fd;

	if (fstat(f->fd, &st) < 0 || lseek(f->fd, 0, SEEK_CUR) < st.st_size)
		return false;
	rotation_mark_file(&mark, f->fd, f->options->path);
	if ((fd = rotation_open_next(f->options->path, &mark, &lost)) >= 0)
		close(fd);
	return fd >= 0;
}

/*
 * Has another file its name? While that one is empty, or not there, the writer
 * may still be at the old one.
 */
static bool
is_replaced(const struct follow *f)
{
	struct stat st;
	bool there = stat(f->options->path, &st) == 0;

	if (there && (st.st_ino == f->inode || st.st_size > 0))
		return st.st_ino != f->inode;
	return has_next(f);
}

/* What is left of the old file is given as a line; then the one that follows it is read from its start. */
static int
turn_over(struct follow *f, bool truncated, struct err *e)
{
	static const struct place start;
	struct rotation_mark mark;
	bool lost = false;
	int fd;

	lines_end(f->lines);
	if (!give_lines(f))
		return 0; /* once more when there is room */
	if (renew_lines(f) < 0)
		return err_set(e, EX_OSERR, "out of memory for the input");
	if (truncated) {
		(void)lseek(f->fd, 0, SEEK_SET);
		f->place = start;
		return 0;
	}
	rotation_mark_file(&mark, f->fd, f->options->path);
	fd = open_next(f, &mark, &lost);
	leave(f);
	if (lost)
		log_message(LOG_WARNING, "%s: a file that had its name was compressed before it was read: "
		    "what is in it is lost", f->options->path);
	if (fd >= 0)
		use(f, fd, &start);
	return 0;
}

static int
take_turn(struct follow *f, struct err *e)
{
	bool truncated, replaced;
	ssize_t n;
	int fd;

	if (!give_lines(f))
		return 0;
	if (f->fd < 0) {
		static const struct place start;

		if ((fd = rotation_open_file(f->options->path)) < 0)
			return 0;
		use(f, fd, &start);
	}
	if (!lines_have_ended(f->lines)) {
		/* Asked before reading: a file that was replaced by then has no more once nothing comes. */
		truncated = is_truncated(f);
		replaced = is_replaced(f);
		if (!truncated) {
			if ((n = read_once(f, e)) < 0)
				return -1;
			if (n > 0) {
				if (give_lines(f))
					follow_resume(f);
				return 0;
			}
			if (!replaced)
				return 0;
		}
	} else
		truncated = is_truncated(f);
	if (turn_over(f, truncated, e) < 0)
		return -1;
	if (!lines_have_ended(f->lines))
		follow_resume(f);
	return 0;
}

static void
on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct follow *f = arg;
	struct err e = {0};

	(void)fd;
	(void)what;
	if (take_turn(f, &e) < 0)
		finish(f, &e);
}

static void
on_notified(evutil_socket_t fd, short what, void *arg)
{
	union {
		struct inotify_event first;
		char bytes[4096];
	} buf;

	(void)what;
	while (read(fd, &buf, sizeof buf) > 0)
		; /* what it was does not matter: the file is looked at */
	follow_resume(arg);
}

static void
on_look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	follow_resume(arg);
}

/* ---- start and end -------------------------------------------------- */

static int
watch_folder(struct follow *f, struct event_base *base, struct err *e)
{
	static const struct timeval interval = {LOOK_SECONDS, 0};
	char copy[PATH_MAX];

	if (strlen(f->options->path) >= sizeof copy)
		return err_set(e, EX_USAGE, "the name of the file to follow is too long");
	snprintf(copy, sizeof copy, "%s", f->options->path);
	snprintf(f->folder, sizeof f->folder, "%s", dirname(copy));
	if ((f->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) < 0)
		return err_set(e, EX_OSERR, "cannot watch files: %s", strerror(errno));
	if (inotify_add_watch(f->notify, f->folder, IN_CREATE | IN_MOVED_TO) < 0)
		return err_set(e, EX_NOINPUT, "cannot watch %s for %s: %s%s", f->folder, f->options->path,
		    strerror(errno), service_explain(f->options->path, errno, false));
	f->notified = event_new(base, f->notify, EV_READ | EV_PERSIST, on_notified, f);
	f->look = event_new(base, -1, EV_PERSIST, on_look, f);
	f->turn = evtimer_new(base, on_turn, f);
	if (f->notified == NULL || f->look == NULL || f->turn == NULL || event_add(f->notified, NULL) < 0 ||
	    event_add(f->look, &interval) < 0)
		return err_set(e, EX_OSERR, "out of memory for the input");
	return 0;
}

static int
begin(struct follow *f, struct err *e)
{
	const json_t *o = f->options->state == NULL ? NULL : json_object_get(f->options->state, "follow");
	struct place p = {0};
	int fd;

	if (o != NULL)
		return restore(f, o, e);
	fd = rotation_open_file(f->options->path);
	if (fd < 0 && errno != ENOENT)
		return err_set(e, EX_NOINPUT, "cannot follow %s: %s%s", f->options->path,
		    errno == EINVAL ? "it is not a regular file" : strerror(errno),
		    service_explain(f->options->path, errno, false));
	if (fd < 0)
		return 0;
	if (f->options->from_end)
		p.offset = find_end(fd);
	use(f, fd, &p);
	return 0;
}

struct follow *
follow_new(struct event_base *base, const struct follow_options *o, const struct feed_callbacks *callbacks, void *arg,
    struct err *e)
{
	struct follow *f = calloc(1, sizeof *f);

	if (f == NULL) {
		err_set(e, EX_OSERR, "out of memory for the input");
		return NULL;
	}
	f->kept = *o;
	f->options = &f->kept;
	f->callbacks = callbacks;
	f->arg = arg;
	f->fd = f->notify = f->watch = -1;
	f->origin.format = o->format;
	f->origin.name = f->shown = feed_make_name(o->path);
	if (f->shown == NULL || renew_lines(f) < 0) {
		err_set(e, EX_OSERR, "out of memory for the input");
		goto fail;
	}
	if (watch_folder(f, base, e) < 0 || begin(f, e) < 0)
		goto fail;
	f->kept.state = NULL;
	return f;
fail:
	follow_free(f);
	return NULL;
}

static void
follow_free(void *feed)
{
	struct follow *f = feed;
	struct event *events[] = {f->notified, f->turn, f->look};

	for (size_t i = 0; i < sizeof events / sizeof *events; i++)
		if (events[i] != NULL)
			event_free(events[i]);
	leave(f);
	if (f->notify >= 0)
		close(f->notify);
	lines_free(f->lines);
	free(f->shown);
	free(f);
}

static void
follow_resume(void *feed)
{
	static const struct timeval now = {0, 0};
	struct follow *f = feed;

	if (!f->stopped)
		evtimer_add(f->turn, &now);
}

static void
follow_stop(void *feed)
{
	struct follow *f = feed;

	f->stopped = true;
	evtimer_del(f->turn);
	event_del(f->notified);
	event_del(f->look);
}

const struct feed_ops follow_ops = {follow_resume, follow_stop, follow_free, follow_save};
