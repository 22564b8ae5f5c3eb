/* How sinkctl finds a daemon; see ctl.h. */
#include <errno.h>
#include <glob.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/ctl.h"

#define RUN "/run/sinkd/"
#define NAME "/control"

/* The only daemon that is there, if there is one. */
static int
find_only_daemon(char *path, size_t size, struct err *e)
{
	glob_t g = {0};
	int rc = 0;

	(void)glob(RUN "*" NAME, 0, NULL, &g);
	if (g.gl_pathc == 1)
		snprintf(path, size, "%s", g.gl_pathv[0]);
	else if (g.gl_pathc == 0)
		rc = err_set(e, EX_UNAVAILABLE, "no daemon listens at " RUN "*" NAME "; name its socket by --socket");
	else
		rc = err_set(e, EX_USAGE, "there are %zu daemons: choose one by --instance", g.gl_pathc);
	globfree(&g);
	return rc;
}

FILE *
ctl_connect(const struct ctl_settings *s, struct err *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[4096];
	FILE *f;
	int fd;

	if (s->socket != NULL)
		snprintf(path, sizeof path, "%s", s->socket);
	else if (s->instance != NULL)
		snprintf(path, sizeof path, RUN "%s" NAME, s->instance);
	else if (find_only_daemon(path, sizeof path, e) < 0)
		return NULL;
	if (strlen(path) >= sizeof address.sun_path) {
		err_set(e, EX_USAGE, "the name of the socket is too long: %s", path);
		return NULL;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0) {
		err_set(e, EX_OSERR, "cannot make a socket: %s", strerror(errno));
		return NULL;
	}
	if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
		err_set(e, errno == EACCES || errno == EPERM ? EX_NOPERM : EX_UNAVAILABLE,
		    "cannot reach a daemon at %s: %s", path, strerror(errno));
		close(fd);
		return NULL;
	}
	if ((f = fdopen(fd, "r")) == NULL) {
		err_set(e, EX_OSERR, "out of memory");
		close(fd);
	}
	return f;
}
