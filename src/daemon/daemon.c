/*
 * The loop that joins inputs, engine thread and outputs; see daemon.h: it
 * moves results along, makes checkpoints, and listens to signals.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/input/beginning.h"
#include "daemon/parts.h"
#include "daemon/signals.h"
#include "stream/fault.h"

enum { DRAIN_TRIES = 20, DRAIN_WAIT = 50000 }; /* 1 s at the end for connections to take what waits for them */
enum { SAVE_SECONDS = 120 };                   /* that the last events and checkpoint may take */
enum { LAST_TRIES = 3 };                       /* of the checkpoint at the end */

/* What goes wrong first is what the user is told. */
static void
daemon_note_failure(struct daemon *d, const struct err *e)
{
	if (d->failure.code == 0)
		d->failure = *e;
}

/* ---- the phase ------------------------------------------------------ */

static void
start_reading(struct daemon *d)
{
	struct err e;

	if (service_ready(d->service, d->base, &e) == 0)
		return;
	daemon_note_failure(d, &e);
	daemon_enter(d, PHASE_OVER);
}

/* If it cannot begin, it is tried again. */
static void
start_saving(struct daemon *d)
{
	struct err e;

	checkpoint_hurry(d->checkpoint);
	(void)checkpoint_begin(d->checkpoint, &e);
}

void
daemon_enter(struct daemon *d, enum phase next)
{
	if (next <= d->phase)
		return;
	d->phase = next;
	if (next == PHASE_READING)
		start_reading(d);
	else if (next == PHASE_SAVING)
		start_saving(d);
	else if (next == PHASE_OVER)
		event_base_loopbreak(d->base);
}

/* Nothing waits for the outputs: read on, or come a step nearer to the end. */
static void
advance(struct daemon *d)
{
	if (!intake_has_stopped(d->intake)) {
		if (d->phase == PHASE_READING)
			intake_resume(d->intake);
		return;
	}
	daemon_enter(d, PHASE_ENDING);
	if (intake_get_count(d->intake) > 0 || schedule_is_busy(d->schedule))
		return;
	if (d->checkpoint == NULL || d->phase == PHASE_SAVED)
		daemon_enter(d, PHASE_OVER);
	else
		daemon_enter(d, PHASE_SAVING);
}

/* ---- output --------------------------------------------------------- */

static void
take_result(struct daemon *d, struct result *r)
{
	if (r->type == RESULT_RECORD) {
		delivery_take_record(&d->delivery, r->record);
		intake_release(d->intake, r->record);
	} else if (r->type == RESULT_LINE) {
		stats_take_digest(d->stats, r->line, r->len);
		delivery_take_line(&d->delivery, r->line, r->len);
		result_drop(r);
	} else if (r->request->op == REQUEST_CHECKPOINT)
		checkpoint_take(d->checkpoint, r->request);
	else
		schedule_take(d->schedule, r->request);
}

/* A checkpoint may wait until all lines before it have left. */
static bool
waits_for_outputs(const struct daemon *d)
{
	return d->checkpoint != NULL && checkpoint_waits(d->checkpoint);
}

/* Take what the engine thread has given, up to a checkpoint. Returns true if the engine thread may have more. */
static bool
collect(struct daemon *d)
{
	struct result r;
	bool more = false, waits = waits_for_outputs(d);

	while (!destinations_are_full(d->destinations) && !waits && (more = worker_collect(d->worker, &r))) {
		take_result(d, &r);
		waits = waits_for_outputs(d);
	}
	if (!more || waits)
		delivery_tell_skips(&d->delivery);
	return more;
}

/* Move what there is. Returns true when nothing of it waits for the outputs. */
static bool
move(struct daemon *d)
{
	bool more;

	do {
		more = collect(d);
		if (d->delivery.failed) {
			err_set(&d->failure, EX_OSERR, "out of memory for a line of output");
			daemon_enter(d, PHASE_OVER);
			return false;
		}
		if (!destinations_are_drained(d->destinations))
			progress_make_way(d->progress);
		destinations_flush(d->destinations);
		/* All that came before the checkpoint must have left by now. */
		if (waits_for_outputs(d) && destinations_are_drained(d->destinations)) {
			checkpoint_go_on(d->checkpoint);
			more = true;
		}
	} while (more && destinations_are_drained(d->destinations));
	return destinations_are_drained(d->destinations);
}

/*
 * Results become output, one write for what there is; then room is free for
 * input, or all is done. Called when the engine or the output has come on.
 */
static void
pump(struct daemon *d)
{
	struct err e = {0};
	bool ended = worker_has_ended(d->worker, &e); /* first: what is collected below is all there is */
	bool drained = move(d);
	bool failed = worker_has_failed(d->worker, &e); /* last: its last results may be among those moved */

	if (d->checkpoint != NULL)
		service_extend_stop(d->service, SAVE_SECONDS);
	if ((ended || failed) && e.code != 0) {
		daemon_note_failure(d, &e);
		intake_stop(d->intake);
	}
	if (!drained)
		return;
	if (ended)
		daemon_enter(d, PHASE_OVER);
	else if (!failed) /* else the thread is about to end, and no checkpoint may follow */
		advance(d);
}

void
daemon_on_results(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;

	(void)fd;
	(void)what;
	worker_clear(d->worker);
	pump(d);
}

/* Answers: they never wait for the output. */
void
daemon_on_replies(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	struct result r;

	(void)fd;
	(void)what;
	worker_clear_replies(d->worker);
	while (worker_collect_reply(d->worker, &r))
		control_take_result(d->control, &r);
}

static void
daemon_on_drained(void *arg)
{
	pump(arg);
}

/* The reader went away (a clean end), or nothing can be written any more. */
static void
on_output_failed(void *arg, const struct err *e)
{
	struct daemon *d = arg;

	daemon_note_failure(d, e);
	intake_stop(d->intake);
	event_base_loopbreak(d->base);
}

static void
on_output_moved(void *arg)
{
	struct daemon *d = arg;
	struct err e;

	if (d->checkpoint != NULL)
		(void)checkpoint_begin(d->checkpoint, &e);
}

const struct destination_callbacks daemon_destination_callbacks = {{daemon_on_drained, on_output_failed},
    on_output_moved};

/* ---- inputs --------------------------------------------------------- */

static void
on_intake_end(void *arg, const struct err *e)
{
	struct daemon *d = arg;

	if (e->code != 0)
		daemon_note_failure(d, e);
	else if (d->settings->digest_every > 0 || d->settings->digest_interval > 0)
		schedule_ask(d->schedule);
	pump(d);
}

const struct intake_callbacks daemon_intake_callbacks = {on_intake_end};

/* ---- checkpoints ---------------------------------------------------- */

static int64_t
on_get_seq(void *arg)
{
	return intake_get_seq(((struct daemon *)arg)->intake);
}

static int
on_get_places(void *arg, struct places *p, struct err *e)
{
	return destinations_get_places(((struct daemon *)arg)->destinations, p, e);
}

/* What is read from here on can be read again, if this run does not come to its end. */
static void
on_first_saved(struct daemon *d, const struct err *e)
{
	if (e->code == 0) {
		beginning_remove(state_folder_get_path(d->folder));
		daemon_enter(d, PHASE_READING);
	} else {
		daemon_note_failure(d, e);
		daemon_enter(d, PHASE_OVER);
	}
}

static void
on_last_saved(struct daemon *d, const struct err *e)
{
	if (e->code != 0 && ++d->last_tries < LAST_TRIES)
		return;
	if (e->code != 0)
		daemon_note_failure(d, e);
	daemon_enter(d, PHASE_SAVED);
}

static void
on_saved(void *arg, const struct err *e)
{
	struct daemon *d = arg;
	const struct checkpoint_numbers *n = checkpoint_get_numbers(d->checkpoint);

	if (d->control != NULL)
		control_end_checkpoint(d->control, e, n->bytes, n->seconds);
	if (d->phase == PHASE_STARTING)
		on_first_saved(d, e);
	else if (d->phase == PHASE_SAVING && !checkpoint_is_busy(d->checkpoint))
		on_last_saved(d, e);
	if (d->phase != PHASE_OVER)
		pump(d);
}

const struct checkpoint_callbacks daemon_checkpoint_callbacks = {daemon_save, on_get_seq, on_get_places, on_saved};

/* ---- control -------------------------------------------------------- */

static int
on_checkpoint_asked(void *arg, struct err *e)
{
	struct daemon *d = arg;

	if (d->checkpoint == NULL)
		return err_set(e, EX_DATAERR, "the daemon keeps no state, see --state");
	return checkpoint_begin(d->checkpoint, e);
}

const struct control_callbacks daemon_control_callbacks = {daemon_add_status, on_checkpoint_asked};

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

const struct service_callbacks daemon_service_callbacks = {is_alive, daemon_describe};

static void
on_changed(void *arg, const char *name, bool live)
{
	(void)arg;
	if (live)
		log_message(LOG_INFO, "%s has changed", name);
	else
		log_message(LOG_NOTICE, "%s has changed, and takes effect at the next start", name);
}

/* The output's file may have been renamed, and the configuration changed. */
static void
reload(struct daemon *d)
{
	struct settings fresh = {0};
	struct err e;
	int operand;

	service_reloading(d->service);
	if (options_parse(&settings_options, d->argc, d->argv, &fresh, &operand, &e) < 0 ||
	    settings_complete(&fresh, &e) < 0)
		log_message(LOG_ERR, "the configuration stays as it was: %s", e.text);
	else {
		options_update(&settings_options, d->settings, &fresh, on_changed, d);
		settings_refresh(d->settings);
		if (daemon_set_timers(d, &e) < 0)
			log_message(LOG_ERR, "%s", e.text);
	}
	settings_fini(&fresh);
	if (destinations_reopen(d->destinations, &e) < 0)
		log_message(LOG_ERR, "%s", e.text);
	else if (d->checkpoint != NULL)
		(void)checkpoint_begin(d->checkpoint, &e);
	service_reloaded(d->service);
}

/*
 * The first one lets the events in hand be finished, or with a state all that
 * were read, as long as the output takes them; the second one ends the program
 * at once.
 */
static void
daemon_end(struct daemon *d)
{
	for (int i = 0; i < 2; i++)
		event_del(d->signals[i]); /* back to the default action */
	service_stopping(d->service);
	intake_stop(d->intake);
	if (d->control != NULL)
		control_stop(d->control);
	destinations_set_patience(d->destinations, (int)d->settings->patience);
	daemon_enter(d, PHASE_ENDING);
	if (d->checkpoint == NULL)
		worker_stop(d->worker);
	else
		pump(d);
}

void
daemon_on_signal(evutil_socket_t number, short what, void *arg)
{
	(void)what;
	if (number == SIGHUP)
		reload(arg);
	else
		daemon_end(arg);
}

/* ---- the whole ------------------------------------------------------ */

/* What waits for connections is written, if they take it soon. */
static void
drain(struct daemon *d)
{
	for (int i = 0; i < DRAIN_TRIES; i++) {
		bool done = d->producers == NULL || peers_flush(producers_get_peers(d->producers));

		done &= d->control == NULL || peers_flush(control_get_peers(d->control));
		if (done)
			break;
		usleep(DRAIN_WAIT);
	}
}

static int
daemon_begin(struct daemon *d, struct err *e)
{
	if (worker_start(d->worker, e) < 0 || daemon_enter_sandbox(d, e) < 0)
		return -1;
	/* The first checkpoint says where the inputs begin, before anything is read of them. */
	if (d->checkpoint != NULL) {
		service_extend(d->service, SAVE_SECONDS);
		return checkpoint_begin(d->checkpoint, e);
	}
	daemon_enter(d, PHASE_READING);
	intake_resume(d->intake);
	return 0;
}

int
daemon_run(struct settings *s, int argc, char **argv, int operand)
{
	struct daemon d = {
		.settings = s,
		.argc = argc,
		.argv = argv,
	};
	struct err e = {0};
	int rc;

	rc = daemon_open(&d, argv + operand, argc - operand, &e);
	if (signals_ask_end())
		e = (struct err){0}; /* during the start: nothing was read, and what failed may have been interrupted */
	else if (rc == 0 && daemon_begin(&d, &e) == 0) {
		/* A loop that has not begun cannot be broken off. */
		if (d.phase != PHASE_OVER && event_base_dispatch(d.base) < 0) {
			err_set(&e, EX_OSERR, "the event loop ended: %s", strerror(errno));
			daemon_note_failure(&d, &e);
		}
		drain(&d);
		e = d.failure;
	}
	progress_finish(d.progress);
	if (e.code != 0)
		log_message(LOG_ERR, "%s", e.text);
	daemon_close(&d);
	return fault_get_status(e.code);
}
