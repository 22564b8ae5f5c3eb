/* --check-config; see check.h. Main thread, before anything runs. */
#include "daemon/check.h"

#include <errno.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/http/metrics.h"
#include "daemon/input/journal.h"
#include "daemon/service.h"
#include "daemon/signals.h"
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
		c->code = e->code;
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

/* The stream is made as for a start, since only that shows whether the state fits. */
static void
check_stream(struct check *c, const struct state *state)
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
	if (s->state != NULL)
		print_state(c, state, fit, &e);
	stream_close(stream);
}

/* Can a file be made there, or written to if it is there already? */
static int
check_place(const char *path, struct err *e)
{
	char copy[4096];
	const char *folder;

	if (access(path, F_OK) == 0)
		return access(path, W_OK) == 0 ? 0 : err_set(e, EX_CANTCREAT, "cannot write to %s: %s%s", path,
		    strerror(errno), service_explain(path, errno, true));
	snprintf(copy, sizeof copy, "%s", path);
	folder = dirname(copy);
	if (access(folder, W_OK | X_OK) == 0)
		return 0;
	return err_set(e, EX_CANTCREAT, "cannot make %s: %s%s", path, strerror(errno),
	    service_explain(path, errno, true));
}

static void
check_model_and_state(struct check *c)
{
	const struct settings *s = c->settings;
	struct state_folder *folder = NULL;
	struct state *state = NULL;
	struct err e = {0};

	if (s->state != NULL && (folder = state_folder_look(s->state, &e)) == NULL &&
	    (e.code != EX_NOINPUT || check_place(s->state, &e) < 0))
		print_bad(c, "state", &e);
	else if (folder != NULL && state_open_any(folder, s->worker.stream.model, &state, &e) < 0)
		print_bad(c, "state", &e);
	else if (state != NULL && state_get_warning(state) != NULL)
		printf("%-8s warning: %s\n", "state", state_get_warning(state));
	check_stream(c, state);
	state_close(state);
	state_folder_close(folder);
}

/* ---- inputs and outputs --------------------------------------------- */

static void
check_input(struct check *c, const char *what, const char *path, bool waits)
{
	struct err e;

	if (access(path, R_OK) == 0)
		print_good(what, "%s", path);
	else if (waits && errno == ENOENT)
		print_good(what, "%s is not there yet, sinkd waits for it", path);
	else {
		err_set(&e, EX_NOINPUT, "cannot read %s: %s%s", path, strerror(errno),
		    service_explain(path, errno, false));
		print_bad(c, what, &e);
	}
}

static void
check_inputs(struct check *c, char *const *names, int n)
{
	const struct settings *s = c->settings;
	struct err e;

	for (int i = 0; i < n; i++)
		if (strcmp(names[i], "-") != 0)
			check_input(c, "input", names[i], false);
	if (s->follow != NULL)
		check_input(c, "follow", s->follow, true);
	if (!s->journal)
		return;
	if (journal_check(s->journal_directory, &e) < 0)
		print_bad(c, "journal", &e);
	else
		print_good("journal", "it can be read");
}

static bool
is_served(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool served;

	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	served = fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
	if (fd >= 0)
		close(fd);
	return served;
}

static void
check_socket(struct check *c, const char *what, const char *path)
{
	struct err e = {0};

	if (path == NULL)
		return;
	if (strlen(path) >= sizeof ((struct sockaddr_un *)NULL)->sun_path)
		err_set(&e, EX_USAGE, "the name of the socket is too long: %s", path);
	else
		check_place(path, &e);
	if (e.code != 0)
		print_bad(c, what, &e);
	else
		print_good(what, "%s%s", path, is_served(path) ? ", where a program listens now" : "");
}

static void
check_metrics(struct check *c)
{
	const char *address = c->settings->metrics;
	struct err e;
	long port;

	if (address == NULL || strchr(address, '/') != NULL)
		check_socket(c, "metrics", address);
	else if ((port = metrics_read_port(address, &e)) < 0)
		print_bad(c, "metrics", &e);
	else
		print_good("metrics", "port %ld of 127.0.0.1", port);
}

int
check_run(const struct settings *s, char *const *names, int n)
{
	struct check c = {.settings = s};
	struct err e;

	print_good("options", "%s", s->config != NULL ? s->config : "those of the command line");
	check_model_and_state(&c);
	check_inputs(&c, names, n);
	if (s->output != NULL && check_place(s->output, &e) < 0)
		print_bad(&c, "output", &e);
	else if (s->output != NULL)
		print_good("output", "%s", s->output);
	check_socket(&c, "socket", s->socket);
	check_socket(&c, "control", s->control);
	check_metrics(&c);
	return fflush(stdout) != 0 && c.code == 0 ? EX_IOERR : c.code;
}
