/*
 * Connections come: each is counted for its user, and where there are as many
 * as may be, an idle one makes room, or the new one is refused. See peers.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/peers/peers_inner.h"
#include "stream/fault.h"
#include "stream/json_write.h"

/* ---- users ---------------------------------------------------------- */

static struct peers_user *
get_user(struct peers *s, uid_t uid)
{
	struct peers_user *u;

	LIST_FOREACH(u, &s->users, link)
		if (u->uid == uid)
			return u;
	if ((u = calloc(1, sizeof *u)) == NULL)
		return NULL;
	u->uid = uid;
	LIST_INSERT_HEAD(&s->users, u, link);
	return u;
}

void
peers_forget_user(struct peers_user *u)
{
	if (--u->count > 0)
		return;
	LIST_REMOVE(u, link);
	free(u);
}

/* The user who connected, as the kernel recorded it. */
static uid_t
find_uid(int fd)
{
	struct ucred cred = {.uid = (uid_t)-1};
	socklen_t size = sizeof cred;

	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size);
	return cred.uid;
}

/* ---- a new one ------------------------------------------------------ */

static void
drop_peer(struct peer *p)
{
	if (p == NULL)
		return;
	lines_free(p->lines);
	if (p->readable != NULL)
		event_free(p->readable);
	if (p->writable != NULL)
		event_free(p->writable);
	free(p);
}

static struct peer *
make_peer(struct peers *s, int fd)
{
	struct peer *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	p->lines = lines_new(s->options->max_line);
	p->readable = event_new(s->base, fd, EV_READ, peers_on_readable, p);
	p->writable = event_new(s->base, fd, EV_WRITE, peers_on_writable, p);
	if (p->lines != NULL && p->readable != NULL && p->writable != NULL && event_add(p->readable, NULL) == 0)
		return p;
	drop_peer(p);
	return NULL;
}

static void
add_peer(struct peers *s, int fd, uid_t uid)
{
	struct peers_user *u = get_user(s, uid);
	struct peer *p = u == NULL ? NULL : make_peer(s, fd);

	if (u != NULL)
		u->count++;
	if (p == NULL) {
		log_message(LOG_WARNING, "out of memory for a connection");
		if (u != NULL)
			peers_forget_user(u);
		close(fd);
		return;
	}
	p->owner = s;
	p->fd = fd;
	p->user = u;
	p->active = clock_get_seconds();
	p->number = p->origin.peer = ++s->numbers;
	TAILQ_INSERT_TAIL(&s->all, p, link);
	LIST_INSERT_HEAD(&s->buckets[p->number % PEERS_BUCKETS], p, bucket);
	s->count++;
	if (s->callbacks->come != NULL)
		s->callbacks->come(s->arg, p);
}

void
peers_adopt(struct peers *s, int fd)
{
	add_peer(s, fd, find_uid(fd));
}

/* ---- room ----------------------------------------------------------- */

/* Send a connection its last line. It is about to be closed, so what it does not take at once is lost. */
static __attribute__((format(printf, 3, 4))) void
peers_accept_tell(const struct peers *s, int fd, const char *format, ...)
{
	char reason[256];
	struct buf b = {0};
	va_list ap;

	va_start(ap, format);
	vsnprintf(reason, sizeof reason, format, ap);
	va_end(ap);
	envelope_begin(&b, s->key, "error", NULL);
	fault_write(&b, FAULT_SERVER, reason);
	envelope_end(&b);
	if (!b.failed)
		(void)send(fd, b.data, b.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	buf_fini(&b);
}

/* It has given all and got all that there was, and waits for nothing. */
static bool
is_idle(const struct peers *s, const struct peer *p, double now)
{
	if (p->closing || p->queued || p->holds > 0 || p->out.len > 0 || s->callbacks->is_listening(s->arg, p))
		return false;
	return !p->spoke || now - p->active >= s->options->idle;
}

/* Does p make room rather than q? Users with many connections do first, and of one user's the longest idle. */
static bool
goes_first(const struct peer *p, const struct peer *q)
{
	if (q == NULL || p->user->count != q->user->count)
		return q == NULL || p->user->count > q->user->count;
	return p->active < q->active;
}

/* What it wrote and was not looked at yet would be lost. */
static bool
has_written(const struct peer *p)
{
	struct pollfd f = {.fd = p->fd, .events = POLLIN};

	return poll(&f, 1, 0) > 0 && (f.revents & POLLIN);
}

/* An idle connection of the user uid, or of one with more connections than that one. NULL: there is none. */
static struct peer *
find_idle(const struct peers *s, uid_t uid, size_t count)
{
	double now = clock_get_seconds();
	struct peer *p, *best = NULL;

	TAILQ_FOREACH(p, &s->all, link)
		if ((p->user->uid == uid || p->user->count > count) && is_idle(s, p, now) && goes_first(p, best) &&
		    !has_written(p))
			best = p;
	return best;
}

/* Connections that one user may have: the superuser and the daemon's own user all, any other three quarters. */
static size_t
get_most(const struct peers *s, uid_t uid)
{
	size_t most = (size_t)s->options->most;

	return uid == 0 || uid == geteuid() || most == 1 ? most : most - (most + 3) / 4;
}

/* Returns false where the connection had to be refused. */
static bool
peers_accept_make_room(struct peers *s, int fd, uid_t uid)
{
	size_t most = get_most(s, uid), count = 0;
	bool full = s->count >= (size_t)s->options->most;
	const struct peers_user *u;
	struct peer *idle;

	LIST_FOREACH(u, &s->users, link)
		if (u->uid == uid)
			count = u->count;
	if (!full && count < most)
		return true;
	if ((idle = find_idle(s, uid, count >= most ? SIZE_MAX : count)) != NULL) {
		peers_accept_tell(s, idle->fd, "this connection was idle and makes room for another one, since a "
		    "socket takes %d at once: connect again when there is something to say, or raise --max-peers",
		    s->options->most);
		peer_close(idle);
		peers_reap(s);
		return true;
	}
	if (!full)
		peers_accept_tell(s, fd, "user %lld has %zu connections already, and none of them is idle; one user "
		    "may have %zu: close one, or raise --max-peers", (long long)uid, count, most);
	else
		peers_accept_tell(s, fd, "there are %zu connections already, and none of them is idle: try again "
		    "later, or raise --max-peers", s->count);
	return false;
}

/* ---- accepting ------------------------------------------------------ */

static const struct timeval later = {1, 0};

/* Wait for the next connection; where the system has no room even for that, try again later. */
static void
wait_for_more(struct peers *s)
{
	if (event_add(s->accept, NULL) == 0)
		return;
	log_message(LOG_WARNING, "cannot wait for connections now: %s", strerror(errno));
	event_add(s->retry, &later);
}

void
peers_on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct peers *s = arg;

	(void)fd;
	(void)what;
	if (!s->stopped)
		wait_for_more(s);
}

void
peers_on_accept(evutil_socket_t listening, short what, void *arg)
{
	struct peers *s = arg;

	(void)what;
	peers_reap(s);
	for (int i = 0; i < PEERS_TURNS; i++) {
		int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		uid_t uid;

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
			log_message(LOG_WARNING, "cannot take a connection now: %s", strerror(errno));
			event_add(s->retry, &later);
			return;
		}
		if (fd < 0)
			break;
		uid = find_uid(fd);
		if (peers_accept_make_room(s, fd, uid))
			add_peer(s, fd, uid);
		else
			close(fd);
	}
	wait_for_more(s);
}
