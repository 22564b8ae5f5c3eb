/* A followed file's older ones, in their order; see rotation.h. */
#include "daemon/rotation.h"

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

enum { DIGITS = 4 }; /* of a number; more of them are a date */

static const char *const packed_names[] = {".gz", ".xz", ".bz2", ".zst", ".lz4", ".Z"};

struct rotated {
	int fd; /* -1: none */
	bool packed;
	struct rotation_mark mark;
};

int
rotation_open_file(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		errno = EINVAL;
		return -1;
	}
	return fd;
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

void
rotation_mark_file(struct rotation_mark *m, int fd, const char *path)
{
	char self[64], name[PATH_MAX];
	struct rotated r = {0};
	struct stat st;
	ssize_t n;

	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	n = readlink(self, name, sizeof name - 1);
	name[n < 0 ? 0 : n] = '\0';
	/* The name of a file that is deleted by now has a word behind it, and so is none. */
	if (!read_name(get_base(name), get_base(path), &r))
		r.mark.suffix[0] = '\0';
	if (fstat(fd, &st) == 0) {
		r.mark.modified = st.st_mtim;
		r.mark.inode = st.st_ino;
	}
	*m = r.mark;
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
	if (a->modified.tv_sec != b->modified.tv_sec)
		return a->modified.tv_sec > b->modified.tv_sec;
	if (a->modified.tv_nsec != b->modified.tv_nsec)
		return a->modified.tv_nsec > b->modified.tv_nsec;
	if (a->suffix[0] == '\0' || b->suffix[0] == '\0')
		return false;
	if (is_number(a->suffix) != is_number(b->suffix))
		return is_number(a->suffix);
	return is_number(a->suffix) ? atoi(a->suffix) < atoi(b->suffix) : strcmp(a->suffix, b->suffix) > 0;
}

/* ---- the folder ----------------------------------------------------- */

/* Is it one that comes after the mark, and before the best one so far? Then it is open. */
static bool
is_better(const char *path, struct rotated *r, const struct rotation_mark *after, const struct rotated *best)
{
	struct stat st;

	if ((r->fd = rotation_open_file(path)) < 0)
		return false;
	if (fstat(r->fd, &st) == 0 && st.st_ino != after->inode) {
		r->mark.modified = st.st_mtim;
		r->mark.inode = st.st_ino;
		/* While it is being compressed a file is there twice. */
		if (is_later(&r->mark, after) && !(r->packed && strcmp(r->mark.suffix, after->suffix) == 0) &&
		    (best->fd < 0 || is_later(&best->mark, &r->mark)))
			return true;
	}
	close(r->fd);
	return false;
}

static struct rotated
find_next(const char *path, const struct rotation_mark *after)
{
	char copy[PATH_MAX], other[2 * PATH_MAX];
	struct rotated best = {.fd = -1}, r;
	const struct dirent *entry;
	const char *folder;
	DIR *d;

	snprintf(copy, sizeof copy, "%s", path);
	folder = dirname(copy);
	d = opendir(folder);
	while (d != NULL && (entry = readdir(d)) != NULL) {
		if (!read_name(entry->d_name, get_base(path), &r))
			continue;
		snprintf(other, sizeof other, "%s/%s", folder, entry->d_name);
		/* What is open has its times and its content for good, whatever is renamed meanwhile. */
		if (!is_better(other, &r, after, &best))
			continue;
		if (best.fd >= 0)
			close(best.fd);
		best = r;
	}
	if (d != NULL)
		closedir(d);
	return best;
}

int
rotation_open_next(const char *path, const struct rotation_mark *after, bool *lost)
{
	struct rotated r = find_next(path, after);

	while (r.fd >= 0 && r.packed) {
		struct rotation_mark passed = r.mark;

		*lost = true;
		close(r.fd);
		r = find_next(path, &passed);
	}
	return r.fd;
}
