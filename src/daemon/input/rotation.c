/* A followed file's older ones, in their order; see rotation.h. */
#include "daemon/input/rotation.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

enum {
	DIGITS = 4, /* of a number; more of them are a date */
	SCANS = 32, /* of a folder that changes all the time */
};

static const char *const packed_names[] = {".gz", ".xz", ".bz2", ".zst", ".lz4", ".Z"};

struct rotated {
	bool packed;
	int64_t size;
	struct rotation_mark mark;
	char name[NAME_MAX + 1]; /* "": there is none */
};

/* What is looked for: what comes after a mark, or holds what was read. */
struct wanted {
	const char *path; /* the followed file's */
	const struct rotation_mark *after;
	const struct identity *copy;
};

bool
rotation_is_absent(int error)
{
	return error == ENOENT || error == ENOTDIR;
}

int
rotation_open_file(const char *path)
{
	struct stat st;
	int why = EINVAL, fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		why = errno;
	else if (S_ISREG(st.st_mode))
		return fd;
	close(fd);
	errno = why;
	return -1;
}

/* ---- names ---------------------------------------------------------- */

static const char *
get_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? path : slash + 1;
}

/* Is it the name of an older file of base? Fills in the suffix, and whether it is compressed. */
static bool
read_name(const char *name, const char *base, struct rotated *r)
{
	size_t len = strlen(base), n;
	const char *rest = name + len + 1;

	if (strncmp(name, base, len) != 0 || (name[len] != '.' && name[len] != '-') || !isdigit((unsigned char)*rest))
		return false;
	n = strspn(rest, "0123456789-_:TZ");
	if (n >= sizeof r->mark.suffix)
		return false;
	memcpy(r->mark.suffix, rest, n);
	r->mark.suffix[n] = '\0';
	r->packed = rest[n] != '\0';
	for (size_t i = 0; i < sizeof packed_names / sizeof *packed_names; i++)
		if (strcmp(rest + n, packed_names[i]) == 0)
			return true;
	return !r->packed;
}

int
rotation_mark_file(struct rotation_mark *m, int fd, const char *path)
{
	char self[64], name[PATH_MAX];
	struct rotated r = {0};
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -1;
	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	n = readlink(self, name, sizeof name - 1);
	name[n < 0 ? 0 : n] = '\0';
	/* The name of a file that is deleted by now has a word behind it, and so is none. */
	if (!read_name(get_base(name), get_base(path), &r))
		r.mark.suffix[0] = '\0';
	r.mark.modified = st.st_mtim;
	r.mark.inode = st.st_ino;
	*m = r.mark;
	return 0;
}

void
rotation_mark_now(struct rotation_mark *m)
{
	*m = (struct rotation_mark){0};
	/* The clock that file systems take their times from. */
	clock_gettime(CLOCK_REALTIME_COARSE, &m->modified);
}

/* ---- order ---------------------------------------------------------- */

static bool
is_number(const char *suffix)
{
	return strlen(suffix) <= DIGITS && suffix[strspn(suffix, "0123456789")] == '\0';
}

/* The higher number is the older file, as is the earlier date; dates are older than numbers. */
static bool
is_later(const struct rotation_mark *a, const struct rotation_mark *b)
{
	if (clock_is_earlier(&a->modified, &b->modified) || clock_is_earlier(&b->modified, &a->modified))
		return clock_is_earlier(&b->modified, &a->modified);
	if (a->suffix[0] == '\0' || b->suffix[0] == '\0')
		return false;
	if (is_number(a->suffix) != is_number(b->suffix))
		return is_number(a->suffix);
	return is_number(a->suffix) ? atoi(a->suffix) < atoi(b->suffix) : strcmp(a->suffix, b->suffix) > 0;
}

/* ---- the folder ----------------------------------------------------- */

/* The followed file's folder. Returns NULL with errno set: ENOENT also if it may not be read and hides all files. */
static DIR *
rotation_open_folder(const char *path)
{
	char copy[PATH_MAX];
	DIR *d;

	snprintf(copy, sizeof copy, "%s", path);
	d = opendir(dirname(copy));
	if (d == NULL && (errno == EACCES || errno == ENOTDIR))
		errno = ENOENT;
	return d;
}

/* Does an open file hold what was read? Returns 1 or 0, or -1 with errno set. */
static int
check_content(DIR *d, const char *name, const struct identity *id)
{
	int fd = openat(dirfd(d), name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), rc;

	if (fd < 0)
		return errno == ENOENT || errno == EACCES ? 0 : -1;
	rc = identity_check_content(id, fd);
	fd_close_quietly(fd);
	return rc;
}

/* Is it one that is looked for, and before the best one so far? Returns 1 or 0, or -1 with errno set. */
static int
is_better(DIR *d, const struct rotated *r, const struct wanted *w, const struct rotated *best)
{
	if (best->name[0] != '\0' && !is_later(&best->mark, &r->mark))
		return 0;
	if (w->after != NULL) {
		/* While it is being compressed a file is there twice. */
		return r->mark.inode != w->after->inode && is_later(&r->mark, w->after) &&
		    !(r->packed && strcmp(r->mark.suffix, w->after->suffix) == 0);
	}
	/* A copy is not older than what was copied. */
	if (r->packed || r->size < w->copy->offset || clock_is_earlier(&r->mark.modified, &w->copy->modified))
		return 0;
	return check_content(d, r->name, w->copy);
}

/* Fill in what an entry of the folder is. Returns 1, 0: no older file, or -1 with errno set. */
static int
rotation_read_entry(DIR *d, const char *name, const char *path, struct rotated *r)
{
	struct stat st;

	*r = (struct rotated){0};
	if (!read_name(name, get_base(path), r))
		return 0;
	if (fstatat(dirfd(d), name, &st, 0) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISREG(st.st_mode))
		return 0;
	r->size = st.st_size;
	r->mark.modified = st.st_mtim;
	r->mark.inode = st.st_ino;
	snprintf(r->name, sizeof r->name, "%s", name);
	return 1;
}

/* The best one of the folder, or one without a name. Returns 0, or -1 with errno set. */
static int
scan(DIR *d, const struct wanted *w, struct rotated *best)
{
	const struct dirent *entry;
	struct rotated r;
	int rc;

	best->name[0] = '\0';
	rewinddir(d);
	for (;;) {
		errno = 0;
		if ((entry = readdir(d)) == NULL)
			return errno == 0 ? 0 : -1;
		if ((rc = rotation_read_entry(d, entry->d_name, w->path, &r)) > 0 &&
		    (rc = is_better(d, &r, w, best)) > 0)
			*best = r;
		if (rc < 0)
			return -1;
	}
}

/* The file that was found, unless its name is another one's by now. Returns a descriptor, or -1 with errno set. */
static int
open_found(DIR *d, const struct rotated *r)
{
	struct stat st;
	int why = EAGAIN, fd = openat(dirfd(d), r->name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0) {
		errno = errno == ENOENT ? EAGAIN : errno;
		return -1;
	}
	if (fstat(fd, &st) < 0)
		why = errno;
	else if (st.st_ino == r->mark.inode)
		return fd;
	close(fd);
	errno = why;
	return -1;
}

/*
 * A file that is renamed while its folder is read may be left out, so that two
 * readings in a row have to find the same one. Returns a descriptor, or -1 with
 * errno set; *best is what was found, also if it cannot be opened.
 */
static int
rotation_find(const struct wanted *w, struct rotated *best)
{
	DIR *d = rotation_open_folder(w->path);
	struct rotated before = {0};
	int fd = -1, why = EAGAIN;

	if (d == NULL)
		return -1;
	for (int i = 0; i < SCANS && fd < 0 && why == EAGAIN; i++) {
		if (scan(d, w, best) < 0)
			why = errno;
		else if (i > 0 && strcmp(best->name, before.name) == 0 && best->mark.inode == before.mark.inode) {
			if (best->name[0] == '\0')
				why = ENOENT;
			else if (best->packed)
				why = EACCES;
			else if ((fd = open_found(d, best)) < 0)
				why = errno;
		}
		before = *best;
	}
	closedir(d);
	errno = why;
	return fd;
}

/* See rotation_open_after, but only of the rotated files. */
static int
rotation_open_next(const char *path, const struct rotation_mark *after, bool *lost)
{
	struct rotation_mark passed = *after;
	struct wanted w = {.path = path, .after = &passed};
	struct rotated r = {0};
	int fd;

	while ((fd = rotation_find(&w, &r)) < 0 && r.name[0] != '\0' && (errno == EACCES || errno == EPERM)) {
		*lost = true;
		passed = r.mark;
	}
	return fd;
}

int
rotation_open_copy(const char *path, const struct identity *id)
{
	struct wanted w = {.path = path, .copy = id};
	struct rotated r = {0};

	return rotation_find(&w, &r);
}

/* Returns a descriptor, or -1 with errno set. */
static int
find_renamed(DIR *d, const struct identity *id)
{
	const struct dirent *entry;
	struct stat st;
	int rc;

	rewinddir(d);
	for (;;) {
		struct rotated r = {.mark.inode = id->inode};

		errno = 0;
		if ((entry = readdir(d)) == NULL) {
			errno = errno == 0 ? ENOENT : errno;
			return -1;
		}
		if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno != ENOENT)
				return -1;
			continue;
		}
		if (st.st_ino != id->inode || !S_ISREG(st.st_mode))
			continue;
		snprintf(r.name, sizeof r.name, "%s", entry->d_name);
		if ((rc = check_content(d, r.name, id)) != 0)
			return rc < 0 ? -1 : open_found(d, &r);
	}
}

/* The file that was read, by any name in the folder of path. Returns a descriptor, or -1 with errno set. */
static int
open_renamed(const char *path, const struct identity *id)
{
	DIR *d = rotation_open_folder(path);
	int fd = -1, why = ENOENT;

	if (d == NULL)
		return -1;
	/* More than once: while its folder is read it may be renamed, and so be left out. */
	for (int i = 0; i < SCANS && fd < 0 && (i < 2 || why == EAGAIN); i++) {
		fd = find_renamed(d, id);
		why = errno;
	}
	closedir(d);
	errno = why;
	return fd;
}

/* ---- copies that were made before a file is cut ---------------------- */

/* Have two files the same n bytes at a place? Returns 1 or 0, or -1 with errno set. */
static int
have_same_bytes(int a, int b, int64_t from, size_t n)
{
	char bytes[2][IDENTITY_TAIL];
	ssize_t got[2] = {identity_read(a, bytes[0], n, from), identity_read(b, bytes[1], n, from)};

	if (got[0] < 0 || got[1] < 0)
		return -1;
	return (size_t)got[0] == n && (size_t)got[1] == n && memcmp(bytes[0], bytes[1], n) == 0;
}

static struct timespec
get_time(const struct statx_timestamp *t)
{
	return (struct timespec){(time_t)t->tv_sec, t->tv_nsec};
}

/*
 * May a file be a copy of another that was not written to since? What was renamed is older than the file that has the
 * name now. The bytes alone do not tell: all lines of a log may be equal.
 */
static bool
can_be_copy(const struct statx *copy, const struct statx *of)
{
	const struct timespec modified[2] = {get_time(&copy->stx_mtime), get_time(&of->stx_mtime)};
	const struct timespec born[2] = {get_time(&copy->stx_btime), get_time(&of->stx_btime)};

	if (copy->stx_size > of->stx_size || clock_is_earlier(&modified[0], &modified[1]))
		return false;
	if (copy->stx_mask & of->stx_mask & STATX_BTIME)
		return !clock_is_earlier(&born[0], &born[1]);
	return copy->stx_size > 0;
}

/*
 * Is it a copy, or the beginning of one, of a file that is not cut yet (copytruncate)? Returns 1 or 0, or -1 with errno
 * set.
 */
static int
is_copy(int fd, int of)
{
	struct statx a, b;
	int64_t tail;
	int rc;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &a) < 0 ||
	    statx(of, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &b) < 0)
		return -1;
	if (!can_be_copy(&a, &b))
		return 0;
	tail = a.stx_size < IDENTITY_TAIL ? (int64_t)a.stx_size : IDENTITY_TAIL;
	rc = have_same_bytes(fd, of, 0, (size_t)tail);
	return rc <= 0 ? rc : have_same_bytes(fd, of, (int64_t)a.stx_size - tail, (size_t)tail);
}

/* ---- what to read --------------------------------------------------- */

int
rotation_open_after(const char *path, const struct rotation_mark *after, bool *lost)
{
	int last, why, fd, copied;

	/* First: all that were in between have been renamed before this one got the name. */
	last = rotation_open_file(path);
	why = errno;
	if (last < 0 && !rotation_is_absent(why))
		return -1;
	fd = rotation_open_next(path, after, lost);
	/* The file itself has all that a copy has, and the copy is there when the file is cut. */
	copied = fd < 0 || last < 0 ? 0 : is_copy(fd, last);
	if (copied == 0 && (fd >= 0 || !rotation_is_absent(errno))) {
		fd_close_quietly(last);
		return fd;
	}
	if (copied != 0) {
		why = errno;
		fd_close_quietly(fd);
	}
	if (copied < 0) {
		fd_close_quietly(last);
		last = -1;
	}
	errno = why;
	return last;
}

/* The file that was read by its name, if it still has that. Returns a descriptor, or -1 with errno set. */
static int
open_unmoved(const char *path, const struct identity *id)
{
	int fd = rotation_open_file(path), rc;
	struct stat st;

	if (fd < 0)
		return -1;
	if ((rc = fstat(fd, &st)) == 0)
		rc = st.st_ino == id->inode ? identity_check_content(id, fd) : 0;
	if (rc > 0)
		return fd;
	if (rc == 0)
		errno = ENOENT;
	fd_close_quietly(fd);
	return -1;
}

/*
 * The file was empty. What was written into it may have been copied and cut
 * since, so that the first of all that was written later is the next to read.
 * Only if the file got its first bytes at once its time does not tell so.
 */
static int
open_empty(const char *path, const struct identity *id)
{
	struct rotation_mark mark = {.modified = id->modified};
	int fd = open_renamed(path, id);
	bool lost = false;
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) < 0 || (st.st_size > 0 && !clock_is_earlier(&id->modified, &st.st_mtim))))
		return fd;
	if (fd < 0 && !rotation_is_absent(errno))
		return -1;
	fd_close_quietly(fd);
	return rotation_open_after(path, &mark, &lost);
}

int
rotation_open_saved(const char *path, const struct identity *id)
{
	int fd;

	if (identity_is_empty(id))
		return open_empty(path, id);
	fd = open_unmoved(path, id);
	if (fd < 0 && rotation_is_absent(errno))
		fd = open_renamed(path, id);
	if (fd < 0 && rotation_is_absent(errno))
		fd = rotation_open_copy(path, id);
	return fd;
}
