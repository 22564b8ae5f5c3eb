/* An open file that grows; see tracked.h. Loop thread. */
#include "daemon/input/tracked.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/fd.h"

static void
note(struct tracked *t, const struct stat *st)
{
	t->size = st->st_size;
	t->modified = st->st_mtim;
	t->written = false;
}

static void
tracked_watch(struct tracked *t, int notify)
{
	char self[64];

	snprintf(self, sizeof self, "/proc/self/fd/%d", t->fd);
	t->watch = inotify_add_watch(notify, self, IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF);
}

/* Without inotify's help, or where it has no number left, the file is looked at from time to time. */
static void
unwatch(int number, int notify)
{
	if (number >= 0)
		(void)inotify_rm_watch(notify, number);
}

/* How it begins and what stands before pos, from the file itself. */
static int
tracked_load(struct tracked *t)
{
	char bytes[IDENTITY_TAIL];
	int64_t from = t->pos < IDENTITY_TAIL ? 0 : t->pos - IDENTITY_TAIL;
	ssize_t n = identity_read(t->fd, t->head, IDENTITY_HEAD, 0);

	if (n < 0)
		return -1;
	t->head_len = (size_t)n;
	if ((n = identity_read(t->fd, bytes, (size_t)(t->pos - from), from)) < 0)
		return -1;
	identity_tail_add(&t->tail, bytes, (size_t)n);
	return 0;
}

/* t->fd is a file that was not tracked before. */
static void
tracked_begin(struct tracked *t, const struct stat *st, int notify)
{
	t->device = st->st_dev;
	t->inode = st->st_ino;
	note(t, st);
	t->written = true;
	tracked_watch(t, notify);
}

int
tracked_open(struct tracked *t, int fd, int64_t pos, int notify)
{
	struct stat st;

	*t = (struct tracked){.fd = fd, .watch = -1, .pos = pos};
	if (fstat(fd, &st) < 0 || tracked_load(t) < 0) {
		fd_close_quietly(fd);
		t->fd = -1;
		return -1;
	}
	tracked_begin(t, &st, notify);
	return 0;
}

void
tracked_close(struct tracked *t, int notify)
{
	if (t->fd < 0)
		return;
	unwatch(t->watch, notify);
	close(t->fd);
	t->fd = t->watch = -1;
}

int
tracked_move(struct tracked *t, int fd, int notify)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		fd_close_quietly(fd);
		return -1;
	}
	tracked_close(t, notify);
	t->fd = fd;
	tracked_begin(t, &st, notify);
	return 0;
}

void
tracked_restart(struct tracked *t)
{
	struct stat st;

	t->pos = 0;
	t->head_len = t->tail.len = 0;
	if (fstat(t->fd, &st) == 0)
		note(t, &st);
	t->written = true;
}

ssize_t
tracked_peek(const struct tracked *t, char *to, size_t n)
{
	ssize_t got = pread(t->fd, to, n, (off_t)t->pos);

	return got < 0 && (errno == EINTR || errno == EAGAIN) ? 0 : got;
}

void
tracked_take(struct tracked *t, const char *bytes, size_t n)
{
	if (t->pos < IDENTITY_HEAD) {
		size_t room = IDENTITY_HEAD - (size_t)t->pos, k = n < room ? n : room;

		memcpy(t->head + t->pos, bytes, k);
		t->head_len = (size_t)t->pos + k;
	}
	identity_tail_add(&t->tail, bytes, n);
	t->pos += (int64_t)n;
}

/* Where nothing is read yet, the bytes that it began with when it was opened have to be there. */
static const char *
get_known(const struct tracked *t, size_t *len, int64_t *from)
{
	const char *tail;

	if (t->pos == 0) {
		*len = t->head_len;
		*from = 0;
		return t->head;
	}
	tail = identity_tail_get(&t->tail, len);
	*from = t->pos - (int64_t)*len;
	return tail;
}

int
tracked_check(struct tracked *t)
{
	char bytes[IDENTITY_TAIL];
	const char *known;
	struct stat st;
	int64_t from;
	size_t len;
	ssize_t n;

	if (fstat(t->fd, &st) < 0)
		return -1;
	if (!t->written && st.st_size == t->size && st.st_mtim.tv_sec == t->modified.tv_sec &&
	    st.st_mtim.tv_nsec == t->modified.tv_nsec)
		return 1;
	known = get_known(t, &len, &from);
	if ((n = identity_read(t->fd, bytes, len, from)) < 0)
		return -1;
	if ((size_t)n < len || memcmp(bytes, known, len) != 0)
		return 0;
	note(t, &st);
	return 1;
}

bool
tracked_is(const struct tracked *t, const struct stat *st)
{
	return t->fd >= 0 && st->st_dev == t->device && st->st_ino == t->inode;
}

void
tracked_identify(const struct tracked *t, struct identity *id)
{
	*id = (struct identity){.inode = t->inode, .modified = t->modified, .offset = t->pos};
	identity_set_head(id, t->head, t->head_len);
	identity_set_tail(id, &t->tail);
}
