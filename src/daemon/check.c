/* --check-config; see check.h. Main thread, before anything runs. */
#include "daemon/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "daemon/http/metrics.h"
#include "daemon/input/files.h"
#include "daemon/input/follow.h"
#include "daemon/input/journal.h"
#include "daemon/output/output_file.h"
#include "daemon/peers/listener.h"
#include "daemon/service.h"
#include "daemon/signals.h"
#include "stream/fault.h"
#include "stream/state.h"

struct check {
	const struct settings *settings;
	int code; /* of the first error; 0: none */
};

static __attribute__((format(printf, 2, 3))) void
print_good(const char *what, const char *format, ...)
{
	va_list ap;

	printf("%-8s ok: ", what);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
}

static void
print_bad(struct check *c, const char *what, const struct err *e)
{
	printf("%-8s error: %s\n", what, e->text);
	if (c->code == 0)
		c->code = fault_get_status(e->code);
}

/* ---- model and state ------------------------------------------------ */

/* Would this start go on from the checkpoint? fit: what state_restore said. */
static void
print_state(struct check *c, const struct state *state, int fit, const struct err *e)
{
	const char *folder = c->settings->state;

	if (state == NULL)
		print_good("state", "%s has no checkpoint yet", folder);
	else if (fit == 0)
		print_good("state", "the next start goes on from the checkpoint in %s", folder);
	else if (e->code == EX_CONFIG && c->settings->state_mismatch == MISMATCH_FRESH)
		print_good("state", "%s, so that the next start begins a new context", e->text);
	else
		print_bad(c, "state", e);
}

static bool
check_on_loading(void *arg)
{
	(void)arg;
	return !signals_ask_end();
}

/* The stream is made as for a start: only that shows whether a state that is usable so far fits it. */
static void
check_stream(struct check *c, const struct state *state, bool usable)
{
	const struct settings *s = c->settings;
	struct stream_options o = s->worker.stream;
	struct err e = {0};
	struct stream *stream;
	struct context_info info;
	int fit = -1;

	o.context.loading = check_on_loading;
	if ((stream = stream_open(&o, &e)) == NULL) {
		print_bad(c, "model", &e);
		return;
	}
	context_get_info(stream->context, &info);
	print_good("model", "%s, %.0f million parameters of %s, on %s", s->worker.stream.model,
	    1e-6 * (double)model_get_info(stream->model)->n_params, model_get_info(stream->model)->weight_type,
	    info.path);
	if (state != NULL && !state_is_foreign(state, &e))
		fit = state_restore(state, stream, &e);
	if (usable)
		print_state(c, state, fit, &e);
	stream_close(stream);
}

/* *state stays NULL if there is no checkpoint yet. Returns 0, or -1 with *e set. */
static int
look_at_state(const struct settings *s, struct state_folder **folder, struct state **state, struct err *e)
{
	if ((*folder = state_folder_look(s->state, e)) != NULL)
		return state_open_any(*folder, s->worker.stream.model, state, e);
	if (e->code != EX_NOINPUT)
		return -1;
	return file_check_write(s->state) == 0 ? 0 : err_set(e, EX_CANTCREAT, "cannot make %s: %s%s", s->state,
	    strerror(errno), service_explain(s->state, errno, true));
}

static void
check_model_and_state(struct check *c)
{
	const struct settings *s = c->settings;
	struct state_folder *folder = NULL;
	struct state *state = NULL;
	struct err e = {0};

	bool usable = s->state == NULL || look_at_state(s, &folder, &state, &e) == 0;

	if (!usable)
		print_bad(c, "state", &e);
	else if (state != NULL && state_get_warning(state) != NULL)
		printf("%-8s warning: %s\n", "state", state_get_warning(state));
	check_stream(c, state, s->state != NULL && usable);
	state_close(state);
	state_folder_close(folder);
}

/* ---- inputs and outputs --------------------------------------------- */

static void
check_follow(struct check *c, const char *path)
{
	struct err e;
	int rc = follow_check(path, &e);

	if (rc < 0)
		print_bad(c, "follow", &e);
	else
		print_good("follow", "%s%s", path, rc > 0 ? "" : " is not there yet, sinkd waits for it");
}

static void
check_journal(struct check *c)
{
	const struct settings *s = c->settings;
	struct journal_options o = {.matches = s->journal_match, .directory = s->journal_directory};
	struct err e;

	if (journal_check(&o, &e) < 0)
		print_bad(c, "journal", &e);
	else
		print_good("journal", "it can be read");
}

static void
check_inputs(struct check *c, char *const *names, int n)
{
	struct err e;

	for (int i = 0; i < n; i++)
		if (files_check(names[i], &e) < 0)
			print_bad(c, "input", &e);
		else
			print_good("input", "%s", names[i]);
	if (c->settings->follow != NULL)
		check_follow(c, c->settings->follow);
	if (c->settings->journal)
		check_journal(c);
}

/* What is written to a file must not come back as input. */
static void
check_output(struct check *c, char *const *names, int n)
{
	const char *path = c->settings->output;
	struct stat st;
	struct err e;

	if (path == NULL)
		return;
	if (output_file_check(path, &e) < 0 ||
	    (stat(path, &st) == 0 && S_ISREG(st.st_mode) && check_loop(c->settings, names, n, &st, &e) < 0))
		print_bad(c, "output", &e);
	else
		print_good("output", "%s", path);
}

static void
check_socket(struct check *c, const char *what, const char *path)
{
	struct err e;
	int rc;

	if (path == NULL)
		return;
	if ((rc = listener_check(path, &e)) < 0)
		print_bad(c, what, &e);
	else
		print_good(what, "%s%s", path, rc > 0 ? ", where a program listens now" : "");
}

static void
check_metrics(struct check *c)
{
	const char *address = c->settings->metrics;
	struct err e;
	long port;

	if (address == NULL || metrics_is_path(address))
		check_socket(c, "metrics", address);
	else if ((port = metrics_read_port(address, &e)) < 0)
		print_bad(c, "metrics", &e);
	else
		print_good("metrics", "port %ld of 127.0.0.1", port);
}

static bool
is_same_file(const char *name, const struct stat *output)
{
	struct stat input;

	return name != NULL && stat(name, &input) == 0 && input.st_dev == output->st_dev &&
	    input.st_ino == output->st_ino;
}

int
check_loop(const struct settings *s, char *const *names, int n, const struct stat *output, struct err *e)
{
	const char *name = is_same_file(s->follow, output) ? s->follow : NULL;

	for (int i = 0; i < n && name == NULL; i++)
		if (is_same_file(names[i], output))
			name = names[i];
	return name == NULL ? 0 : err_set(e, EX_USAGE, "%s is an input and the output too: name another --output",
	    name);
}

int
check_run(const struct settings *s, char *const *names, int n)
{
	struct check c = {.settings = s};

	print_good("options", "%s", s->config != NULL ? s->config : "those of the command line");
	check_model_and_state(&c);
	check_inputs(&c, names, n);
	check_output(&c, names, n);
	check_socket(&c, "socket", s->socket);
	check_socket(&c, "control", s->control);
	check_metrics(&c);
	return fflush(stdout) != 0 && c.code == 0 ? EX_IOERR : c.code;
}
