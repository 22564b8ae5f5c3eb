/*
 * The loop that joins inputs, engine thread and outputs; see daemon.h: it
 * opens and closes all of them, moves results along, and listens to signals.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/buf.h"
#include "base/log.h"
#include "daemon/delivery.h"
#include "daemon/files.h"
#include "daemon/follow.h"
#include "daemon/listener.h"
#include "daemon/progress.h"
#include "daemon/service.h"
#include "stream/text.h"

enum { LOAD_SECONDS = 300 }; /* that loading a model may take */
enum { DRAIN_TRIES = 20, DRAIN_WAIT = 50000 }; /* 1 s at the end for connections to take what waits for them */

struct daemon {
	struct settings *settings;
	struct event_base *base;
	struct service *service;
	struct event *results, *signals[2];
	struct worker *worker;
	struct intake *intake;
	struct output *output;
	struct delivery delivery;
	struct listener events;      /* the producers' socket */
	struct producers *producers; /* the intake's */
	struct progress *progress;
	struct buf key;       /* the member's name as a JSON string */
	struct buf socket_name;
	int64_t steps;        /* of the engine thread, when the watchdog was last fed */
	bool output_is_terminal;
	struct err failure;   /* the first one; code 0: none */
};

/* What goes wrong first is what the user is told. */
static void
note_failure(struct daemon *d, const struct err *e)
{
	if (d->failure.code == 0)
		d->failure = *e;
}

/* ---- output --------------------------------------------------------- */

static void
take_result(struct daemon *d, struct result *r)
{
	if (r->type == RESULT_RECORD) {
		delivery_take_record(&d->delivery, r->record);
		intake_release(d->intake, r->record);
	} else if (r->type == RESULT_LINE) {
		delivery_take_line(&d->delivery, r->line, r->len);
		result_drop(r);
	} else
		result_drop(r);
}

static void
flush(struct daemon *d)
{
	if (d->output_is_terminal && !output_is_drained(d->output))
		progress_erase(d->progress);
	output_flush(d->output);
}

/*
 * Results become output, one write for what there is; then room is free for
 * input, or all is done.
 */
static void
pump(struct daemon *d)
{
	struct err e = {0};
	bool ended = worker_has_ended(d->worker, &e); /* first: what is collected below is all there is */
	struct result r;
	bool more;

	do {
		more = false;
		while (!output_is_full(d->output) && (more = worker_collect(d->worker, &r)))
			take_result(d, &r);
		if (!more)
			delivery_tell_skips(&d->delivery);
		if (output_get_buf(d->output)->failed) {
			err_set(&d->failure, EX_OSERR, "out of memory for a line of output");
			event_base_loopbreak(d->base);
			return;
		}
		flush(d);
	} while (more && output_is_drained(d->output));

	if (ended && e.code != 0) {
		note_failure(d, &e);
		intake_stop(d->intake);
	}
	if (!output_is_drained(d->output))
		return;
	if (ended || (intake_has_stopped(d->intake) && intake_get_count(d->intake) == 0))
		event_base_loopbreak(d->base);
	else
		intake_resume(d->intake);
}

static void
on_results(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;

	(void)fd;
	(void)what;
	worker_clear(d->worker);
	pump(d);
}

static void
on_drained(void *arg)
{
	pump(arg);
}

/* The reader went away (a clean end), or nothing can be written any more. */
static void
on_output_failed(void *arg, const struct err *e)
{
	struct daemon *d = arg;

	note_failure(d, e);
	intake_stop(d->intake);
	event_base_loopbreak(d->base);
}

static const struct output_callbacks output_callbacks = {on_drained, on_output_failed};

static void
on_intake_end(void *arg, const struct err *e)
{
	struct daemon *d = arg;

	if (e->code != 0)
		note_failure(d, e);
	pump(d);
}

static const struct intake_callbacks intake_callbacks = {on_intake_end};

/* ---- signals -------------------------------------------------------- */

/* The first one lets the events in hand be finished; the second one ends the program at once. */
static void
on_signal(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;

	(void)fd;
	(void)what;
	for (int i = 0; i < 2; i++)
		event_del(d->signals[i]); /* back to the default action */
	service_stopping(d->service);
	intake_stop(d->intake);
	worker_stop(d->worker);
}

static void
on_libevent_log(int severity, const char *text)
{
	/* Warnings are of descriptors that epoll refuses, which files.c handles. */
	if (severity == EVENT_LOG_ERR)
		log_message(LOG_ERR, "libevent: %s", text);
}

/* ---- inputs --------------------------------------------------------- */

static int
open_files(struct daemon *d, char *const *names, int n, struct err *e)
{
	const struct settings *s = d->settings;
	struct files_options o = {
		.names = names,
		.n = n,
		.format = (enum reader_format)s->format,
		.max_line = (size_t)s->max_line,
	};
	struct files *f = files_new(d->base, &o, &intake_feed_callbacks, d->intake, e);

	if (f == NULL)
		return -1;
	intake_add(d->intake, &files_ops, f);
	return 0;
}

static int
open_follow(struct daemon *d, struct err *e)
{
	const struct settings *s = d->settings;
	struct follow_options o = {
		.path = s->follow,
		.format = (enum reader_format)s->format,
		.max_line = (size_t)s->max_line,
		.from_end = s->from == FROM_END,
	};
	struct follow *f = follow_new(d->base, &o, &intake_feed_callbacks, d->intake, e);

	if (f == NULL)
		return -1;
	intake_add(d->intake, &follow_ops, f);
	return 0;
}

static int
open_socket(struct daemon *d, int handed, struct err *e)
{
	struct settings *s = d->settings;
	const char *name = handed < 0 ? s->socket : "events";

	text_add_clean(&d->socket_name, name, strlen(name));
	buf_add(&d->socket_name, "", 1);
	if (d->socket_name.failed)
		return err_set(e, EX_OSERR, "out of memory for the input");
	if ((handed < 0 ? listener_open(&d->events, s->socket, s->mode, e) : listener_adopt(&d->events, handed, e)) < 0)
		return -1;
	s->producers.name = d->socket_name.data;
	s->producers.peers.key = d->key.data;
	d->producers = producers_new(d->base, d->events.fd, &s->producers, &intake_feed_callbacks, d->intake, e);
	if (d->producers == NULL)
		return -1;
	intake_add(d->intake, &producers_ops, d->producers);
	return 0;
}

static int
open_inputs(struct daemon *d, char *const *names, int n, struct err *e)
{
	const struct settings *s = d->settings;
	int handed = service_take_socket(d->service, "events");
	bool socket = handed >= 0 || s->socket != NULL, others = s->follow != NULL || socket;

	if ((n > 0 || !others) && open_files(d, names, n, e) < 0)
		return -1;
	if (s->follow != NULL && open_follow(d, e) < 0)
		return -1;
	if (socket && open_socket(d, handed, e) < 0)
		return -1;
	return 0;
}

/* ---- as a service --------------------------------------------------- */

/* The engine thread has nothing to do, or has made a step since it was last looked at. */
static bool
is_alive(void *arg)
{
	struct daemon *d = arg;
	struct worker_counters c;
	bool alive;

	worker_get_counters(d->worker, &c);
	alive = !c.busy || c.steps != d->steps;
	d->steps = c.steps;
	return alive;
}

static void
describe(void *arg, char *text, size_t size)
{
	struct daemon *d = arg;

	snprintf(text, size, "%lld events", (long long)d->delivery.events);
}

static const struct service_callbacks service_callbacks = {is_alive, describe};

/* ---- start and end -------------------------------------------------- */

static void
count_progress(void *arg, struct progress_numbers *n)
{
	struct daemon *d = arg;
	struct worker_counters c;

	worker_get_counters(d->worker, &c);
	*n = (struct progress_numbers){d->delivery.events, d->delivery.errors, c.tokens, c.waiting};
}

static int
open_events(struct daemon *d, struct err *e)
{
	static const int numbers[2] = {SIGTERM, SIGINT};

	d->results = event_new(d->base, worker_get_fd(d->worker), EV_READ | EV_PERSIST, on_results, d);
	if (d->results == NULL || event_add(d->results, NULL) < 0)
		return err_set(e, EX_OSERR, "cannot wait for the engine thread");
	for (int i = 0; i < 2; i++) {
		d->signals[i] = evsignal_new(d->base, numbers[i], on_signal, d);
		if (d->signals[i] == NULL || event_add(d->signals[i], NULL) < 0)
			return err_set(e, EX_OSERR, "cannot wait for signals");
	}
	return 0;
}

/* As many descriptors as the system allows: every connection takes one. */
static void
raise_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

static int
open_worker(struct daemon *d, struct err *e)
{
	struct worker_options o = d->settings->worker;

	o.key = d->key.data;
	service_extend(d->service, LOAD_SECONDS);
	if ((d->worker = worker_new(&o, e)) == NULL)
		return -1;
	intake_set_worker(d->intake, d->worker);
	return 0;
}

static int
open_all(struct daemon *d, char *const *names, int n, struct err *e)
{
	const struct settings *s = d->settings;

	event_set_log_callback(on_libevent_log);
	signal(SIGPIPE, SIG_IGN); /* writing says EPIPE instead, */
	signal(SIGXFSZ, SIG_IGN); /* or EFBIG */
	raise_limit();
	text_add_json(&d->key, s->key, strlen(s->key));
	buf_add(&d->key, "", 1);
	d->base = event_base_new();
	if (d->key.failed || d->base == NULL)
		return err_set(e, EX_OSERR, "out of memory at the start");
	if ((d->service = service_new(&service_callbacks, d, e)) == NULL)
		return -1;
	d->delivery.key = d->key.data;
	if ((d->intake = intake_new(&s->intake, &intake_callbacks, d, e)) == NULL ||
	    open_inputs(d, names, n, e) < 0 ||
	    (d->output = output_new(d->base, s->output, &output_callbacks, d, e)) == NULL ||
	    open_worker(d, e) < 0 ||
	    open_events(d, e) < 0)
		return -1;
	d->delivery.output = d->output;
	d->delivery.producers = d->producers;
	d->output_is_terminal = s->output == NULL && isatty(STDOUT_FILENO);
	if (!s->quiet && isatty(STDERR_FILENO) && (d->progress = progress_new(d->base, count_progress, d, e)) == NULL)
		return -1;
	if (worker_start(d->worker, e) < 0)
		return -1;
	return service_ready(d->service, d->base, e);
}

/* What waits for connections is written, if they take it soon. */
static void
drain(struct daemon *d)
{
	for (int i = 0; d->producers != NULL && i < DRAIN_TRIES; i++) {
		if (peers_flush(producers_get_peers(d->producers)))
			break;
		usleep(DRAIN_WAIT);
	}
}

static void
close_all(struct daemon *d)
{
	progress_finish(d->progress);
	progress_free(d->progress);
	for (int i = 0; i < 2; i++)
		if (d->signals[i] != NULL)
			event_free(d->signals[i]);
	if (d->results != NULL)
		event_free(d->results);
	worker_free(d->worker);
	intake_free(d->intake);
	listener_close(&d->events);
	service_free(d->service);
	output_free(d->output);
	delivery_fini(&d->delivery);
	buf_fini(&d->socket_name);
	buf_fini(&d->key);
	if (d->base != NULL)
		event_base_free(d->base);
}

int
daemon_run(struct settings *s, char *const *names, int n, struct err *e)
{
	struct daemon d = {.settings = s, .events = {.fd = -1}};
	int rc = open_all(&d, names, n, e);

	if (rc == 0) {
		intake_resume(d.intake);
		event_base_dispatch(d.base);
		drain(&d);
		*e = d.failure;
		rc = d.failure.code == 0 ? 0 : -1;
	}
	close_all(&d);
	return rc;
}
