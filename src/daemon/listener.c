/* Listening sockets; see listener.h. */
#include "daemon/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

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

int
listener_open(struct listener *l, const char *path, unsigned mode, struct err *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	*l = (struct listener){.fd = -1};
	if (strlen(path) >= sizeof address.sun_path)
		return err_set(e, EX_USAGE, "the name of the socket is longer than %zu bytes: %s",
		    sizeof address.sun_path - 1, path);
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	if ((l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
		return err_set(e, EX_OSERR, "cannot make a socket: %s", strerror(errno));
	if (bind_socket(l->fd, &address, mode) < 0) {
		int error = errno;

		close(l->fd);
		l->fd = -1;
		if (error == EADDRINUSE)
			return err_set(e, EX_UNAVAILABLE, "another program listens on %s", path);
		return err_set(e, EX_CANTCREAT, "cannot make the socket %s: %s", path, strerror(error));
	}
	l->path = path;
	if (listen(l->fd, SOMAXCONN) < 0) {
		err_set(e, EX_OSERR, "cannot listen on %s: %s", path, strerror(errno));
		listener_close(l);
		return -1;
	}
	return 0;
}

int
listener_adopt(struct listener *l, int fd, struct err *e)
{
	int flags = fcntl(fd, F_GETFL);

	*l = (struct listener){.fd = -1};
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(e, EX_OSERR, "cannot use the socket that was handed over: %s", strerror(errno));
	l->fd = fd;
	return 0;
}

void
listener_close(struct listener *l)
{
	if (l->fd >= 0)
		close(l->fd);
	if (l->path != NULL)
		unlink(l->path);
	*l = (struct listener){.fd = -1};
}
