/* Where a start goes on in the output's file; see resume.h. */
#include "daemon/output/resume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/identity.h"
#include "daemon/output/output_lines.h"

enum { PARTS = 64 }; /* files that may have been begun since the checkpoint */

struct mark {
	const char *path, *key;
	dev_t device;
	struct identity id; /* modified: when it was marked, by the clock that files' times come from */
};

/* A file with lines of ours that come after the checkpoint. */
struct part {
	int fd;
	bool own;         /* fd is to be closed */
	int64_t cut;
	char name[PATH_MAX];
};

struct parts {
	const struct resume *r;
	struct mark mark;
	struct part part[PARTS];
	int n;
	int64_t last; /* number of the last event in them */
	int *error;   /* errno of what could not be read: then nobody knows what is to be cut */
};

/* ---- marks ---------------------------------------------------------- */

json_t *
resume_mark_file(int fd, const char *path, const char *key, struct err *e)
{
	struct identity id;
	char full[PATH_MAX];
	struct stat st;
	json_t *o;

	if (fstat(fd, &st) == 0)
		id = (struct identity){.inode = st.st_ino, .offset = st.st_size};
	else
		id.offset = -1;
	if (id.offset < 0 || identity_read_tail(&id, fd) < 0) {
		err_set(e, EX_IOERR, "cannot read the end of %s: %s", path, strerror(errno));
		return NULL;
	}
	clock_gettime(CLOCK_REALTIME_COARSE, &id.modified);
	o = json_pack("{s:s*, s:s, s:I, s:I, s:I}", "path", realpath(path, full), "key", key,
	    "device", (json_int_t)st.st_dev, "inode", (json_int_t)st.st_ino, "size", (json_int_t)st.st_size);
	if (o == NULL) {
		err_set(e, EX_OSERR, "out of memory for a checkpoint");
		return NULL;
	}
	identity_save_hash(o, "tail", id.tail);
	identity_save_time(o, "time", &id.modified);
	return o;
}

static int
read_mark(struct mark *m, const struct resume *r, struct err *e)
{
	const char *path = json_string_value(json_object_get(r->mark, "path"));
	const char *key = json_string_value(json_object_get(r->mark, "key"));
	int64_t size = json_integer_value(json_object_get(r->mark, "size"));

	m->id = (struct identity){.offset = size, .tail_len = size < IDENTITY_TAIL ? (size_t)size : IDENTITY_TAIL};
	if (key == NULL || size < 0 || !identity_load_hash(r->mark, "tail", &m->id.tail))
		return err_set(e, EX_CONFIG, "the state does not say where the output was");
	/* Without a path the file was removed or renamed when it was marked. */
	m->path = path != NULL ? path : r->path;
	m->key = key;
	m->device = (dev_t)json_integer_value(json_object_get(r->mark, "device"));
	m->id.inode = (ino_t)json_integer_value(json_object_get(r->mark, "inode"));
	(void)identity_load_time(r->mark, "time", &m->id.modified);
	return 0;
}

static bool
is_inode(const struct mark *m, const struct stat *st)
{
	return st->st_dev == m->device && st->st_ino == m->id.inode;
}

static int
get_stat(const struct parts *p, int fd, struct stat *st)
{
	int rc = fstat(fd, st);

	if (rc < 0)
		*p->error = errno;
	return rc;
}

/*
 * Does the file begin with what was there at the mark? The bytes decide, so that
 * a file that was copied or moved to another disk is found as well; an empty
 * file has none, and is known by its inode alone.
 */
static bool
resume_fits(const struct parts *p, int fd)
{
	const struct mark *m = &p->mark;
	struct stat st;
	int rc;

	if (get_stat(p, fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < m->id.offset)
		return false;
	if (m->id.offset == 0)
		return is_inode(m, &st);
	if ((rc = identity_check_content(&m->id, fd)) < 0)
		*p->error = errno;
	return rc > 0;
}

/* ---- files beside --------------------------------------------------- */

/* Its own name, or that with a dot or a dash and something behind it. */
static bool
is_related(const char *name, const char *base)
{
	size_t len = strlen(base);

	return strncmp(name, base, len) == 0 && (name[len] == '\0' || name[len] == '.' || name[len] == '-');
}

/* Look before it is opened: a device or a FIFO may not like that. */
static int
open_candidate(const struct parts *p, const char *name)
{
	struct stat st;
	int fd = -1;

	if (lstat(name, &st) == 0) {
		if (!S_ISREG(st.st_mode))
			return -1;
		fd = open(name, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK);
	}
	/* Gone meanwhile, or somebody else's: no candidate. */
	if (fd < 0 && errno != ENOENT && errno != EACCES && errno != EPERM && errno != EROFS && errno != ETXTBSY)
		*p->error = errno;
	return fd;
}

/*
 * Open the first file in the folder of `path` that is wanted: the one with the
 * mark's inode, or else one with a related name. Returns a descriptor, with what
 * it is called in name, or -1.
 */
static int
find_beside(const char *path, bool related, bool (*wanted)(const struct parts *p, int fd), const struct parts *p,
    char name[PATH_MAX])
{
	char copies[2][PATH_MAX]; /* dirname and basename write into what they are given */
	const struct dirent *entry;
	const char *folder, *base;
	int found = -1;
	DIR *d;

	for (int i = 0; i < 2; i++)
		snprintf(copies[i], sizeof copies[i], "%s", path);
	folder = dirname(copies[0]);
	base = basename(copies[1]);
	d = opendir(folder);
	if (d == NULL && errno != ENOENT && errno != EACCES)
		*p->error = errno;
	while (d != NULL && found < 0 && (entry = readdir(d)) != NULL) {
		if ((related ? !is_related(entry->d_name, base) : entry->d_ino != p->mark.id.inode) ||
		    snprintf(name, PATH_MAX, "%s/%s", folder, entry->d_name) >= PATH_MAX)
			continue;
		found = open_candidate(p, name);
		if (found >= 0 && !wanted(p, found)) {
			close(found);
			found = -1;
		}
	}
	if (d != NULL)
		closedir(d);
	return found;
}

static bool
is_marked_inode(const struct parts *p, int fd)
{
	struct stat st;

	return get_stat(p, fd, &st) == 0 && is_inode(&p->mark, &st) && resume_fits(p, fd);
}

static bool
is_marked_copy(const struct parts *p, int fd)
{
	return p->mark.id.offset > 0 && resume_fits(p, fd);
}

static bool
is_known(const struct parts *p, int fd)
{
	struct stat one, other;

	if (get_stat(p, fd, &one) < 0 || !S_ISREG(one.st_mode))
		return true;
	for (int i = 0; i < p->n; i++)
		if (get_stat(p, p->part[i].fd, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino)
			return true;
	return false;
}

/*
 * Does it begin with the event that comes next, and was it written to since the
 * checkpoint? An older file that happens to begin so is of an earlier stream.
 */
static bool
is_next(const struct parts *p, int fd)
{
	struct stat st;
	int64_t at;

	if (is_known(p, fd) || get_stat(p, fd, &st) < 0 || clock_is_earlier(&st.st_mtim, &p->mark.id.modified))
		return false;
	return output_lines_find_first(fd, p->mark.key, -1, &at, p->error) == p->last + 1;
}

/* ---- the parts ------------------------------------------------------ */

static void
resume_add(struct parts *p, int fd, const char *name, int64_t cut)
{
	struct part *q = &p->part[p->n++];
	int64_t last = output_lines_find_last(fd, p->mark.key, cut, p->error);

	*q = (struct part){.fd = fd, .own = fd != p->r->fd, .cut = cut};
	snprintf(q->name, sizeof q->name, "%s", name);
	if (last > p->last)
		p->last = last;
}

/* Where others wrote to the marked file since, it is left as it is. */
static void
add_if_ours(struct parts *p, int fd, const char *name)
{
	struct stat st;
	int64_t cut = p->mark.id.offset;

	if (!output_lines_is_ours(fd, p->mark.key, cut, p->error) && *p->error == 0 && get_stat(p, fd, &st) == 0) {
		log_message(LOG_WARNING, "%s was written to by others after event %" PRId64 ": it is left as it is",
		    name, p->r->seq);
		cut = (int64_t)st.st_size;
	}
	resume_add(p, fd, name, cut);
}

/* The marked file first. Returns false if it is not to be found. */
static bool
add_marked(struct parts *p)
{
	char name[PATH_MAX];
	int fd = -1;

	if (p->r->path != NULL && resume_fits(p, p->r->fd)) {
		add_if_ours(p, p->r->fd, p->r->path);
		return true;
	}
	if (p->mark.path != NULL && (fd = find_beside(p->mark.path, false, is_marked_inode, p, name)) < 0)
		fd = find_beside(p->mark.path, true, is_marked_copy, p, name);
	if (fd >= 0)
		add_if_ours(p, fd, name);
	return fd >= 0;
}

/* Then those that were begun after it, each with the event that comes next. */
static void
add_others(struct parts *p)
{
	char name[PATH_MAX];
	int64_t at;
	int fd;

	while (p->n < PARTS) {
		bool current = p->r->path != NULL && is_next(p, p->r->fd);

		fd = current ? p->r->fd : -1;
		if (current)
			snprintf(name, sizeof name, "%s", p->r->path);
		else if (p->r->path != NULL)
			fd = find_beside(p->r->path, true, is_next, p, name);
		if (fd < 0)
			return;
		output_lines_find_first(fd, p->mark.key, -1, &at, p->error);
		resume_add(p, fd, name, at);
	}
}

/* The last one first: if this is interrupted, the next start finds the same chain. */
static int
resume_cut(const struct parts *p, struct err *e)
{
	if (*p->error != 0)
		return err_set(e, EX_IOERR, "cannot find out where to go on in %s: %s",
		    p->r->path != NULL ? p->r->path : "the output", strerror(*p->error));
	for (int i = p->n - 1; i >= 0; i--) {
		const struct part *q = &p->part[i];
		struct stat st;

		if (fstat(q->fd, &st) < 0 || (st.st_size > q->cut && ftruncate(q->fd, (off_t)q->cut) < 0))
			return err_set(e, EX_IOERR, "cannot cut %s: %s", q->name, strerror(errno));
	}
	return 0;
}

/* ---- warnings ------------------------------------------------------- */

/* Events after the checkpoint that the current file has, though it is none of the parts. */
static void
tell_doubled(const struct parts *p)
{
	int64_t last;

	if (p->r->path == NULL || is_known(p, p->r->fd) ||
	    (last = output_lines_find_last(p->r->fd, p->mark.key, 0, p->error)) <= p->r->seq)
		return;
	log_message(LOG_WARNING, "%s holds events up to %" PRId64 " already, and the checkpoint was made at event "
	    "%" PRId64
	    ": the numbers between may be there twice", p->r->path, last, p->r->seq);
}

static void
tell_moved(const struct parts *p)
{
	if (p->part[0].fd == p->r->fd)
		return;
	log_message(LOG_NOTICE, "the output of the checkpoint is %s now; it ends with event %" PRId64
	    ", and the stream goes on in %s", p->part[0].name, p->r->seq, p->r->path != NULL ? p->r->path
	    : "the output");
}

/*
 * No file holds what the marked one held. Where its inode is still the output's,
 * it was cut while we had it open: then all that is in it after the checkpoint is
 * ours. In another file only what follows the checkpoint directly is.
 */
static int
cut_what_is_left(struct parts *p, struct err *e)
{
	struct stat st;
	int64_t at;

	if (*p->error != 0)
		return resume_cut(p, e); /* says so */
	log_message(LOG_WARNING, "what %s held at the checkpoint is not in it any more, nor in a file beside it: "
	    "events after number %" PRId64 " may be there twice, here and where it was moved to",
	    p->mark.path != NULL ? p->mark.path : "the output", p->r->seq);
	if (p->r->path == NULL || get_stat(p, p->r->fd, &st) < 0 || !is_inode(&p->mark, &st))
		add_others(p);
	else if (output_lines_find_first(p->r->fd, p->mark.key, p->r->seq, &at, p->error) >= 0)
		resume_add(p, p->r->fd, p->r->path, at);
	if (resume_cut(p, e) < 0)
		return -1;
	tell_doubled(p);
	return 0;
}

/* An earlier version noted no more than the file's name, as it was given, and its size. */
static int
cut_to_size(const struct resume *r, struct err *e)
{
	const char *was = json_string_value(json_object_get(r->mark, "path"));
	int64_t size = json_integer_value(json_object_get(r->mark, "size"));
	struct stat st;

	if (was == NULL || r->path == NULL || strcmp(was, r->path) != 0)
		return 0;
	if (fstat(r->fd, &st) < 0 || (st.st_size > size && ftruncate(r->fd, (off_t)size) < 0))
		return err_set(e, EX_IOERR, "cannot cut %s: %s", was, strerror(errno));
	if (st.st_size < size)
		log_message(LOG_WARNING, "%s is shorter than it was at the checkpoint: it was renamed or cut by others",
		    was);
	return 0;
}

int
resume_output(const struct resume *r, struct err *e)
{
	struct parts *p;
	int rc = -1, error = 0;

	if (json_object_get(r->mark, "tail") == NULL)
		return cut_to_size(r, e);
	if ((p = calloc(1, sizeof *p)) == NULL)
		return err_set(e, EX_OSERR, "out of memory at the start");
	p->r = r;
	p->error = &error;
	p->last = r->seq;
	if (read_mark(&p->mark, r, e) < 0)
		goto out;
	if (!add_marked(p)) {
		rc = cut_what_is_left(p, e);
		goto out;
	}
	add_others(p);
	if ((rc = resume_cut(p, e)) == 0) {
		tell_moved(p);
		tell_doubled(p);
	}
out:
	for (int i = 0; i < p->n; i++)
		if (p->part[i].own)
			close(p->part[i].fd);
	free(p);
	return rc;
}
