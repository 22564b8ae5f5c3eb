/* The number of a model's file; see identity.h. */
#include "stream/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

enum { PIECE = 1 << 20, SAMPLE = 4096, PATH_BYTES = 4096 + 32, SETTLED = 2 };

static const char magic[8] = "sinkdmod";

/* What the file `model` holds. While the first members are the same, so is the file. */
struct kept {
	char magic[8];
	uint64_t device, inode, size;
	int64_t modified[2], changed[2]; /* seconds and nanoseconds */
	uint64_t id;
	uint64_t sum;                    /* of the members above */
};

static uint64_t
sum_kept(const struct kept *k)
{
	return XXH3_64bits(k, offsetof(struct kept, sum));
}

/* All but the number. */
static int
look_at(int fd, const char *name, struct kept *k, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(e, EX_IOERR, "cannot look at the model %s: %s", name, strerror(errno));
	*k = (struct kept){.device = st.st_dev, .inode = st.st_ino, .size = (uint64_t)st.st_size,
		.modified = {st.st_mtim.tv_sec, st.st_mtim.tv_nsec},
		.changed = {st.st_ctim.tv_sec, st.st_ctim.tv_nsec}};
	memcpy(k->magic, magic, sizeof k->magic);
	return 0;
}

/* ---- the folder's file ----------------------------------------------- */

/* Is the number of such a file kept? */
static bool
recall(const char *folder, struct kept *now)
{
	char path[PATH_BYTES];
	struct kept k;
	bool same = false;
	int fd;

	snprintf(path, sizeof path, "%s/model", folder);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) < 0)
		return false;
	if (read(fd, &k, sizeof k) == sizeof k && k.sum == sum_kept(&k) &&
	    memcmp(&k, now, offsetof(struct kept, id)) == 0) {
		now->id = k.id;
		same = true;
	}
	close(fd);
	return same;
}

/*
 * The folder may be full or read-only: the file is then read again next time. So is one that changed just now: what
 * changes again within a tick of the file system's clock would look the same.
 */
static void
put_down(const char *folder, struct kept *k)
{
	char path[PATH_BYTES], tmp[PATH_BYTES];
	bool whole;
	int fd;

	if (llabs((long long)time(NULL) - k->changed[0]) < SETTLED)
		return;
	snprintf(path, sizeof path, "%s/model", folder);
	snprintf(tmp, sizeof tmp, "%s/model.tmp", folder);
	k->sum = sum_kept(k);
	(void)unlink(tmp);
	if ((fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
		return;
	whole = write(fd, k, sizeof *k) == sizeof *k;
	whole &= close(fd) == 0;
	if (!whole || rename(tmp, path) < 0)
		(void)unlink(tmp);
}

/* ---- the numbers ----------------------------------------------------- */

/* The sum of `part` bytes of every PIECE. Returns 0, or -1 with errno set. */
static int
add_parts(int fd, uint64_t size, size_t part, XXH3_state_t *x)
{
	char *bytes = malloc(part);
	int rc = bytes == NULL ? -1 : 0;

	for (uint64_t at = 0; at < size && rc == 0; at += PIECE)
		for (size_t n = 0; n < part;) {
			ssize_t some = pread(fd, bytes + n, part - n, (off_t)(at + n));

			if (some < 0 && errno == EINTR)
				continue;
			if (some < 0)
				rc = -1;
			if (some > 0)
				XXH3_64bits_update(x, bytes + n, (size_t)some);
			if (some <= 0)
				break;
			n += (size_t)some;
		}
	free(bytes);
	return rc;
}

static int
identity_compute(int fd, uint64_t size, size_t part, uint64_t *id)
{
	XXH3_state_t *x = XXH3_createState();
	int64_t length = (int64_t)size;
	int rc = -1;

	if (x != NULL) {
		XXH3_64bits_reset(x);
		XXH3_64bits_update(x, &length, sizeof length);
		rc = add_parts(fd, size, part, x);
		*id = XXH3_64bits_digest(x);
	}
	XXH3_freeState(x);
	return rc;
}

int
identity_find(int fd, const char *name, const char *folder, bool keep, uint64_t *id, struct err *e)
{
	struct kept k, after;

	if (look_at(fd, name, &k, e) < 0)
		return -1;
	if (!recall(folder, &k)) {
		if (identity_compute(fd, k.size, PIECE, &k.id) < 0)
			return err_set(e, EX_IOERR, "cannot read the model %s: %s", name, strerror(errno));
		if (look_at(fd, name, &after, e) < 0)
			return -1;
		if (memcmp(&after, &k, offsetof(struct kept, id)) != 0)
			return err_set(e, EX_IOERR, "the model %s changes while it is read: start again when it is "
			    "complete", name);
		if (keep)
			put_down(folder, &k);
	}
	*id = k.id;
	return 0;
}

bool
identity_was(int fd, uint64_t id)
{
	struct stat st;
	uint64_t sampled;

	return fstat(fd, &st) == 0 && identity_compute(fd, (uint64_t)st.st_size, SAMPLE, &sampled) == 0 &&
	    sampled == id;
}
