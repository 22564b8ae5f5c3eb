/* The daemon's parts are opened, in the order in which they need each other, and closed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/check.h"
#include "daemon/input/beginning.h"
#include "daemon/input/files.h"
#include "daemon/input/follow.h"
#include "daemon/input/journal.h"
#include "daemon/parts.h"
#include "daemon/sandbox.h"
#include "daemon/signals.h"
#include "stream/text.h"

enum { LOAD_SECONDS = 300 }; /* that a step of loading a model may take */

/* What a checkpoint says. */
struct restored {
	struct state *state; /* NULL: there is none */
	json_t *blob;        /* NULL: there is none */
};

/* ---- inputs --------------------------------------------------------- */

static int
open_files(struct daemon *d, char *const *names, int n, const json_t *state, struct err *e)
{
	const struct settings *s = d->settings;
	struct files_options o = {
		.names = names,
		.n = n,
		.format = (enum reader_format)s->format,
		.max_line = (size_t)s->max_line,
		.state = state,
	};
	struct files *f = files_new(d->base, &o, &intake_feed_callbacks, d->intake, e);

	if (f == NULL)
		return -1;
	intake_add(d->intake, &files_ops, f);
	return 0;
}

static int
open_follow(struct daemon *d, const json_t *state, struct err *e)
{
	const struct settings *s = d->settings;
	struct follow_options o = {
		.path = s->follow,
		.format = (enum reader_format)s->format,
		.max_line = (size_t)s->max_line,
		.from_end = s->from == FROM_END,
		.state = state,
	};
	struct follow *f = follow_new(d->base, &o, &intake_feed_callbacks, d->intake, e);

	if (f == NULL)
		return -1;
	intake_add(d->intake, &follow_ops, f);
	return 0;
}

static int
setup_open_journal(struct daemon *d, const json_t *state, struct err *e)
{
	const struct settings *s = d->settings;
	struct journal_options o = {
		.matches = s->journal_match,
		.directory = s->journal_directory,
		.max_line = (size_t)s->max_line,
		.from_end = s->from == FROM_END,
		.state = state,
	};
	struct journal *j = journal_new(d->base, &o, &intake_feed_callbacks, d->intake, e);

	if (j == NULL)
		return -1;
	intake_add(d->intake, &journal_ops, j);
	return 0;
}

static int
open_producers(struct daemon *d, int handed, struct err *e)
{
	const struct settings *s = d->settings;
	struct producers_links links = {
		.name = handed < 0 ? s->socket : "events",
		.key = d->key.data,
		.service = handed < 0 ? NULL : d->service, /* whose socket it is, keeps the connections too */
	};
	int fd;

	if (listener_take(&links.listener, handed, s->socket, s->mode, e) < 0)
		return -1;
	d->producers = producers_new(d->base, &s->producers, &links, &intake_feed_callbacks, d->intake, e);
	if (d->producers == NULL)
		return -1;
	intake_add(d->intake, &producers_ops, d->producers);
	while ((fd = service_take_producer(d->service)) >= 0)
		peers_adopt(producers_get_peers(d->producers), fd);
	return 0;
}

static int
open_inputs(struct daemon *d, char *const *names, int n, const json_t *state, struct err *e)
{
	const struct settings *s = d->settings;
	int handed = service_take_socket(d->service, "events");
	bool socket = handed >= 0 || s->socket != NULL, others = s->follow != NULL || s->journal || socket;

	if (socket && open_producers(d, handed, e) < 0)
		return -1;
	if ((n > 0 || !others) && open_files(d, names, n, state, e) < 0)
		return -1;
	if (s->follow != NULL && open_follow(d, state, e) < 0)
		return -1;
	return s->journal ? setup_open_journal(d, state, e) : 0;
}

/* As a JSON string that is valid UTF-8; NULL: there is no text, or no memory. */
static json_t *
describe_name(const char *text)
{
	char *clean = text == NULL ? NULL : feed_make_name(text);
	json_t *o = clean == NULL ? NULL : json_string(clean);

	free(clean);
	return o;
}

/* What was asked for, to tell an earlier start with the same inputs. Returns NULL: no memory. */
static json_t *
describe_inputs(const struct daemon *d, char *const *names, int n)
{
	const struct settings *s = d->settings;
	json_t *files = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(files, describe_name(names[i]));
	return json_pack("{s:o, s:o*, s:b, s:o*, s:o*, s:i}", "files", files, "follow", describe_name(s->follow),
	    "journal", s->journal, "matches", describe_name(s->journal_match),
	    "directory", describe_name(s->journal_directory), "from", (int)s->from);
}

/*
 * There is no checkpoint. If an earlier start was killed before its first one,
 * begin where that start began; else note where this one begins.
 */
static int
begin_inputs(struct daemon *d, char *const *names, int n, struct err *e)
{
	const char *folder = state_folder_get_path(d->folder);
	json_t *asked = describe_inputs(d, names, n), *noted, *inputs;
	int rc;

	if (asked == NULL)
		return err_set(e, EX_OSERR, "out of memory for the inputs");
	noted = beginning_load(folder, asked);
	rc = open_inputs(d, names, n, noted, e);
	if (rc == 0 && noted == NULL) {
		inputs = json_object();
		(void)intake_save(d->intake, inputs);
		rc = beginning_save(folder, asked, inputs, e);
		json_decref(inputs);
	}
	json_decref(noted);
	json_decref(asked);
	return rc;
}

/* ---- the state ------------------------------------------------------ */

/* Why it is refused, e says: what the user can do about it. */
static int
refuse_state(const struct settings *s, struct err *e)
{
	struct err why = *e;

	return err_set(e, EX_CONFIG, "%s; take the options back, or give --state-mismatch=fresh to begin a new context "
	    "where the inputs were, or move the folder %s away to begin anew: then --from says where, and lines that "
	    "came meanwhile may not be read", why.text, s->state);
}

static int
open_checkpoint(struct daemon *d, struct restored *r, struct err *e)
{
	const struct settings *s = d->settings;

	if (s->state_mismatch == MISMATCH_FRESH)
		return state_open_any(d->folder, s->worker.stream.model, &r->state, e);
	if (state_open(d->folder, s->worker.stream.model, &r->state, e) == 0)
		return 0;
	return e->code == EX_CONFIG ? refuse_state(s, e) : -1;
}

static int
setup_open_state(struct daemon *d, struct restored *r, struct err *e)
{
	const struct settings *s = d->settings;
	const char *blob;
	size_t len;

	if (s->state == NULL)
		return 0;
	service_extend(d->service, LOAD_SECONDS); /* all of the model is read, where it is not the one before */
	if ((d->folder = state_folder_open(s->state, e)) == NULL || open_checkpoint(d, r, e) < 0)
		return -1;
	d->checkpoint = checkpoint_new(d->base, d->folder, &daemon_checkpoint_callbacks, d, e);
	if (d->checkpoint == NULL)
		return -1;
	if (r->state == NULL)
		return 0;
	if (state_get_warning(r->state) != NULL)
		log_message(LOG_WARNING, "%s", state_get_warning(r->state));
	blob = state_get_blob(r->state, &len);
	if ((r->blob = json_loadb(blob, len, 0, NULL)) == NULL)
		return err_set(e, EX_DATAERR, "the checkpoint in %s does not say where the inputs were", s->state);
	return 0;
}

/* An earlier version noted no more than the name and the size of the output's file. Returns NULL: no memory. */
static json_t *
make_places(const struct restored *r)
{
	return json_pack("{s:{s:s*, s:I}}", "output", "path", json_string_value(json_object_get(r->blob, "output")),
	    "size", (json_int_t)state_get_output_size(r->state));
}

/* What was written after the checkpoint will be written again. */
static int
restore_output(struct daemon *d, const struct restored *r, struct err *e)
{
	const char *text;
	json_t *places;
	size_t len;
	int rc;

	if (r->state == NULL)
		return 0;
	text = state_get_places(r->state, &len);
	places = text == NULL ? make_places(r) : json_loadb(text, len, 0, NULL);
	if (places == NULL)
		return err_set(e, EX_DATAERR, "the checkpoint in %s does not say where the output was",
		    d->settings->state);
	rc = destinations_cut(d->destinations, places, json_integer_value(json_object_get(r->blob, "seq")), e);
	json_decref(places);
	return rc;
}

static void
restore_counters(struct daemon *d, const json_t *blob)
{
	int64_t seq = json_integer_value(json_object_get(blob, "seq"));
	int64_t errors = json_integer_value(json_object_get(blob, "errors"));
	int64_t skipped = json_integer_value(json_object_get(blob, "skipped"));

	intake_set_numbers(d->intake, seq, errors);
	d->delivery.events = seq - errors - skipped;
	d->delivery.errors = errors;
	d->delivery.skipped = skipped;
}

/* ---- events --------------------------------------------------------- */

static struct event *
setup_wait_for(struct daemon *d, int fd, event_callback_fn callback)
{
	struct event *ev = event_new(d->base, fd, EV_READ | EV_PERSIST, callback, d);

	if (ev != NULL && event_add(ev, NULL) == 0)
		return ev;
	if (ev != NULL)
		event_free(ev);
	return NULL;
}

int
daemon_set_timers(struct daemon *d, struct err *e)
{
	const struct settings *s = d->settings;

	if (d->checkpoint != NULL && checkpoint_set_interval(d->checkpoint, s->checkpoint_interval, e) < 0)
		return -1;
	return schedule_set_interval(d->schedule, s->digest_interval, e);
}

/* A filter in a terminal's pipeline does not: it ends with the terminal. */
static bool
reloads(const struct daemon *d)
{
	return d->settings->config != NULL || d->settings->output != NULL;
}

static int
open_signals(struct daemon *d, struct err *e)
{
	static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
	bool hangup_came = signals_hand_over();
	int rc = 0;

	for (int i = 0; i < SIGNALS && rc == 0; i++) {
		if (numbers[i] == SIGHUP && !reloads(d))
			continue;
		/* What libevent puts back at the end: a late SIGHUP must not turn a failure into an end by signal. */
		if (numbers[i] == SIGHUP)
			signal(SIGHUP, SIG_IGN);
		d->signals[i] = evsignal_new(d->base, numbers[i], daemon_on_signal, d);
		if (d->signals[i] == NULL || event_add(d->signals[i], NULL) < 0)
			rc = err_set(e, EX_OSERR, "cannot wait for signals");
		else if (numbers[i] == SIGHUP && hangup_came)
			event_active(d->signals[i], EV_SIGNAL, 1);
	}
	signals_release();
	return rc;
}

static int
open_events(struct daemon *d, struct err *e)
{
	if ((d->results = setup_wait_for(d, worker_get_fd(d->worker), daemon_on_results)) == NULL ||
	    (d->replies = setup_wait_for(d, worker_get_reply_fd(d->worker), daemon_on_replies)) == NULL)
		return err_set(e, EX_OSERR, "cannot wait for the engine thread");
	if (open_signals(d, e) < 0)
		return -1;
	d->schedule = schedule_new(d->base, d->worker, &d->settings->worker.digests.options, e);
	return d->schedule == NULL ? -1 : daemon_set_timers(d, e);
}

/* ---- the rest ------------------------------------------------------- */

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

/* It goes on, unless a signal has asked for the end. */
static bool
setup_on_loading(void *arg)
{
	service_extend(arg, LOAD_SECONDS);
	return !signals_ask_end();
}

/* The state was saved with other options, as e says: it is kept, and the stream begins anew. */
static int
leave_state(struct daemon *d, const struct restored *r, struct err *e)
{
	int64_t seq = json_integer_value(json_object_get(r->blob, "seq"));
	struct err why = *e;
	char kept[4096];

	if (d->settings->state_mismatch != MISMATCH_FRESH)
		return refuse_state(d->settings, e);
	if (state_keep(r->state, d->folder, seq, kept, sizeof kept, e) < 0)
		return -1;
	log_message(LOG_WARNING, "%s: a new context begins after number %lld, and the old checkpoint is kept as %s",
	    why.text, (long long)seq, kept);
	return 0;
}

static int
open_worker(struct daemon *d, const struct restored *r, struct err *e)
{
	struct worker_options o = d->settings->worker;

	o.key = d->key.data;
	o.folder = d->folder;
	o.state = r->state;
	o.stream.context.loading = setup_on_loading;
	o.stream.context.loading_arg = d->service;
	if (!setup_on_loading(d->service))
		return err_set(e, ERR_STOPPED, "the start was stopped");
	if (r->state != NULL && state_is_foreign(r->state, e)) {
		if (leave_state(d, r, e) < 0)
			return -1;
		o.state = NULL;
	}
	if ((d->worker = worker_new(&o, e)) == NULL && o.state != NULL && e->code == EX_CONFIG) {
		if (leave_state(d, r, e) < 0)
			return -1;
		o.state = NULL;
		d->worker = worker_new(&o, e);
	}
	if (d->worker == NULL)
		return -1;
	intake_set_worker(d->intake, d->worker);
	return 0;
}

static int
open_control(struct daemon *d, struct err *e)
{
	const struct settings *s = d->settings;
	struct control_links links = {.key = d->key.data, .worker = d->worker};
	int handed = service_take_socket(d->service, "control");

	if (handed < 0 && s->control == NULL)
		return 0;
	if (listener_take(&links.listener, handed, s->control, s->mode, e) < 0)
		return -1;
	d->control = control_new(d->base, &s->control_options, &links, &daemon_control_callbacks, d, e);
	return d->control == NULL ? -1 : 0;
}

static int
open_metrics(struct daemon *d, struct err *e)
{
	const struct settings *s = d->settings;
	int handed = service_take_socket(d->service, "metrics");

	if (handed < 0 && s->metrics == NULL)
		return 0;
	d->metrics = metrics_new(d->base, handed, s->metrics, s->mode, d->stats, daemon_add_status, d, e);
	return d->metrics == NULL ? -1 : 0;
}

static void
on_libevent_log(int severity, const char *text)
{
	/* Warnings are of descriptors that epoll refuses, which files.c handles. */
	if (severity == EVENT_LOG_ERR)
		log_message(LOG_ERR, "libevent: %s", text);
}

static int
open_base(struct daemon *d, struct err *e)
{
	event_set_log_callback(on_libevent_log);
	signal(SIGPIPE, SIG_IGN); /* writing says EPIPE instead, */
	signal(SIGXFSZ, SIG_IGN); /* or EFBIG */
	raise_limit();
	text_add_json(&d->key, d->settings->key, strlen(d->settings->key));
	buf_add(&d->key, "", 1);
	d->base = event_base_new();
	d->stats = stats_new();
	if (d->key.failed || d->base == NULL || d->stats == NULL)
		return err_set(e, EX_OSERR, "out of memory at the start");
	if ((d->messages = messages_new(d->base, e)) == NULL)
		return -1;
	if ((d->service = service_new(&daemon_service_callbacks, d, e)) == NULL)
		return -1;
	d->intake = intake_new(&d->settings->intake, &daemon_intake_callbacks, d, e);
	return d->intake == NULL ? -1 : 0;
}

/*
 * A pipe's reader may write to the same terminal, and so may whoever started
 * sinkd in the background: the line is drawn without being asked for only where
 * the output is a file, and nothing else has anything to show.
 */
static bool
wants_progress(const struct daemon *d)
{
	const struct settings *s = d->settings;
	struct stat st;

	if (s->quiet || !isatty(STDERR_FILENO))
		return false;
	if (s->progress || destinations_get_file(d->destinations) >= 0)
		return true;
	return s->output == NULL && fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode);
}

/* What is written would be read again, and grow for ever. */
static int
refuse_loop(const struct daemon *d, char *const *names, int n, struct err *e)
{
	int fd = destinations_get_file(d->destinations);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? check_loop(d->settings, names, n, &st, e) : 0;
}

/* Somebody at a terminal who sees nothing is told what sinkd waits for. */
static void
tell_waiting(const struct daemon *d, int n)
{
	const struct settings *s = d->settings;
	bool others = s->follow != NULL || s->journal || d->producers != NULL;

	if (s->quiet || !isatty(STDERR_FILENO))
		return;
	if (n == 0 && !others && isatty(STDIN_FILENO))
		log_message(LOG_NOTICE, "reading events from this terminal, one a line; Control-D ends the input");
	if (intake_get_seq(d->intake) == 0 && s->follow != NULL && s->from == FROM_END)
		log_message(LOG_NOTICE, "waiting for new lines in %s; --from start begins with the old ones",
		    s->follow);
	if (intake_get_seq(d->intake) == 0 && s->journal && s->from == FROM_END)
		log_message(LOG_NOTICE, "waiting for new entries in the journal; --from start begins with the old "
		    "ones");
}

static int
open_rest(struct daemon *d, char *const *names, int n, const struct restored *r, struct err *e)
{
	const struct settings *s = d->settings;
	const struct destination_options o = {.base = d->base, .output = s->output, .key = s->key};

	if ((d->folder != NULL && r->blob == NULL ? begin_inputs(d, names, n, e) :
	    open_inputs(d, names, n, r->blob, e)) < 0 ||
	    (d->destinations = destinations_open(&o, &daemon_destination_callbacks, d, e)) == NULL ||
	    refuse_loop(d, names, n, e) < 0 ||
	    restore_output(d, r, e) < 0 ||
	    open_worker(d, r, e) < 0 ||
	    open_control(d, e) < 0 ||
	    open_metrics(d, e) < 0 ||
	    open_events(d, e) < 0)
		return -1;
	if (r->blob != NULL)
		restore_counters(d, r->blob);
	if (d->checkpoint != NULL)
		checkpoint_set_worker(d->checkpoint, d->worker, intake_get_seq(d->intake));
	d->delivery.key = d->key.data;
	d->delivery.destinations = d->destinations;
	d->delivery.producers = d->producers;
	d->delivery.control = d->control;
	d->delivery.stats = d->stats;
	if (wants_progress(d) && (d->progress = progress_new(d->base, messages_get_output(d->messages),
	    daemon_count_progress, d, s->output == NULL && isatty(STDOUT_FILENO), e)) == NULL)
		return -1;
	tell_waiting(d, n);
	return 0;
}

int
daemon_enter_sandbox(struct daemon *d, struct err *e)
{
	const struct settings *s = d->settings;
	unsigned needs = 0;

	if (!s->sandbox)
		return 0;
	if (s->output != NULL || d->checkpoint != NULL)
		needs |= SANDBOX_WRITES;
	if (d->producers != NULL || d->control != NULL || d->metrics != NULL)
		needs |= SANDBOX_ACCEPTS;
	if (service_is_notified(d->service))
		needs |= SANDBOX_NOTIFIES;
	if (worker_get_context(d->worker)->gpu)
		needs |= SANDBOX_GPU;
	return sandbox_enter(needs, e);
}

int
daemon_open(struct daemon *d, char *const *names, int n, struct err *e)
{
	struct restored r = {0};
	int rc = -1;

	if (!reloads(d))
		signals_leave_hangup();
	if (open_base(d, e) == 0 && setup_open_state(d, &r, e) == 0)
		rc = open_rest(d, names, n, &r, e);
	json_decref(r.blob);
	state_close(r.state);
	return rc;
}

void
daemon_close(struct daemon *d)
{
	struct event *events[] = {d->results, d->replies, d->signals[0], d->signals[1], d->signals[2]};

	progress_free(d->progress);
	for (size_t i = 0; i < sizeof events / sizeof *events; i++)
		if (events[i] != NULL)
			event_free(events[i]);
	metrics_free(d->metrics);
	control_free(d->control);
	schedule_free(d->schedule);
	worker_free(d->worker);
	checkpoint_free(d->checkpoint);
	intake_free(d->intake);
	service_free(d->service);
	destinations_close(d->destinations);
	delivery_fini(&d->delivery);
	stats_free(d->stats);
	buf_fini(&d->key);
	messages_free(d->messages);
	if (d->base != NULL)
		event_base_free(d->base);
	state_folder_close(d->folder);
}
