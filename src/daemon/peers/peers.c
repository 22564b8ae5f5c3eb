/* Lines in and out of the connections of a Unix socket; see peers.h. Loop thread. */
#include "daemon/peers/peers_inner.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "stream/json_write.h"

enum {
	TURN_LINES = 64,         /* lines that one gives before it is another's turn */
	MUST_FACTOR = 4,         /* backlogs that replies may fill */
	KEEP = 1 << 14,          /* bytes of output memory that an idle one keeps */
	UNFINISHED = 64 << 20,   /* bytes of unfinished lines of all peers, before one is cut short */
};

static const struct timeval now = {0, 0};

/* ---- closing -------------------------------------------------------- */

static void
peers_wake(struct peers *s)
{
	evtimer_add(s->turn, &now);
}

void
peer_close(struct peer *p)
{
	if (p->closing)
		return;
	p->closing = true;
	p->owner->closing++;
	event_del(p->readable);
	event_del(p->writable);
	peers_wake(p->owner);
}

static void
free_peer(struct peer *p)
{
	struct peers *s = p->owner;

	if (s->callbacks->gone != NULL)
		s->callbacks->gone(s->arg, p);
	if (p->queued)
		TAILQ_REMOVE(&s->queue, p, turn);
	TAILQ_REMOVE(&s->all, p, link);
	LIST_REMOVE(p, bucket);
	peers_forget_user(p->user);
	s->closing -= p->closing;
	s->count--;
	s->unfinished -= p->unfinished;
	event_free(p->readable);
	event_free(p->writable);
	if (p->closing)
		shutdown(p->fd, SHUT_RDWR); /* the service manager may have it too, see service_keep */
	close(p->fd);
	lines_free(p->lines);
	buf_fini(&p->out);
	free(p);
}

/* One that has given all, got all and waits for nothing is done with. */
static void
close_if_done(struct peer *p)
{
	if (p->eof && p->holds == 0 && !p->queued && (p->deaf || p->out.len == 0))
		peer_close(p);
}

void
peer_break_off(struct peer *p, const char *why)
{
	if (!p->closing)
		log_message(LOG_WARNING, "closing a connection: %s", why);
	peer_close(p);
}

static void
peers_wait_for(struct peer *p, struct event *ready)
{
	if (event_add(ready, NULL) < 0)
		peer_break_off(p, "out of memory to wait for it");
}

/* ---- writing -------------------------------------------------------- */

static void
tell_skipped(struct peer *p)
{
	static const char reason[] = "the reader is too slow";
	struct peers *s = p->owner;

	if (p->skipped == 0 || p->out.len - p->written > s->options->backlog / 2)
		return;
	envelope_begin(&p->out, s->key, "skipped", NULL);
	json_write_int(&p->out, "count", p->skipped);
	json_write_string(&p->out, "reason", reason, strlen(reason));
	envelope_end(&p->out);
	p->skipped = 0;
}

static void
give_up(struct peer *p)
{
	p->deaf = true;
	event_del(p->writable);
	buf_fini(&p->out);
	p->written = 0;
	p->skipped = 0;
	if (p->eof)
		p->holds = 0; /* what is still to come nobody wants */
	close_if_done(p);
}

static void
write_out(struct peer *p)
{
	while (!p->deaf && !p->closing && p->written < p->out.len) {
		ssize_t n = send(p->fd, p->out.data + p->written, p->out.len - p->written, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			p->written += (size_t)n;
			p->progress = p->active = clock_get_seconds();
			tell_skipped(p);
		} else if (errno == EAGAIN) {
			peers_wait_for(p, p->writable);
			return;
		} else if (errno == EPIPE || errno == ECONNRESET) {
			give_up(p); /* it will not read any more; it may still give */
			return;
		} else if (errno != EINTR)
			peer_break_off(p, strerror(errno));
	}
	if (p->closing)
		return;
	p->written = 0;
	buf_clear(&p->out);
	buf_trim(&p->out, KEEP);
	close_if_done(p);
}

void
peers_on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	write_out(arg);
}

static void
on_patience(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval second = {1, 0};
	struct peers *s = arg;
	struct peer *p;
	bool waiting = false;

	(void)fd;
	(void)what;
	TAILQ_FOREACH(p, &s->all, link) {
		if (p->deaf || p->out.len == 0)
			continue;
		waiting = true;
		if (clock_get_seconds() - p->progress < s->options->patience)
			continue;
		log_message(LOG_WARNING, "closing a connection that has read nothing for %d s, while %zu bytes waited",
		    s->options->patience, p->out.len - p->written);
		peer_close(p);
	}
	if (waiting)
		evtimer_add(s->patience, &second);
}

static int64_t
count_lines(const char *text, size_t len)
{
	int64_t n = 0;

	for (const char *p = text; (p = memchr(p, '\n', (size_t)(text + len - p))) != NULL; p++)
		n++;
	return n;
}

void
peer_send(struct peer *p, const char *lines, size_t len, bool must)
{
	static const struct timeval second = {1, 0};
	struct peers *s = p->owner;
	size_t waiting = p->out.len - p->written, most = s->options->backlog * (must ? MUST_FACTOR : 1);

	if (p->deaf || p->closing)
		return;
	if ((waiting > 0 && waiting + len > most) || (p->skipped > 0 && !must)) {
		p->skipped += count_lines(lines, len);
		s->skipped += count_lines(lines, len);
		if (must)
			peer_close(p);
		return;
	}
	if (waiting == 0) {
		p->progress = clock_get_seconds();
		peers_wait_for(p, p->writable);
		if (!evtimer_pending(s->patience, NULL))
			evtimer_add(s->patience, &second);
	}
	if (p->written > s->options->backlog) {
		buf_consume(&p->out, p->written);
		p->written = 0;
	}
	buf_add(&p->out, lines, len);
	if (p->out.failed)
		peer_break_off(p, "out of memory for what it is to get");
}

bool
peers_flush(struct peers *s)
{
	struct peer *p;
	bool done = true;

	TAILQ_FOREACH(p, &s->all, link) {
		if (!p->closing && p->out.len > 0)
			write_out(p);
		done &= p->closing || p->deaf || p->out.len == 0;
	}
	return done;
}

/* ---- reading -------------------------------------------------------- */

enum turn {
	TURN_DONE,    /* waits for bytes, or for its end */
	TURN_MORE,    /* has more to give, but let others first */
	TURN_BLOCKED, /* there is no room */
};

static enum turn
peers_give_lines(struct peer *p)
{
	struct peers *s = p->owner;
	const struct line *line;

	for (int i = 0; !p->closing && !s->stopped && (line = lines_peek(p->lines)) != NULL; i++) {
		if (i == TURN_LINES)
			return TURN_MORE;
		if (!s->callbacks->line(s->arg, p, line))
			return TURN_BLOCKED;
		lines_pop(p->lines);
		p->spoke = true;
		p->active = clock_get_seconds();
	}
	return TURN_DONE;
}

/* Has it closed both its sides? Then it takes nothing more either. */
static bool
has_hung_up(const struct peer *p)
{
	struct pollfd f = {.fd = p->fd};

	return poll(&f, 1, 0) > 0 && (f.revents & (POLLHUP | POLLERR));
}

/* Returns false at its end. */
static bool
peers_read_once(struct peer *p)
{
	struct peers *s = p->owner;
	ssize_t n = recv(p->fd, s->read, sizeof s->read, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n < 0 && errno != ECONNRESET)
		log_message(LOG_WARNING, "reading no more from a connection: %s", strerror(errno));
	if (n > 0 && lines_add(p->lines, s->read, (size_t)n))
		return true;
	if (n > 0)
		log_message(LOG_WARNING, "reading no more from a connection: out of memory for its lines");
	return false;
}

/* Memory for what is held, and no more; and of all peers together not too much. */
static void
account(struct peer *p)
{
	struct peers *s = p->owner;
	size_t held = lines_trim(p->lines);

	s->unfinished += held - p->unfinished;
	p->unfinished = held;
	if (s->unfinished > UNFINISHED + 4 * s->options->max_line && held > PEERS_READ)
		lines_cut(p->lines);
}

static enum turn
peers_take_turn(struct peer *p)
{
	enum turn t = peers_give_lines(p);

	if (t != TURN_DONE || p->closing || p->owner->stopped)
		return t;
	if (!p->eof) {
		if (!peers_read_once(p)) {
			p->eof = true;
			lines_end(p->lines);
			if (has_hung_up(p))
				give_up(p);
		}
		if ((t = peers_give_lines(p)) != TURN_DONE)
			return t;
		account(p);
		if ((t = peers_give_lines(p)) != TURN_DONE)
			return t;
	}
	if (!p->eof && !p->closing)
		peers_wait_for(p, p->readable);
	return TURN_DONE;
}

static void
enqueue(struct peer *p, bool first)
{
	struct peers *s = p->owner;

	if (p->queued)
		return;
	p->queued = true;
	if (first)
		TAILQ_INSERT_HEAD(&s->queue, p, turn);
	else
		TAILQ_INSERT_TAIL(&s->queue, p, turn);
	if (!s->blocked)
		peers_wake(s);
}

void
peers_on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	enqueue(arg, false);
}

void
peers_reap(struct peers *s)
{
	struct peer *p, *next;

	for (p = TAILQ_FIRST(&s->all); p != NULL && s->closing > 0; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->closing)
			free_peer(p);
	}
}

/* Those with something to give, each in its turn. */
static void
peers_on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct peers *s = arg;
	struct peer *p;

	(void)fd;
	(void)what;
	for (int i = 0; i < PEERS_TURNS && !s->blocked && !s->stopped && (p = TAILQ_FIRST(&s->queue)) != NULL; i++) {
		enum turn t;

		TAILQ_REMOVE(&s->queue, p, turn);
		p->queued = false;
		t = peers_take_turn(p);
		s->blocked = t == TURN_BLOCKED;
		if (t != TURN_DONE)
			enqueue(p, t == TURN_BLOCKED);
		else
			close_if_done(p);
	}
	peers_reap(s);
	if (!s->blocked && !s->stopped && !TAILQ_EMPTY(&s->queue))
		peers_wake(s);
}

void
peers_resume(struct peers *s)
{
	if (!s->blocked || s->stopped)
		return;
	s->blocked = false;
	peers_wake(s);
}

/* ---- start and end -------------------------------------------------- */

struct peers *
peers_new(struct event_base *base, struct listener *listener, const char *key, const struct peers_options *o,
    const struct peers_callbacks *callbacks, void *arg, struct err *e)
{
	struct peers *s = calloc(1, sizeof *s);

	if (s == NULL) {
		listener_close(listener);
		goto fail;
	}
	s->listener = *listener;
	*listener = (struct listener){.fd = -1};
	s->key = key;
	TAILQ_INIT(&s->all);
	TAILQ_INIT(&s->queue);
	s->base = base;
	s->options = o;
	s->callbacks = callbacks;
	s->arg = arg;
	s->turn = evtimer_new(base, peers_on_turn, s);
	s->retry = evtimer_new(base, peers_on_retry, s);
	s->patience = evtimer_new(base, on_patience, s);
	if (s->turn == NULL || s->patience == NULL || s->retry == NULL)
		goto fail;
	if ((s->accept = event_new(base, s->listener.fd, EV_READ, peers_on_accept, s)) == NULL ||
	    event_add(s->accept, NULL) < 0)
		goto fail;
	return s;
fail:
	err_set(e, EX_OSERR, "out of memory for connections");
	peers_free(s);
	return NULL;
}

void
peers_free(struct peers *s)
{
	struct event *events[4];

	if (s == NULL)
		return;
	memcpy(events, (struct event *[]){s->accept, s->retry, s->turn, s->patience}, sizeof events);
	while (!TAILQ_EMPTY(&s->all))
		free_peer(TAILQ_FIRST(&s->all));
	for (size_t i = 0; i < sizeof events / sizeof *events; i++)
		if (events[i] != NULL)
			event_free(events[i]);
	listener_close(&s->listener);
	free(s);
}

void
peers_stop(struct peers *s)
{
	struct peer *p;

	s->stopped = true;
	event_del(s->accept);
	TAILQ_FOREACH(p, &s->all, link)
		event_del(p->readable);
}

/* ---- one peer ------------------------------------------------------- */

size_t
peers_get_count(const struct peers *s)
{
	return s->count;
}

int64_t
peers_get_skipped(const struct peers *s)
{
	return s->skipped;
}

struct peer *
peers_next(const struct peers *s, const struct peer *p)
{
	do
		p = p == NULL ? TAILQ_FIRST(&s->all) : TAILQ_NEXT(p, link);
	while (p != NULL && p->closing);
	return (struct peer *)p;
}

struct peer *
peers_find(const struct peers *s, uint64_t number)
{
	struct peer *p;

	LIST_FOREACH(p, &s->buckets[number % PEERS_BUCKETS], bucket)
		if (p->number == number)
			return p->closing ? NULL : p;
	return NULL;
}

uint64_t
peer_get_number(const struct peer *p)
{
	return p->number;
}

uid_t
peer_get_uid(const struct peer *p)
{
	return p->user->uid;
}

int
peer_get_fd(const struct peer *p)
{
	return p->fd;
}

void *
peer_get_data(const struct peer *p)
{
	return p->data;
}

void
peer_set_data(struct peer *p, void *data)
{
	p->data = data;
}

struct origin *
peer_get_origin(struct peer *p)
{
	return &p->origin;
}

void
peer_hold(struct peer *p)
{
	p->holds++;
}

void
peer_release(struct peer *p)
{
	p->holds -= p->holds > 0;
	close_if_done(p);
}

bool
peer_is_closing(const struct peer *p)
{
	return p->closing;
}
