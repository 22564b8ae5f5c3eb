/* A followed file as a feed; see follow.h. Loop thread. */
#include "daemon/input/follow.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "daemon/input/rotation.h"
#include "daemon/input/target.h"
#include "daemon/input/tracked.h"
#include "daemon/service.h"
#include "stream/lines.h"

enum {
	TAIL = 1 << 16,   /* bytes at a file's end that are searched for the start of a line */
	LOOK_SECONDS = 5, /* where inotify sees nothing: network file systems */
};

/* Why what is held of an unfinished line is given as it is. */
enum ending {
	ENDING_NONE,
	ENDING_CUT,  /* the file was cut or written anew: it is read from its start */
	ENDING_OVER, /* the next file is read */
};

struct follow {
	const struct follow_options *options;
	struct follow_options kept;
	const struct feed_callbacks *callbacks;
	void *arg;
	char *shown;
	struct target named;           /* what the name stands for now */
	char path[PATH_MAX];           /* that of the file that is read, free of links; its older files lie beside it */
	struct tracked file;           /* it; none: wait for it */
	struct rotation_mark since;    /* while waiting: what was modified later is read */
	char next_path[PATH_MAX];
	struct tracked next;           /* what is read after it, if that is there already */
	bool passed;                   /* yet another file has the name, so that next will not be empty for long */
	struct lines *lines;
	enum ending ending;
	bool at_end;                   /* all was read that was there at the last look */
	struct origin origin;
	struct place place;            /* after the last line that was taken */
	struct identity_tail taken;    /* the bytes before that place */
	int notify;
	int trouble, failing;          /* errno of the name or the next file, and of the file that is read */
	int seen, told;                /* of these, the one at the last look, and the one that the user was told */
	struct event *notified, *turn, *look;
	bool stopped;
};

static void follow_free(void *feed);
static void follow_resume(void *feed);

/* ---- which file ----------------------------------------------------- */

static int
renew_lines(struct follow *f)
{
	lines_free(f->lines);
	return (f->lines = lines_new(f->options->max_line)) == NULL ? -1 : 0;
}

/* Read that file from a place on, with lines that are new. Takes fd over. Returns 0, or -1 with errno set. */
static int
use(struct follow *f, int fd, const char *path, const struct place *p)
{
	if (tracked_open(&f->file, fd, p->offset, f->notify) < 0)
		return -1;
	if (path != f->path)
		snprintf(f->path, sizeof f->path, "%s", path);
	f->place = *p;
	f->taken = f->file.tail;
	f->at_end = p->offset >= f->file.size;
	lines_start_at(f->lines, p);
	return 0;
}

/* Is it the file that is being read? Returns 1 or 0, or -1 with errno set. */
static int
is_current(const struct follow *f, int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? -1 : tracked_is(&f->file, &st);
}

/* A descriptor of another file than the one that is read, else -1 with errno set. */
static int
refuse_current(const struct follow *f, int fd)
{
	int rc = fd < 0 ? -1 : is_current(f, fd);

	if (fd < 0 || rc == 0)
		return fd;
	if (rc > 0)
		errno = ENOENT;
	fd_close_quietly(fd);
	return -1;
}

/*
 * A mark after which comes all that was modified at that time or later. Times of
 * files are those of the kernel's last tick, so that what happened one after the
 * other may well have the same one.
 */
static struct rotation_mark
mark_before(struct timespec t)
{
	if (t.tv_nsec > 0)
		t.tv_nsec--;
	else if (t.tv_sec > 0)
		t = (struct timespec){t.tv_sec - 1, 999999999};
	return (struct rotation_mark){.modified = t};
}

/* The file that follows the one that is read. Returns a descriptor and *path, or -1 with errno set: ENOENT: none. */
static int
open_successor(const struct follow *f, const char **path, bool *lost)
{
	bool elsewhere = strcmp(f->path, f->named.path) != 0;
	struct rotation_mark mark;
	int fd;

	if (rotation_mark_file(&mark, f->file.fd, f->path) < 0)
		return -1;
	*path = f->path;
	fd = refuse_current(f, rotation_open_after(f->path, &mark, lost));
	/* A folder that was left may be closed to us. */
	if (fd >= 0 || !elsewhere || (!rotation_is_absent(errno) && errno != EACCES))
		return fd;
	/* A link was made anew: of what it leads to, that counts which was written since then. */
	mark = mark_before(f->named.since);
	*path = f->named.path;
	return refuse_current(f, rotation_open_after(f->named.path, &mark, lost));
}

static void
follow_tell_lost(const struct follow *f)
{
	log_message(LOG_WARNING, "%s: a file that had its name is compressed, or may not be read: what is in it is "
	    "lost", f->options->path);
}

/* Another file has the name, or none: have the next one open and watched, even if it is empty. */
static void
hold_next(struct follow *f)
{
	bool lost = false;
	const char *path;
	int fd;

	tracked_close(&f->next, f->notify);
	fd = open_successor(f, &path, &lost);
	if (fd < 0 || tracked_open(&f->next, fd, 0, f->notify) < 0) {
		if (!rotation_is_absent(errno))
			f->trouble = errno;
		return;
	}
	memmove(f->next_path, path, strlen(path) + 1);
	if (lost)
		follow_tell_lost(f);
}

/* Nothing is read yet: begin with the first file that is there. */
static void
begin_waited(struct follow *f)
{
	static const struct place start;
	bool lost = false;
	int fd = rotation_open_after(f->named.path, &f->since, &lost);

	if (fd < 0 || use(f, fd, f->named.path, &start) < 0) {
		if (!rotation_is_absent(errno))
			f->trouble = errno;
		return;
	}
	if (lost)
		follow_tell_lost(f);
}

/* Who has the name now? */
static void
look_around(struct follow *f)
{
	const struct target *t = &f->named;

	target_look(&f->named, f->options->path, f->file.fd >= 0 ? f->path : NULL);
	f->trouble = t->error;
	if (t->error != 0 && !rotation_is_absent(t->error))
		return;
	if (f->file.fd < 0)
		begin_waited(f);
	if (f->file.fd < 0)
		return;
	if (t->error == 0 && tracked_is(&f->file, &t->st)) {
		tracked_close(&f->next, f->notify);
		snprintf(f->path, sizeof f->path, "%s", t->path);
		return;
	}
	/* What is held of another folder waits for all that is still written in this one. */
	if (f->next.fd < 0 || strcmp(f->next_path, f->path) != 0)
		hold_next(f);
	f->passed = t->error == 0 && !tracked_is(&f->next, &t->st);
}

static int
get_trouble(const struct follow *f)
{
	return f->trouble != 0 ? f->trouble : f->failing;
}

/* The user is told once of what is wrong, and once that it is over. */
static void
follow_tell(struct follow *f, int error)
{
	const char *path = f->options->path;

	if (error == f->told)
		return;
	f->told = error;
	if (error == 0)
		log_message(LOG_NOTICE, "%s is there: reading it", path);
	else if (rotation_is_absent(error))
		log_message(LOG_WARNING, "%s is not there: waiting for it", path);
	else if (error == EINVAL)
		log_message(LOG_WARNING, "%s is not a regular file: waiting for one", path);
	else
		log_message(LOG_WARNING, "cannot read %s: %s: trying again", path, strerror(error));
}

/* The start of the last line that is not finished, or the file's end. Returns -1 with errno set. */
static int64_t
find_end(int fd)
{
	static char tail[TAIL];
	const char *newline;
	struct stat st;
	int64_t from;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -1;
	from = st.st_size > TAIL ? st.st_size - TAIL : 0;
	if ((n = identity_read(fd, tail, TAIL, from)) < 0)
		return -1;
	if ((newline = memrchr(tail, '\n', (size_t)n)) != NULL)
		return from + (newline - tail) + 1;
	return from == 0 ? 0 : from + n;
}

/* ---- where it has come to ------------------------------------------- */

static void
follow_save(const void *feed, json_t *state)
{
	const struct follow *f = feed;
	struct identity id;
	json_t *o = json_object();

	json_object_set_new(o, "path", json_string(f->shown));
	if (f->file.fd >= 0) {
		tracked_identify(&f->file, &id);
		id.offset = f->place.offset;
		identity_set_tail(&id, &f->taken);
		identity_save(&id, o);
		json_object_set_new(o, "target", json_string(f->path)); /* left out if it is not UTF-8 */
	} else
		identity_save_time(o, "modified", &f->since.modified);
	feed_save_place(o, &f->place, f->origin.format);
	json_object_set_new(state, "follow", o);
}

/* The saved file is gone: go on with those that were written later. Returns 0, or -1 with errno set. */
static int
restore_later(struct follow *f, const char *path, const struct identity *id)
{
	static const struct place start;
	bool lost = false;
	int fd;

	log_message(LOG_WARNING, "%s is not the file that was read before, and that one is gone or compressed: "
	    "what was not read of it is lost", f->options->path);
	f->since = (struct rotation_mark){.modified = id->modified};
	fd = rotation_open_after(path, &f->since, &lost);
	if (fd >= 0)
		return use(f, fd, path, &start);
	if (!rotation_is_absent(errno))
		return -1;
	if (strcmp(path, f->named.path) != 0)
		f->since = mark_before(f->named.since);
	return 0;
}

static int
follow_restore(struct follow *f, const json_t *o, struct err *e)
{
	const char *path = json_string_value(json_object_get(o, "path"));
	const char *target = json_string_value(json_object_get(o, "target"));
	struct identity id;
	struct place p;
	int fd;

	if (path == NULL || strcmp(path, f->shown) != 0)
		return err_set(e, EX_CONFIG, "the state is of another followed file, %s; use another --state for %s",
		    path == NULL ? "?" : path, f->options->path);
	if (!feed_load_place(o, &p, &f->origin.format))
		return err_set(e, EX_CONFIG, "the state does not say where in %s it was", path);
	if (!identity_load(&id, o, p.offset)) {
		identity_load_time(o, "modified", &f->since.modified);
		return 0;
	}
	if (target == NULL || strlen(target) >= sizeof f->path)
		target = f->named.path;
	fd = rotation_open_saved(target, &id);
	if (fd >= 0 ? use(f, fd, target, &p) < 0 :
	    !rotation_is_absent(errno) || restore_later(f, target, &id) < 0)
		return err_set(e, EX_NOINPUT, "cannot look for what was read of %s before: %s%s", f->options->path,
		    strerror(errno), service_explain(target, errno, false));
	return 0;
}

/* ---- reading -------------------------------------------------------- */

static void
follow_finish(struct follow *f, const struct err *e)
{
	follow_ops.stop(f);
	f->callbacks->end(f->arg, e);
}

/* A line is on its way: remember the bytes that stand before the place after it. */
static bool
follow_on_line(void *arg, struct origin *from, const struct line *line)
{
	struct follow *f = arg;
	int64_t len = line->after.offset - f->place.offset;

	if (!f->callbacks->line(f->arg, from, line))
		return false;
	/* Of a line that is too long not all bytes are there. */
	if (line->cut || len < (int64_t)line->len || len > (int64_t)line->len + 1)
		f->taken.len = 0;
	if (!line->cut) {
		identity_tail_add(&f->taken, line->data, line->len);
		if (len != (int64_t)line->len)
			identity_tail_add(&f->taken, "\n", 1);
	}
	return true;
}

/* Returns false when a line was not taken. */
static bool
follow_give_lines(struct follow *f)
{
	static const struct feed_callbacks callbacks = {.line = follow_on_line};

	return feed_give_lines(&callbacks, f, &f->origin, f->lines, &f->place, &f->stopped);
}

/*
 * It does not hold what was read any more. If it was copied before (copytruncate),
 * what was not read is in the copy.
 */
static void
leave_cut(struct follow *f)
{
	struct identity id;
	int fd;

	tracked_identify(&f->file, &id);
	fd = identity_is_empty(&id) ? -1 : rotation_open_copy(f->path, &id);
	if (fd >= 0 && tracked_move(&f->file, fd, f->notify) == 0) {
		/* What follows the copy is not what followed the file that was copied: that may be the one. */
		tracked_close(&f->next, f->notify);
		look_around(f);
		follow_resume(f);
		return;
	}
	if (!identity_is_empty(&id) && !rotation_is_absent(errno)) {
		f->failing = errno;
		return;
	}
	if (!f->at_end)
		log_message(LOG_WARNING, "%s was cut or written anew before all of it was read: what was not read is "
		    "lost", f->options->path);
	f->ending = ENDING_CUT;
}

/* Is there something in the next file? Until then the writer may still be at this one. */
static bool
has_next_begun(const struct follow *f)
{
	struct stat st;

	return f->next.fd >= 0 && (f->passed || (fstat(f->next.fd, &st) == 0 && st.st_size > 0));
}

/* Returns 0, or -1 with *e set. */
static int
follow_read_once(struct follow *f, struct err *e)
{
	/* Asked before reading: when another file is in use by then, this one has no more once nothing comes. */
	bool over = has_next_begun(f);
	size_t room;
	char *p = lines_reserve(f->lines, &room);
	ssize_t n;
	int rc;

	if (p == NULL)
		return err_set(e, EX_OSERR, "out of memory for a line of %s", f->options->path);
	if ((n = tracked_peek(&f->file, p, room)) < 0)
		return err_set(e, EX_IOERR, "cannot read %s: %s", f->options->path, strerror(errno));
	rc = tracked_check(&f->file);
	f->failing = rc < 0 ? errno : 0;
	if (rc == 0)
		leave_cut(f);
	if (rc <= 0)
		return 0;
	f->at_end = n == 0;
	if (n > 0) {
		tracked_take(&f->file, p, (size_t)n);
		lines_commit(f->lines, (size_t)n);
		if (follow_give_lines(f))
			follow_resume(f);
	} else if (over)
		f->ending = ENDING_OVER;
	return 0;
}

/* All of this file is given: read it anew, or the next one. */
static int
turn_over(struct follow *f, struct err *e)
{
	static const struct place start;
	enum ending ending = f->ending;

	if (renew_lines(f) < 0)
		return err_set(e, EX_OSERR, "out of memory for the input");
	f->ending = ENDING_NONE;
	f->place = start;
	f->taken.len = 0;
	if (ending == ENDING_CUT)
		tracked_restart(&f->file);
	else {
		tracked_close(&f->file, f->notify);
		f->file = f->next;
		f->next.fd = f->next.watch = -1;
		f->at_end = false;
		memcpy(f->path, f->next_path, sizeof f->path);
		look_around(f);
	}
	follow_resume(f);
	return 0;
}

static int
follow_take_turn(struct follow *f, struct err *e)
{
	if (!follow_give_lines(f) || f->file.fd < 0)
		return 0;
	if (f->ending == ENDING_NONE && follow_read_once(f, e) < 0)
		return -1;
	if (f->ending == ENDING_NONE)
		return 0;
	if (!lines_have_ended(f->lines))
		lines_end(f->lines);
	/* What is left of the file is a line; once more when there is room. */
	return follow_give_lines(f) ? turn_over(f, e) : 0;
}

static void
follow_on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct follow *f = arg;
	struct err e = {0};

	(void)fd;
	(void)what;
	if (follow_take_turn(f, &e) < 0)
		follow_finish(f, &e);
}

/* Returns true if the name may stand for something else now. */
static bool
take_notice(struct follow *f, const struct inotify_event *ev)
{
	if (ev->wd >= 0 && ev->wd == f->file.watch)
		f->file.written = true;
	else if (ev->wd < 0 || target_is_concerned(&f->named, ev->wd, ev->len > 0 ? ev->name : ""))
		return true; /* or there were more than inotify could hold */
	return false;
}

static void
on_notified(evutil_socket_t fd, short what, void *arg)
{
	struct follow *f = arg;
	union {
		struct inotify_event first;
		char bytes[4096];
	} buf;
	bool look = false;
	ssize_t n;

	(void)what;
	while ((n = read(fd, &buf, sizeof buf)) > 0)
		for (const char *p = buf.bytes; p < buf.bytes + n;) {
			const struct inotify_event *ev = (const void *)p;

			look |= take_notice(f, ev);
			p += sizeof *ev + ev->len;
		}
	/* At once, also while there is no room for lines: who has the name now may not have it for long. */
	if (look)
		look_around(f);
	if (get_trouble(f) == 0)
		follow_tell(f, 0);
	follow_resume(f);
}

static void
follow_on_look(evutil_socket_t fd, short what, void *arg)
{
	struct follow *f = arg;
	int error;

	(void)fd;
	(void)what;
	f->file.written = true;
	look_around(f);
	/* What was so at the last look, too: for a moment nothing has the name whenever files are rotated. */
	error = get_trouble(f);
	if (error == 0 || error == f->seen)
		follow_tell(f, error);
	f->seen = error;
	follow_resume(f);
}

/* ---- start and end -------------------------------------------------- */

static int
follow_watch(struct follow *f, struct event_base *base, struct err *e)
{
	static const struct timeval interval = {LOOK_SECONDS, 0};

	if (strlen(f->options->path) >= sizeof f->path)
		return err_set(e, EX_USAGE, "the name of the file to follow is too long");
	if ((f->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) < 0)
		return err_set(e, EX_OSERR, "cannot watch files: %s", strerror(errno));
	f->named.notify = f->notify;
	f->notified = event_new(base, f->notify, EV_READ | EV_PERSIST, on_notified, f);
	f->look = event_new(base, -1, EV_PERSIST, follow_on_look, f);
	f->turn = evtimer_new(base, follow_on_turn, f);
	if (f->notified == NULL || f->look == NULL || f->turn == NULL || event_add(f->notified, NULL) < 0 ||
	    event_add(f->look, &interval) < 0)
		return err_set(e, EX_OSERR, "out of memory for the input");
	return 0;
}

/* The file need not be there, but the folder that it is to be in. */
static int
check_folder(const char *path, struct err *e)
{
	char copy[PATH_MAX];
	const char *folder;

	snprintf(copy, sizeof copy, "%s", path);
	folder = dirname(copy);
	if (access(folder, R_OK | X_OK) == 0)
		return 0;
	return err_set(e, EX_NOINPUT, "cannot watch %s for %s: %s%s", folder, path, strerror(errno),
	    service_explain(path, errno, false));
}

/* The folder at the end of the links may be closed to us, and yet the file in it can be read. */
static void
check_target_folder(const struct follow *f)
{
	char copy[PATH_MAX];
	const char *folder;

	snprintf(copy, sizeof copy, "%s", f->named.path);
	folder = dirname(copy);
	if (access(folder, R_OK | X_OK) < 0 && errno == EACCES)
		log_message(LOG_WARNING, "cannot list %s: older files of %s in it are not found", folder,
		    f->options->path);
}

/* With errno set. */
static int
follow_refuse_file(const char *path, struct err *e)
{
	return err_set(e, EX_NOINPUT, "cannot follow %s: %s%s", path,
	    errno == EINVAL ? "it is not a regular file" : strerror(errno), service_explain(path, errno, false));
}

/* Find out what the name stands for. */
static int
look_at_name(struct target *named, const char *path, struct err *e)
{
	if (check_folder(path, e) < 0)
		return -1;
	target_look(named, path, NULL);
	errno = named->error;
	return named->error == 0 || rotation_is_absent(named->error) ? 0 : follow_refuse_file(path, e);
}

/* Open the file that the name stands for. *fd is -1 if there is none yet. */
static int
open_named(const struct target *named, const char *path, int *fd, struct err *e)
{
	*fd = rotation_open_file(named->path);
	return *fd >= 0 || rotation_is_absent(errno) ? 0 : follow_refuse_file(path, e);
}

int
follow_check(const char *path, struct err *e)
{
	struct target named = {.notify = -1};
	int fd;

	if (look_at_name(&named, path, e) < 0 || open_named(&named, path, &fd, e) < 0)
		return -1;
	fd_close_quietly(fd);
	return fd >= 0;
}

static int
follow_begin(struct follow *f, struct err *e)
{
	const char *path = f->options->path;
	struct place p = {0};
	int fd;

	rotation_mark_now(&f->since);
	if (look_at_name(&f->named, path, e) < 0)
		return -1;
	check_target_folder(f);
	if (f->options->state != NULL && json_object_get(f->options->state, "follow") != NULL)
		return follow_restore(f, json_object_get(f->options->state, "follow"), e);
	if (open_named(&f->named, path, &fd, e) < 0)
		return -1;
	if (fd < 0)
		return 0;
	if (f->options->from_end && (p.offset = find_end(fd)) < 0) {
		fd_close_quietly(fd);
		return follow_refuse_file(path, e);
	}
	return use(f, fd, f->named.path, &p) == 0 ? 0 : follow_refuse_file(path, e);
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
	f->file.fd = f->file.watch = f->next.fd = f->next.watch = f->notify = -1;
	f->origin.format = o->format;
	f->origin.name = f->shown = feed_make_name(o->path);
	if (f->shown == NULL || renew_lines(f) < 0) {
		err_set(e, EX_OSERR, "out of memory for the input");
		goto fail;
	}
	if (follow_watch(f, base, e) < 0 || follow_begin(f, e) < 0)
		goto fail;
	f->kept.state = NULL;
	look_around(f);
	follow_tell(f, get_trouble(f));
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
	tracked_close(&f->next, f->notify);
	tracked_close(&f->file, f->notify);
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
