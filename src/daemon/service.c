/* sinkd as a service; see service.h. Loop thread. */
#include "daemon/service.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	WATCHDOG_LOOKS = 4, /* in the time that the watchdog leaves */
	STATUS_SECONDS = 5,
	EXTEND_USEC = 1000000,
	TEXT = 256,
};

struct socket {
	char *name;
	int fd; /* -1: taken */
};

struct service {
	const struct service_callbacks *callbacks;
	void *arg;
	bool notified;   /* there is a manager to tell */
	uint64_t watchdog; /* usec, 0: none */
	struct event *feed, *status;
	struct socket *sockets;
	int n;
	char told[TEXT]; /* the last status */
	bool stopping;
	uint64_t extended; /* until when, usec, in this phase: start or stop */
};

/* ---- what is handed over -------------------------------------------- */

static int
take_sockets(struct service *s, struct err *e)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	if (n < 0)
		return err_set(e, EX_OSERR, "cannot take the sockets that were handed over: %s", strerror(-n));
	if (n == 0)
		return 0;
	if ((s->sockets = calloc((size_t)n, sizeof *s->sockets)) == NULL) {
		for (int i = 0; i < n; i++)
			free(names[i]);
		free(names);
		return err_set(e, EX_OSERR, "out of memory for the sockets that were handed over");
	}
	s->n = n;
	for (int i = 0; i < n; i++)
		s->sockets[i] = (struct socket){names[i], SD_LISTEN_FDS_START + i};
	free(names);
	return 0;
}

struct service *
service_new(const struct service_callbacks *callbacks, void *arg, struct err *e)
{
	struct service *s = calloc(1, sizeof *s);

	if (s == NULL) {
		err_set(e, EX_OSERR, "out of memory at the start");
		return NULL;
	}
	s->callbacks = callbacks;
	s->arg = arg;
	s->notified = getenv("NOTIFY_SOCKET") != NULL;
	if (sd_watchdog_enabled(0, &s->watchdog) <= 0)
		s->watchdog = 0;
	if (take_sockets(s, e) < 0) {
		service_free(s);
		return NULL;
	}
	return s;
}

void
service_free(struct service *s)
{
	if (s == NULL)
		return;
	if (s->feed != NULL)
		event_free(s->feed);
	if (s->status != NULL)
		event_free(s->status);
	for (int i = 0; i < s->n; i++) {
		if (s->sockets[i].fd >= 0)
			close(s->sockets[i].fd);
		free(s->sockets[i].name);
	}
	free(s->sockets);
	free(s);
}

static int
service_take(struct service *s, const char *name, bool listening)
{
	for (int i = 0; i < s->n; i++) {
		struct socket *k = &s->sockets[i];
		int fd = k->fd;

		if (fd < 0 || strcmp(k->name, name) != 0 || sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, listening) <= 0)
			continue;
		k->fd = -1;
		return fd;
	}
	return -1;
}

int
service_take_socket(struct service *s, const char *name)
{
	return service_take(s, name, true);
}

int
service_take_producer(struct service *s)
{
	for (int i = 0; i < s->n; i++)
		if (strncmp(s->sockets[i].name, "producer-", 9) == 0) {
			int fd = service_take(s, s->sockets[i].name, false);

			if (fd >= 0)
				return fd;
		}
	return -1;
}

bool
service_is_notified(const struct service *s)
{
	return s->notified;
}

/* ---- what is told --------------------------------------------------- */

void
service_extend(struct service *s, int seconds)
{
	uint64_t more = (uint64_t)seconds * 1000000, until = (uint64_t)clock_get_usec() + more;

	/* Not for every bit of progress. */
	if (!s->notified || until < s->extended + EXTEND_USEC)
		return;
	s->extended = until;
	sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, more);
}

void
service_extend_stop(struct service *s, int seconds)
{
	if (s->stopping)
		service_extend(s, seconds);
}

static void
tell_status(struct service *s)
{
	char text[TEXT];

	s->callbacks->describe(s->arg, text, sizeof text);
	if (strcmp(text, s->told) == 0)
		return;
	snprintf(s->told, sizeof s->told, "%s", text);
	sd_notifyf(0, "STATUS=%s", text);
}

static void
on_feed(evutil_socket_t fd, short what, void *arg)
{
	struct service *s = arg;

	(void)fd;
	(void)what;
	if (s->callbacks->is_alive(s->arg))
		sd_notify(0, "WATCHDOG=1");
}

static void
on_status(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	tell_status(arg);
}

static struct event *
repeat(struct event_base *base, uint64_t usec, event_callback_fn callback, void *arg)
{
	struct timeval interval = {(time_t)(usec / 1000000), (suseconds_t)(usec % 1000000)};
	struct event *timer = event_new(base, -1, EV_PERSIST, callback, arg);

	if (timer != NULL && event_add(timer, &interval) == 0)
		return timer;
	if (timer != NULL)
		event_free(timer);
	return NULL;
}

int
service_ready(struct service *s, struct event_base *base, struct err *e)
{
	if (!s->notified)
		return 0;
	if ((s->watchdog > 0 && (s->feed = repeat(base, s->watchdog / WATCHDOG_LOOKS, on_feed, s)) == NULL) ||
	    (s->status = repeat(base, STATUS_SECONDS * 1000000, on_status, s)) == NULL)
		return err_set(e, EX_OSERR, "out of memory for the service manager");
	sd_notify(0, "READY=1");
	tell_status(s);
	return 0;
}

void
service_reloading(struct service *s)
{
	if (s->notified)
		sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_get_usec());
}

void
service_reloaded(struct service *s)
{
	if (s->notified)
		sd_notify(0, "READY=1");
}

void
service_stopping(struct service *s)
{
	s->stopping = true;
	s->extended = 0;
	if (s->notified)
		sd_notify(0, "STOPPING=1\nSTATUS=Stopping");
}

void
service_keep(struct service *s, int fd, uint64_t number)
{
	char text[64];

	if (!s->notified)
		return;
	snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=producer-%d-%" PRIu64, (int)getpid(), number);
	sd_pid_notify_with_fds(0, 0, text, &fd, 1);
}

void
service_forget(struct service *s, uint64_t number)
{
	if (s->notified)
		sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=producer-%d-%" PRIu64, (int)getpid(), number);
}

/* Folders that ProtectHome=yes hides. */
static bool
is_home(const char *path)
{
	return strncmp(path, "/home/", 6) == 0 || strncmp(path, "/root/", 6) == 0 ||
	    strncmp(path, "/run/user/", 10) == 0;
}

const char *
service_explain(const char *path, int error, bool writes)
{
	if (getenv("STATE_DIRECTORY") == NULL) /* StateDirectory= of the unit sets it */
		return "";
	if (is_home(path))
		return "; the unit hides home folders, see sinkd-service(7) for where models, inputs and outputs go";
	if (writes && (error == EROFS || error == EACCES))
		return "; the unit lets the service write only below /var/log/sinkd/NAME and /var/lib/sinkd/NAME, see "
		    "sinkd-service(7) for other folders";
	if (error == EACCES || error == EPERM)
		return "; give the service the group of that file by SupplementaryGroups=, see sinkd-service(7)";
	return "";
}

bool
service_logs_to_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	    st.st_dev == device && st.st_ino == inode;
}
