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
#include "daemon/output/resume.h"
#include "daemon/parts.h"
#include "daemon/signals.h"

enum { DRAIN_TRIES = 20, DRAIN_WAIT = 50000 }; /* 1 s at the end for connections to take what waits for them */
enum { SAVE_SECONDS = 120 };                   /* that the last events and checkpoint may take */
enum { LAST_TRIES = 3 };                       /* of the checkpoint at the end */

static void pump(struct daemon *d);

/* What goes wrong first is what the user is told. */
static void
daemon_note_failure(struct daemon *d, const struct err *e)
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
		stats_take_digest(d->stats, r->line, r->len);
		delivery_take_line(&d->delivery, r->line, r->len);
		result_drop(r);
	} else if (r->request->op == REQUEST_CHECKPOINT)
		d->written = r->request;
	else {
		d->digests--;
		result_drop(r);
	}
}

static void
flush(struct daemon *d)
{
	if (d->output_is_terminal && !output_is_drained(d->output))
		progress_erase(d->progress);
	output_flush(d->output);
}

/* Move what there is. Returns true when nothing of it waits for the output. */
static bool
move(struct daemon *d)
{
	struct result r;
	bool more;

	do {
		more = false;
		while (!output_is_full(d->output) && d->written == NULL && (more = worker_collect(d->worker, &r)))
			take_result(d, &r);
		if (!more || d->written != NULL)
			delivery_tell_skips(&d->delivery);
		if (output_get_buf(d->output)->failed) {
			err_set(&d->failure, EX_OSERR, "out of memory for a line of output");
			event_base_loopbreak(d->base);
			return false;
		}
		flush(d);
		/* All that came before the checkpoint must be in the output's file by now. */
		if (d->written != NULL && output_is_drained(d->output)) {
			struct request *q = d->written;

			d->written = NULL;
			checkpoint_take(d->checkpoint, d->worker, q);
			request_free(q);
			more = true;
		}
	} while (more && output_is_drained(d->output));
	return output_is_drained(d->output);
}

/* At the end of the inputs: the last checkpoint. Returns true when all is done. */
static bool
daemon_finish(struct daemon *d)
{
	struct err e;

	if (d->checkpoint == NULL || d->ended)
		return true;
	if (!d->ending) {
		d->ending = true;
		checkpoint_hurry(d->checkpoint);
		(void)checkpoint_begin(d->checkpoint, d->worker, &e); /* it is tried again if it cannot begin */
	}
	return false;
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
	bool drained = move(d);
	bool failed = worker_has_failed(d->worker, &e); /* last: its last results may be among those moved */

	/* Called when the engine or the output has come on. */
	if (d->stopping)
		service_extend(d->service, SAVE_SECONDS);
	if ((ended || failed) && e.code != 0) {
		daemon_note_failure(d, &e);
		intake_stop(d->intake);
	}
	if (!drained)
		return;
	if (ended)
		event_base_loopbreak(d->base);
	else if (failed)
		return; /* the thread is about to end, and no checkpoint may follow */
	else if (!intake_has_stopped(d->intake)) {
		if (d->began)
			intake_resume(d->intake);
	} else if (intake_get_count(d->intake) == 0 && d->digests == 0 && daemon_finish(d))
		event_base_loopbreak(d->base);
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

const struct output_callbacks daemon_output_callbacks = {daemon_on_drained, on_output_failed};

/* ---- digests -------------------------------------------------------- */

static bool
has_digests(const struct daemon *d)
{
	return d->settings->digest_every > 0 || d->settings->digest_interval > 0;
}

/* One of the events since the last, in the order of the stream. */
static void
ask_digest(struct daemon *d)
{
	struct request *q = request_new(REQUEST_DIGEST);

	if (q == NULL)
		return;
	q->digest = d->settings->worker.digests.options;
	q->digest.reply.schema = NULL; /* the worker's own options count on schedule */
	q->digest.scheduled = true;
	if (worker_submit_request(d->worker, q))
		d->digests++;
	else
		request_free(q);
}

void
daemon_on_digest_timer(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;

	(void)fd;
	(void)what;
	/* While one waits, for the output say, others would only take the room that checkpoints need. */
	if (d->digests == 0)
		ask_digest(d);
}

static void
on_intake_end(void *arg, const struct err *e)
{
	struct daemon *d = arg;

	if (e->code != 0)
		daemon_note_failure(d, e);
	else if (has_digests(d))
		ask_digest(d);
	pump(d);
}

const struct intake_callbacks daemon_intake_callbacks = {on_intake_end};

/* ---- checkpoints ---------------------------------------------------- */

void
daemon_on_checkpoint_timer(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	struct err e;

	(void)fd;
	(void)what;
	if (intake_get_seq(d->intake) != d->saved_seq && !checkpoint_is_busy(d->checkpoint))
		(void)checkpoint_begin(d->checkpoint, d->worker, &e);
}

static json_t *
on_save(void *arg)
{
	struct daemon *d = arg;

	d->saved_seq = intake_get_seq(d->intake);
	return daemon_save(d);
}

/* A file that was removed cannot be gone on with after a restart: the next lines go to one that can. */
static bool
reopen_if_removed(struct daemon *d)
{
	struct err e;

	if (!output_is_removed(d->output))
		return false;
	log_message(LOG_WARNING, "%s was removed, with the lines in it: the next ones go to a new file of that name",
	    d->settings->output);
	if (output_reopen(d->output, &e) == 0)
		return true;
	log_message(LOG_ERR, "%s", e.text);
	return false;
}

void
daemon_on_look(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	struct err e;

	(void)fd;
	(void)what;
	flush(d);
	if (output_is_drained(d->output) && reopen_if_removed(d) && d->checkpoint != NULL)
		(void)checkpoint_begin(d->checkpoint, d->worker, &e);
}

static json_t *
on_measure(void *arg, int files[CHECKPOINT_FILES], int *n, struct err *e)
{
	struct daemon *d = arg;
	json_t *places = json_object(), *mark = NULL;

	*n = 0;
	if (output_get_file(d->output) < 0)
		return places;
	(void)reopen_if_removed(d);
	mark = resume_mark_file(output_get_file(d->output), d->settings->output, d->settings->key, e);
	if (mark != NULL && json_object_set_new(places, "output", mark) == 0 &&
	    (*n = output_take_files(d->output, files, e)) >= 0)
		return places;
	*n = 0;
	json_decref(places);
	return NULL;
}

/* The inputs are read from here on, and the service manager is told so. */
static void
daemon_go_on(struct daemon *d)
{
	struct err e;

	d->began = true;
	if (service_ready(d->service, d->base, &e) < 0) {
		daemon_note_failure(d, &e);
		event_base_loopbreak(d->base);
	}
}

static void
on_saved(void *arg, const struct err *e)
{
	struct daemon *d = arg;
	const struct checkpoint_numbers *n = checkpoint_get_numbers(d->checkpoint);

	if (d->control != NULL)
		control_end_checkpoint(d->control, e, n->bytes, n->seconds);
	if (!d->began) {
		/* What is read from here on can be read again, if this run does not come to its end. */
		if (e->code != 0) {
			daemon_note_failure(d, e);
			event_base_loopbreak(d->base);
			return;
		}
		beginning_remove(state_folder_get_path(d->folder));
		daemon_go_on(d);
	}
	if (d->ending && !checkpoint_is_busy(d->checkpoint)) {
		d->ended = e->code == 0 || ++d->last_tries == LAST_TRIES;
		if (d->ended && e->code != 0)
			daemon_note_failure(d, e);
	}
	pump(d);
}

const struct checkpoint_callbacks daemon_checkpoint_callbacks = {on_save, on_measure, on_saved};

/* ---- control -------------------------------------------------------- */

static int
on_checkpoint_asked(void *arg, struct err *e)
{
	struct daemon *d = arg;

	if (d->checkpoint == NULL)
		return err_set(e, EX_DATAERR, "the daemon keeps no state, see --state");
	return checkpoint_begin(d->checkpoint, d->worker, e);
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
	flush(d);
	if (output_reopen(d->output, &e) < 0)
		log_message(LOG_ERR, "%s", e.text);
	else if (d->checkpoint != NULL)
		(void)checkpoint_begin(d->checkpoint, d->worker, &e);
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
	output_set_patience(d->output, (int)d->settings->patience);
	if (d->checkpoint == NULL)
		worker_stop(d->worker);
	else {
		d->stopping = d->began = true;
		pump(d);
	}
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
		return checkpoint_begin(d->checkpoint, d->worker, e);
	}
	daemon_go_on(d);
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
		.events = {.fd = -1},
		.commands = {.fd = -1},
	};
	struct err e = {0};
	int rc;

	rc = daemon_open(&d, argv + operand, argc - operand, &e);
	if (signals_ask_end())
		e = (struct err){0}; /* during the start: nothing was read, and what failed may have been interrupted */
	else if (rc == 0 && daemon_begin(&d, &e) == 0) {
		if (event_base_dispatch(d.base) < 0) {
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
	return e.code;
}
