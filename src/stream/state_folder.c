/* The folder of checkpoints; see state_folder.h. */
#include "stream/state_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct state_folder {
	char *path;
	char *names[STATE_FILES]; /* with the path */
	int fd;
	int lock;
	bool whole; /* `checkpoint` was written by us, or its checksum was found right */
};

static const char *const file_names[STATE_FILES] = {"checkpoint", "checkpoint.tmp", "checkpoint.old"};

/* ---- open and close ------------------------------------------------- */

static int
make_names(struct state_folder *f, const char *path, struct err *e)
{
	if ((f->path = strdup(path)) == NULL)
		return err_set(e, EX_OSERR, "out of memory for the state's folder");
	for (int i = 0; i < STATE_FILES; i++)
		if (asprintf(&f->names[i], "%s/%s", path, file_names[i]) < 0) {
			f->names[i] = NULL;
			return err_set(e, EX_OSERR, "out of memory for the state's folder");
		}
	return 0;
}

/* A folder that others can write to is no place to keep what we believe. */
static int
check_owner(const struct state_folder *f, struct err *e)
{
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return err_set(e, EX_CANTCREAT, "cannot look at the folder %s: %s", f->path, strerror(errno));
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return err_set(e, EX_NOPERM, "the folder %s belongs to user %ld, not to this one (%ld): name another "
		    "--state", f->path, (long)st.st_uid, (long)geteuid());
	if ((st.st_mode & S_IWOTH) || ((st.st_mode & S_IWGRP) && st.st_gid != getegid() && st.st_gid != 0))
		return err_set(e, EX_NOPERM, "other users can write to the folder %s: take that away (chmod go-w) "
		    "first", f->path);
	return 0;
}

static int
take_lock(struct state_folder *f, struct err *e)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	f->lock = openat(f->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (f->lock < 0)
		return err_set(e, EX_CANTCREAT, "cannot open %s/lock: %s", f->path, strerror(errno));
	if (fcntl(f->lock, F_SETLK, &lock) == 0)
		return 0;
	if (fcntl(f->lock, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return err_set(e, ERR_IN_USE, "the state in %s is in use", f->path);
	return err_set(e, ERR_IN_USE, "the state in %s is in use by process %ld", f->path, (long)lock.l_pid);
}

static struct state_folder *
new_folder(const char *path, struct err *e)
{
	struct state_folder *f = calloc(1, sizeof *f);

	if (f == NULL) {
		err_set(e, EX_OSERR, "out of memory for the state's folder");
		return NULL;
	}
	f->fd = f->lock = -1;
	if (make_names(f, path, e) < 0) {
		state_folder_close(f);
		return NULL;
	}
	return f;
}

struct state_folder *
state_folder_open(const char *path, struct err *e)
{
	struct state_folder *f = new_folder(path, e);

	if (f == NULL)
		return NULL;
	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		err_set(e, EX_CANTCREAT, "cannot make the folder %s: %s", path, strerror(errno));
		goto fail;
	}
	if ((f->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		err_set(e, EX_CANTCREAT, "cannot open the folder %s: %s", path, strerror(errno));
		goto fail;
	}
	if (check_owner(f, e) < 0 || take_lock(f, e) < 0)
		goto fail;
	return f;
fail:
	state_folder_close(f);
	return NULL;
}

struct state_folder *
state_folder_look(const char *path, struct err *e)
{
	struct state_folder *f = new_folder(path, e);

	if (f == NULL)
		return NULL;
	if ((f->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		err_set(e, errno == ENOENT ? EX_NOINPUT : EX_CANTCREAT, "cannot open the folder %s: %s", path,
		    strerror(errno));
	else if (check_owner(f, e) == 0)
		return f;
	state_folder_close(f);
	return NULL;
}

void
state_folder_close(struct state_folder *f)
{
	if (f == NULL)
		return;
	if (f->lock >= 0)
		close(f->lock);
	if (f->fd >= 0)
		close(f->fd);
	for (int i = 0; i < STATE_FILES; i++)
		free(f->names[i]);
	free(f->path);
	free(f);
}

const char *
state_folder_get_path(const struct state_folder *f)
{
	return f->path;
}

const char *
state_folder_get_name(const struct state_folder *f, enum state_file which)
{
	return f->names[which];
}

/* ---- files ---------------------------------------------------------- */

/*
 * The folder's path is opened anew for each of them: if somebody removed the
 * folder and made it again, checkpoints must be found in the one that has the
 * name now.
 */
static int
enter(const struct state_folder *f)
{
	return open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Close the folder, and leave errno as it was. */
static void
leave(int folder)
{
	int error = errno;

	if (folder >= 0)
		close(folder);
	errno = error;
}

int
state_folder_open_file(const struct state_folder *f, enum state_file which, int flags)
{
	int folder = enter(f), fd = -1;

	/* O_NONBLOCK: a FIFO that somebody put there must not hold us up. */
	if (folder >= 0)
		fd = openat(folder, file_names[which], flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	leave(folder);
	return fd;
}

int
state_folder_create(struct state_folder *f, struct err *e)
{
	int folder = enter(f), fd = -1;
	bool gone = folder >= 0 && (unlinkat(folder, file_names[STATE_TMP], 0) == 0 || errno == ENOENT);

	if (gone)
		fd = openat(folder, file_names[STATE_TMP], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		err_set(e, EX_IOERR, "cannot write %s: %s", f->names[STATE_TMP], strerror(errno));
	leave(folder);
	return fd;
}

void
state_folder_set_whole(struct state_folder *f, bool whole)
{
	f->whole = whole;
}

/*
 * Between the two renames checkpoint.tmp and checkpoint.old are whole. Where
 * `checkpoint` is not whole the second rename alone replaces it, and
 * checkpoint.old stays what it was.
 */
static int
rename_all(struct state_folder *f, int folder, struct err *e)
{
	if (f->whole && renameat(folder, file_names[STATE_LAST], folder, file_names[STATE_OLD]) < 0 && errno != ENOENT)
		return err_set(e, EX_IOERR, "cannot rename %s: %s", f->names[STATE_LAST], strerror(errno));
	f->whole = false;
	if (renameat(folder, file_names[STATE_TMP], folder, file_names[STATE_LAST]) < 0)
		return err_set(e, EX_IOERR, "cannot rename %s: %s", f->names[STATE_TMP], strerror(errno));
	f->whole = true;
	if (fsync(folder) < 0)
		return err_set(e, EX_IOERR, "cannot sync %s: %s", f->path, strerror(errno));
	return 0;
}

int
state_folder_commit(struct state_folder *f, struct err *e)
{
	int folder, rc;

	if (f->lock < 0)
		return 0; /* it is looked at only */
	if ((folder = enter(f)) < 0)
		return err_set(e, EX_IOERR, "cannot open the folder %s: %s", f->path, strerror(errno));
	rc = rename_all(f, folder, e);
	leave(folder);
	return rc;
}

int
state_folder_keep(struct state_folder *f, enum state_file which, int64_t seq, char *name, size_t size, struct err *e)
{
	char kept[64];
	int folder = enter(f), rc = 0;

	snprintf(kept, sizeof kept, "checkpoint.at-%" PRId64, seq);
	snprintf(name, size, "%s/%s", f->path, kept);
	/* It is there already where the process ended before its first checkpoint. */
	if (folder < 0 || (linkat(folder, file_names[which], folder, kept, 0) < 0 && errno != EEXIST))
		rc = err_set(e, EX_IOERR, "cannot keep %s as %s: %s", f->names[which], name, strerror(errno));
	leave(folder);
	return rc;
}
