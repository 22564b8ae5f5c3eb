/* Listening sockets; see listener.h. */
#include "daemon/peers/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"

enum { LOCK_TRIES = 100, LOCK_WAIT = 20000 }; /* 2 s; making a socket takes far less than a millisecond */

/*
 * Lock the folder of path against other daemons that make or remove sockets
 * there. Without the lock, another daemon can bind the name between our look
 * at an abandoned socket and its removal, and a socket that is bound and does
 * not listen yet looks abandoned. The lock is on the folder itself, so that no
 * lock files are left behind, and it is released when the descriptor is closed.
 * Returns a descriptor; -1 with errno EWOULDBLOCK if the lock cannot be had;
 * or -1 with another errno where the folder cannot be locked at all (it is not
 * readable, or its file system has no locks): we go on without, as nothing
 * better can be done there.
 */
static int
lock_folder(const char *path)
{
	char copy[sizeof((struct sockaddr_un *)NULL)->sun_path];
	int fd, error;

	snprintf(copy, sizeof copy, "%s", path);
	if ((fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return -1;
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		error = errno;
		if (error == EWOULDBLOCK && i < LOCK_TRIES && usleep(LOCK_WAIT) == 0)
			continue;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static void
unlock_folder(int lock)
{
	if (lock >= 0)
		close(lock);
}

/* Connecting to a regular file is refused as well; that is somebody's file. */
static bool
is_socket(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static bool
is_abandoned(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool abandoned = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 &&
	    errno == ECONNREFUSED;

	if (fd >= 0)
		close(fd);
	return abandoned;
}

static int
bind_socket(int fd, const struct sockaddr_un *address, unsigned mode)
{
	/* No moment at which others could connect: the permissions are there from the start. */
	mode_t mask = umask(0777 & ~mode);
	int rc = bind(fd, (const struct sockaddr *)address, sizeof *address), error = errno;

	if (rc < 0 && error == EADDRINUSE && !is_socket(address->sun_path))
		error = EEXIST;
	else if (rc < 0 && error == EADDRINUSE && is_abandoned(address) && unlink(address->sun_path) == 0) {
		rc = bind(fd, (const struct sockaddr *)address, sizeof *address);
		error = errno;
	}
	umask(mask);
	errno = error;
	return rc;
}

static int
refuse_name(const char *path, int why, struct err *e)
{
	return err_set(e, EX_CANTCREAT, "cannot make the socket %s: %s", path, strerror(why));
}

/* Bind and listen, and note which file the name stands for. */
static int
take_name(struct listener *l, const struct sockaddr_un *address, unsigned mode, struct err *e)
{
	const char *path = address->sun_path;
	struct stat st;

	if (bind_socket(l->fd, address, mode) < 0) {
		if (errno == EADDRINUSE)
			return err_set(e, EX_UNAVAILABLE, "another program listens on %s", path);
		return refuse_name(path, errno, e);
	}
	if (lstat(path, &st) < 0)
		return err_set(e, EX_CANTCREAT, "the socket %s was removed as soon as it was made: %s", path,
		    strerror(errno));
	l->device = st.st_dev;
	l->inode = st.st_ino;
	if (listen(l->fd, SOMAXCONN) == 0)
		return 0;
	err_set(e, EX_OSERR, "cannot listen on %s: %s", path, strerror(errno));
	unlink(path);
	return -1;
}

static int
fill_address(struct sockaddr_un *address, const char *path, struct err *e)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address->sun_path)
		return err_set(e, EX_USAGE, "the name of the socket is longer than %zu bytes: %s",
		    sizeof address->sun_path - 1, path);
	snprintf(address->sun_path, sizeof address->sun_path, "%s", path);
	return 0;
}

int
listener_check(const char *path, struct err *e)
{
	struct sockaddr_un address;
	int why;

	if (fill_address(&address, path, e) < 0)
		return -1;
	if (access(path, F_OK) == 0 && is_socket(path))
		return is_abandoned(&address) ? 0 : 1;
	why = access(path, F_OK) == 0 ? EEXIST : file_check_write(path) < 0 ? errno : 0;
	return why == 0 ? 0 : refuse_name(path, why, e);
}

int
listener_open(struct listener *l, const char *path, unsigned mode, struct err *e)
{
	struct sockaddr_un address;
	int lock, rc;

	*l = (struct listener){.fd = -1};
	if (fill_address(&address, path, e) < 0)
		return -1;
	if ((l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
		return err_set(e, EX_OSERR, "cannot make a socket: %s", strerror(errno));
	if ((lock = lock_folder(path)) < 0 && errno == EWOULDBLOCK)
		rc = err_set(e, EX_UNAVAILABLE, "another program is making a socket beside %s, and holds the folder's "
		    "lock", path);
	else
		rc = take_name(l, &address, mode, e);
	unlock_folder(lock);
	if (rc == 0)
		l->path = path;
	else
		listener_close(l);
	return rc;
}

static int
listener_adopt(struct listener *l, int fd, struct err *e)
{
	int flags = fcntl(fd, F_GETFL);

	*l = (struct listener){.fd = -1};
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(e, EX_OSERR, "cannot use the socket that was handed over: %s", strerror(errno));
	l->fd = fd;
	return 0;
}

int
listener_take(struct listener *l, int handed, const char *path, unsigned mode, struct err *e)
{
	return handed >= 0 ? listener_adopt(l, handed, e) : listener_open(l, path, mode, e);
}

/* Another program may have removed our name, and a daemon may have made a socket of its own under it. */
static void
remove_name(const struct listener *l)
{
	int lock = lock_folder(l->path);
	struct stat st;

	if (lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
		unlink(l->path);
	unlock_folder(lock);
}

void
listener_close(struct listener *l)
{
	if (l->path != NULL)
		remove_name(l);
	if (l->fd >= 0)
		close(l->fd);
	*l = (struct listener){.fd = -1};
}
