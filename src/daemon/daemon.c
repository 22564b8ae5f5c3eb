/*
 * The loop that joins input, engine thread and output; see daemon.h. It owns
 * the records: a line becomes one when there is room, goes to the engine
 * thread and comes back, becomes a line of output, and gives its room back.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"
#include "daemon/input.h"
#include "daemon/output.h"
#include "daemon/pool.h"
#include "daemon/progress.h"
#include "stream/annotate.h"
#include "stream/text.h"

struct daemon {
	const struct settings *settings;
	struct event_base *base;
	struct event *results, *signals[2];
	struct worker *worker;
	struct reader *reader;
	struct pool *pool;
	struct input *input;
	struct output *output;
	struct progress *progress;
	struct buf key;       /* the member's name as a JSON string */
	bool output_is_terminal;
	bool no_more_input;
	int64_t seq;          /* records begun */
	int64_t events, errors; /* records written */
	struct err failure;   /* the first one; code 0: none */
};

/* What goes wrong first is what the user is told. */
static void
note_failure(struct daemon *d, const struct err *e)
{
	if (d->failure.code == 0)
		d->failure = *e;
}

static void
stop_input(struct daemon *d)
{
	input_stop(d->input);
	d->no_more_input = true;
}

/* ---- output --------------------------------------------------------- */

static void
write_record(struct daemon *d, struct record *r)
{
	annotate_write(output_get_buf(d->output), r, d->key.data);
	if (r->type == RECORD_ERROR)
		d->errors++;
	else
		d->events++;
	pool_release(d->pool, r);
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
			write_record(d, r.record);
		if (output_get_buf(d->output)->failed) {
			err_set(&d->failure, EX_OSERR, "out of memory for a line of output");
			event_base_loopbreak(d->base);
			return;
		}
		flush(d);
	} while (more && output_is_drained(d->output));

	if (ended && e.code != 0) {
		note_failure(d, &e);
		stop_input(d);
	}
	if (!output_is_drained(d->output))
		return;
	if (ended || (d->no_more_input && pool_get_count(d->pool) == 0))
		event_base_loopbreak(d->base);
	else if (!d->no_more_input)
		input_resume(d->input);
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
	stop_input(d);
	event_base_loopbreak(d->base);
}

static const struct output_callbacks output_callbacks = {on_drained, on_output_failed};

/* ---- input ---------------------------------------------------------- */

static void
note_bad_line(struct daemon *d, const struct record *r)
{
	struct err e;

	if (!d->settings->strict)
		return;
	err_set(&e, EX_DATAERR, "%s, line %lld: %s", r->input == NULL ? "standard input" : r->input, (long long)r->line,
	    r->reason);
	note_failure(d, &e);
	stop_input(d);
}

static bool
on_line(void *arg, const char *name, const struct line *line)
{
	struct daemon *d = arg;
	struct record record;
	struct err e;
	int rc;

	if (!pool_has_room(d->pool, READER_GROWTH(line->len)))
		return false;
	rc = reader_read(d->reader, line, &record, &e);
	if (rc < 0) {
		note_failure(d, &e);
		stop_input(d);
	}
	if (rc <= 0)
		return true;
	record.seq = ++d->seq;
	record.input = name;
	if (record.type == RECORD_ERROR)
		note_bad_line(d, &record);
	worker_submit(d->worker, pool_take(d->pool, &record));
	return true;
}

static void
on_input_end(void *arg, const struct err *e)
{
	struct daemon *d = arg;

	if (e->code != 0)
		note_failure(d, e);
	d->no_more_input = true;
	pump(d);
}

static const struct input_callbacks input_callbacks = {on_line, on_input_end};

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
	stop_input(d);
	worker_stop(d->worker);
}

static void
on_libevent_log(int severity, const char *text)
{
	/* Warnings are of descriptors that epoll refuses, which input.c handles. */
	if (severity == EVENT_LOG_ERR)
		log_message(LOG_ERR, "libevent: %s", text);
}

/* ---- start and end -------------------------------------------------- */

static void
count_progress(void *arg, struct progress_numbers *n)
{
	struct daemon *d = arg;
	struct worker_counters c;

	worker_get_counters(d->worker, &c);
	*n = (struct progress_numbers){d->events, d->errors, c.tokens, c.waiting};
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

static int
open_all(struct daemon *d, char *const *inputs, int n, struct err *e)
{
	const struct settings *s = d->settings;
	struct worker_options worker = s->worker;

	event_set_log_callback(on_libevent_log);
	signal(SIGPIPE, SIG_IGN); /* writing says EPIPE instead, */
	signal(SIGXFSZ, SIG_IGN); /* or EFBIG */
	text_add_json(&d->key, s->key, strlen(s->key));
	buf_add(&d->key, "", 1);
	worker.key = d->key.data;
	d->reader = reader_new(&s->reader);
	d->base = event_base_new();
	if (d->key.failed || d->reader == NULL || d->base == NULL)
		return err_set(e, EX_OSERR, "out of memory at the start");
	if ((d->input = input_new(d->base, inputs, n, (size_t)s->max_line, &input_callbacks, d, e)) == NULL ||
	    (d->output = output_new(d->base, STDOUT_FILENO, &output_callbacks, d, e)) == NULL ||
	    (d->pool = pool_new(READER_GROWTH((size_t)s->max_line), e)) == NULL ||
	    (d->worker = worker_new(&worker, e)) == NULL ||
	    open_events(d, e) < 0)
		return -1;
	d->output_is_terminal = isatty(STDOUT_FILENO);
	if (!s->quiet && isatty(STDERR_FILENO) && (d->progress = progress_new(d->base, count_progress, d, e)) == NULL)
		return -1;
	return worker_start(d->worker, e);
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
	pool_free(d->pool);
	output_free(d->output);
	input_free(d->input);
	reader_free(d->reader);
	buf_fini(&d->key);
	if (d->base != NULL)
		event_base_free(d->base);
}

int
daemon_run(const struct settings *s, char *const *inputs, int n, struct err *e)
{
	struct daemon d = {.settings = s};
	int rc = open_all(&d, inputs, n, e);

	if (rc == 0) {
		input_resume(d.input);
		event_base_dispatch(d.base);
		*e = d.failure;
		rc = d.failure.code == 0 ? 0 : -1;
	}
	close_all(&d);
	return rc;
}
