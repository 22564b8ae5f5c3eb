/* Metrics over HTTP; see metrics.h. Loop thread. */
#include "daemon/http/metrics.h"

#include <assert.h>
#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/peers/listener.h"

enum {
	TIMEOUT = 10,   /* seconds without a byte */
	PATIENCE = 20,  /* seconds for a request, or for reading its answer, however slowly bytes come */
	HEADERS = 8192,
	BODY = 8192,    /* nobody reads it */
	MOST = 32,      /* connections; more of them wait in the kernel */
};

static const struct timeval second = {1, 0};

struct metrics {
	struct evhttp *http;
	struct evconnlistener *door;
	struct connection {
		struct bufferevent *buffer;    /* a reference; NULL: free */
		double since;                  /* when it connected, or its last request was whole */
	} connections[MOST];
	struct event *look;                    /* at them, while there are any */
	bool full;                             /* the door is closed therefore */
	struct listener listener; /* of a path */
	bool tcp;
	const struct stats *stats;
	void (*add_status)(void *arg, json_t *status);
	void *arg;
};

/* ---- the text ------------------------------------------------------- */

/* A member of the status (a second name: of a member that is an object) and what it is called here. */
static const struct {
	const char *member, *inner, *name, *type, *help;
} rows[] = {
	{"events", NULL, "sinkd_events_total", "counter", "Events annotated."},
	{"errors", NULL, "sinkd_errors_total", "counter", "Lines that could not be events."},
	{"skipped", NULL, "sinkd_skipped_events_total", "counter", "Events left out because there were too many."},
	{"producer_lines_skipped", NULL, "sinkd_skipped_producer_lines_total", "counter",
	    "Annotations left out for producers that did not read them."},
	{"client_lines_skipped", NULL, "sinkd_skipped_client_lines_total", "counter",
	    "Lines left out for clients that did not read them."},
	{"tokens", NULL, "sinkd_tokens_total", "counter", "Tokens of events computed."},
	{"evictions", NULL, "sinkd_evictions_total", "counter", "Tokens that the window has lost."},
	{"digests", NULL, "sinkd_digests_total", "counter", "Digests made."},
	{"replies", NULL, "sinkd_replies_total", "counter", "Questions answered."},
	{"events_per_second", NULL, "sinkd_events_per_second", "gauge", "Events a second, of the last ten seconds."},
	{"tokens_per_second", NULL, "sinkd_tokens_per_second", "gauge", "Tokens a second, of the last ten seconds."},
	{"lag", "events", "sinkd_lag_events", "gauge", "Events read and not annotated yet."},
	{"lag", "seconds", "sinkd_lag_seconds", "gauge", "For how long the oldest of them has waited."},
	{"queues", "records", "sinkd_queue_records", "gauge", "Events that wait for the engine."},
	{"queues", "requests", "sinkd_queue_requests", "gauge", "Requests that wait for the engine."},
	{"producers", NULL, "sinkd_producers", "gauge", "Connections of producers."},
	{"clients", NULL, "sinkd_clients", "gauge", "Connections of clients."},
	{"checkpoint", "made", "sinkd_checkpoints_total", "counter", "Checkpoints made."},
	{"checkpoint", "failed", "sinkd_checkpoint_failures_total", "counter", "Checkpoints that failed."},
	{"checkpoint", "failing", "sinkd_checkpoint_failing", "gauge", "1 while checkpoints fail."},
	{"checkpoint", "age", "sinkd_checkpoint_age_seconds", "gauge", "Since the last checkpoint."},
	{"checkpoint", "bytes", "sinkd_checkpoint_bytes", "gauge", "Size of the last checkpoint."},
	{"checkpoint", "seconds", "sinkd_checkpoint_seconds", "gauge", "What the last checkpoint took."},
	{"uptime", NULL, "sinkd_uptime_seconds", "gauge", "Since the start."},
};

static void
add_value(struct evbuffer *out, const char *name, const json_t *v)
{
	if (json_is_integer(v))
		evbuffer_add_printf(out, "%s %lld\n", name, (long long)json_integer_value(v));
	else
		evbuffer_add_printf(out, "%s %.6g\n", name, json_number_value(v));
}

static void
add_surprise(struct evbuffer *out, const json_t *surprise)
{
	static const char *const quantiles[] = {"0.5", "0.9", "0.99", "1"};

	evbuffer_add_printf(out, "# HELP sinkd_surprise Nats per token of recent events.\n"
	    "# TYPE sinkd_surprise summary\n");
	for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
		const json_t *v = json_object_get(surprise, quantiles[i]);

		evbuffer_add_printf(out, "sinkd_surprise{quantile=\"%s\"} ", quantiles[i]);
		if (json_is_number(v))
			evbuffer_add_printf(out, "%.6g\n", json_number_value(v));
		else
			evbuffer_add_printf(out, "NaN\n");
	}
	add_value(out, "sinkd_surprise_sum", json_object_get(surprise, "sum"));
	add_value(out, "sinkd_surprise_count", json_object_get(surprise, "count"));
}

void
metrics_write(struct evbuffer *out, const json_t *status)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const json_t *v = json_object_get(status, rows[i].member);

		if (rows[i].inner != NULL)
			v = json_object_get(v, rows[i].inner);
		if (!json_is_number(v))
			continue; /* there is none of it in this daemon, or not yet */
		evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", rows[i].name, rows[i].help, rows[i].name,
		    rows[i].type);
		add_value(out, rows[i].name, v);
	}
	add_surprise(out, json_object_get(status, "surprise"));
}

/* ---- HTTP ----------------------------------------------------------- */

static void
reply(struct metrics *m, struct evhttp_request *q, bool page)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(q);
	struct evbuffer *out = evhttp_request_get_output_buffer(q);
	json_t *status = json_object();
	char length[32];

	m->add_status(m->arg, status);
	if (page)
		page_write(out, status, m->stats);
	else
		metrics_write(out, status);
	json_decref(status);
	evhttp_add_header(headers, "Content-Type", page ? "text/html; charset=utf-8" :
	    "text/plain; version=0.0.4; charset=utf-8");
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	/* The server would send the text after a HEAD too. */
	evutil_snprintf(length, sizeof length, "%zu", evbuffer_get_length(out));
	evhttp_add_header(headers, "Content-Length", length);
	if (evhttp_request_get_command(q) == EVHTTP_REQ_HEAD)
		evbuffer_drain(out, evbuffer_get_length(out));
	evhttp_send_reply(q, HTTP_OK, NULL, NULL);
}

/* The server would write a page of its own, which after a HEAD may not be. */
static void
metrics_refuse(struct evhttp_request *q, int code, const char *reason)
{
	struct evbuffer *out = evhttp_request_get_output_buffer(q);

	evhttp_add_header(evhttp_request_get_output_headers(q), "Content-Type", "text/plain; charset=utf-8");
	if (code == HTTP_BADMETHOD)
		evhttp_add_header(evhttp_request_get_output_headers(q), "Allow", "GET, HEAD");
	if (evhttp_request_get_command(q) != EVHTTP_REQ_HEAD)
		evbuffer_add_printf(out, "%s\n", reason);
	evhttp_send_reply(q, code, reason, NULL);
}

/* Another site's page in a browser here must not read ours under a name of its own. */
static bool
is_local(const struct metrics *m, struct evhttp_request *q)
{
	const char *host = evhttp_request_get_host(q);

	return !m->tcp || host == NULL || strcmp(host, "localhost") == 0 || strcmp(host, "127.0.0.1") == 0;
}

/* A request is whole: from now on its connection has time for reading the answer. */
static void
note_request(struct metrics *m, struct evhttp_request *q)
{
	const struct bufferevent *b = evhttp_connection_get_bufferevent(evhttp_request_get_connection(q));

	for (int i = 0; i < MOST; i++)
		if (m->connections[i].buffer == b)
			m->connections[i].since = clock_get_seconds();
}

static void
on_request(struct evhttp_request *q, void *arg)
{
	struct metrics *m = arg;
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(q));

	note_request(m, q);
	if (!is_local(m, q))
		metrics_refuse(q, 403, "Forbidden");
	else if (!(evhttp_request_get_command(q) & (EVHTTP_REQ_GET | EVHTTP_REQ_HEAD)))
		metrics_refuse(q, HTTP_BADMETHOD, "Method Not Allowed");
	else if (path != NULL && strcmp(path, "/metrics") == 0)
		reply(m, q, false);
	else if (path == NULL || *path == '\0' || strcmp(path, "/") == 0)
		reply(m, q, true);
	else
		metrics_refuse(q, HTTP_NOTFOUND, "Not Found");
}

/* ---- connections ---------------------------------------------------- */

/* The server counts none and tells nobody when it frees one; but one that it freed has no callbacks any more. */
static bool
is_free(struct bufferevent *c)
{
	bufferevent_event_cb callback;

	bufferevent_getcb(c, NULL, NULL, &callback, NULL);
	return callback == NULL;
}

/* Close those that the server has done with; how many are left. */
static int
count_connections(struct metrics *m)
{
	int n = 0;

	for (int i = 0; i < MOST; i++) {
		struct connection *c = &m->connections[i];

		if (c->buffer != NULL && is_free(c->buffer)) {
			bufferevent_decref(c->buffer);
			c->buffer = NULL;
		}
		n += c->buffer != NULL;
	}
	return n;
}

/* One that sends or reads a byte now and then never looks idle to the server. It frees what has come to its end. */
static void
end_slow(struct metrics *m)
{
	double now = clock_get_seconds();

	for (int i = 0; i < MOST; i++) {
		const struct connection *c = &m->connections[i];

		if (c->buffer != NULL && now - c->since > PATIENCE)
			shutdown(bufferevent_getfd(c->buffer), SHUT_RDWR);
	}
}

static void
metrics_on_look(evutil_socket_t fd, short what, void *arg)
{
	struct metrics *m = arg;
	int n = count_connections(m);

	(void)fd;
	(void)what;
	end_slow(m);
	if (m->full && n < MOST) {
		m->full = false;
		evconnlistener_enable(m->door);
	}
	if (n > 0)
		evtimer_add(m->look, &second);
}

/* A connection was accepted, and is given its buffer. The last one that may be closes the door. */
static struct bufferevent *
on_connection(struct event_base *base, void *arg)
{
	struct metrics *m = arg;
	struct bufferevent *c = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	int n = count_connections(m), i = 0;

	if (c == NULL)
		return NULL;
	/* When the server has done with it, it is read until it is looked at. */
	bufferevent_setwatermark(c, EV_READ, 0, 2 * HEADERS);
	assert(n < MOST);
	while (m->connections[i].buffer != NULL)
		i++;
	bufferevent_incref(c);
	m->connections[i] = (struct connection){c, clock_get_seconds()};
	if (n + 1 == MOST) {
		m->full = true;
		evconnlistener_disable(m->door);
	}
	if (!evtimer_pending(m->look, NULL))
		evtimer_add(m->look, &second);
	return c;
}

/* ---- start and end -------------------------------------------------- */

static void
metrics_on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	evconnlistener_enable(arg);
}

/* There are no descriptors left, say: without a pause the loop would do nothing but try again. */
static void
on_accept_failed(struct evconnlistener *l, void *http)
{
	(void)http;
	log_message(LOG_WARNING, "cannot take a connection for metrics now: %s", strerror(errno));
	if (event_base_once(evconnlistener_get_base(l), -1, EV_TIMEOUT, metrics_on_retry, l, &second) == 0)
		evconnlistener_disable(l);
}

/* Returns false if there is no such socket. */
static bool
accept_from(struct metrics *m, struct evhttp_bound_socket *s)
{
	if (s == NULL)
		return false;
	m->door = evhttp_bound_socket_get_listener(s);
	evconnlistener_set_error_cb(m->door, on_accept_failed);
	return true;
}

long
metrics_read_port(const char *address, struct err *e)
{
	char *end;
	long port = strtol(address, &end, 10);

	if (*end == '\0' && port >= 1 && port <= 65535)
		return port;
	return err_set(e, EX_USAGE, "--metrics must be a path with a slash or a port, not '%s'", address);
}

/* Another start would not change what the unit allows: EX_CONFIG, unlike a port that is taken for now. */
static int
refuse_port(long port, int error, struct err *e)
{
	if (error != EAFNOSUPPORT)
		return err_set(e, EX_UNAVAILABLE, "cannot listen on port %ld of 127.0.0.1: %s", port, strerror(error));
	return err_set(e, EX_CONFIG, "this service may use Unix sockets only and cannot listen on port %ld: remove "
	    "metrics from its options, and give sinkd-metrics@.socket a drop-in with ListenStream=127.0.0.1:%ld, see "
	    "sinkd-service(7)", port, port);
}

bool
metrics_is_path(const char *address)
{
	return strchr(address, '/') != NULL;
}

static int
listen_at(struct metrics *m, int handed, const char *address, unsigned mode, struct err *e)
{
	long port;

	if (handed >= 0 || metrics_is_path(address)) {
		if (listener_take(&m->listener, handed, address, mode, e) < 0)
			return -1;
		if (!accept_from(m, evhttp_accept_socket_with_handle(m->http, m->listener.fd)))
			return err_set(e, EX_OSERR, "cannot serve metrics");
		m->listener.fd = -1; /* the server's now */
		return 0;
	}
	if ((port = metrics_read_port(address, e)) < 0)
		return -1;
	m->tcp = true;
	if (!accept_from(m, evhttp_bind_socket_with_handle(m->http, "127.0.0.1", (ev_uint16_t)port)))
		return refuse_port(port, errno, e);
	return 0;
}

struct metrics *
metrics_new(struct event_base *base, int handed, const char *address, unsigned mode, const struct stats *stats,
    void (*add_status)(void *arg, json_t *status), void *arg, struct err *e)
{
	struct metrics *m = calloc(1, sizeof *m);

	if (m != NULL)
		m->listener.fd = -1;
	if (m == NULL || (m->http = evhttp_new(base)) == NULL ||
	    (m->look = evtimer_new(base, metrics_on_look, m)) == NULL) {
		err_set(e, EX_OSERR, "out of memory for metrics");
		metrics_free(m);
		return NULL;
	}
	m->stats = stats;
	m->add_status = add_status;
	m->arg = arg;
	evhttp_set_allowed_methods(m->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
	    /* on_request refuses most */
	    EVHTTP_REQ_CONNECT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_PATCH);
	evhttp_set_timeout(m->http, TIMEOUT);
	evhttp_set_max_headers_size(m->http, HEADERS);
	evhttp_set_max_body_size(m->http, BODY);
	evhttp_set_gencb(m->http, on_request, m);
	evhttp_set_bevcb(m->http, on_connection, m);
	if (listen_at(m, handed, address, mode, e) == 0)
		return m;
	metrics_free(m);
	return NULL;
}

void
metrics_free(struct metrics *m)
{
	if (m == NULL)
		return;
	listener_close(&m->listener); /* first: the server closes the socket */
	if (m->http != NULL)
		evhttp_free(m->http);
	(void)count_connections(m); /* all of them are free by now */
	if (m->look != NULL)
		event_free(m->look);
	free(m);
}
