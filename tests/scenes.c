/*
 * Plays one scene with sinkd, over and over, and each time another call fails or is its last (see fail_calls.c).
 * After each, a run without faults must leave what an undisturbed run leaves. Prints a table; see usage in main.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "scenes.h"

enum {
	PART = 8,          /* events that are followed at a time */
	PARTS = 3,
	PATIENCE = 30,     /* seconds for a step: longer than any that comes to its end on a busy machine */
	STALL_PATIENCE = 7, /* seconds for events after a message; a file that cannot be read is tried again after 5 */
	PEER_PATIENCE = 2, /* seconds for an answer after a message */
	SPAN = 1 << 20,    /* bytes of a file that this program reads */
	KNOWN = 32,
};

static const char *sinkd, *model, *library;
static char now[64];   /* what the scene does, for messages */
static int events_there; /* that were written to the followed file */

/* What was verified already: events, and what sinkd writes for them. */
static struct known {
	char *events, *output;
} known[KNOWN];
static int n_known;

static const char mark[] = "{\"source\":\"log\"";

/* ---- files ---------------------------------------------------------- */

_Noreturn static void
stop_here(const char *what)
{
	perror(what);
	exit(EX_OSERR);
}

/* A file's bytes and a zero behind them, to be freed; no bytes if it is not there. */
static char *
read_file(const char *path)
{
	char *bytes = malloc(SPAN);
	int fd = open(path, O_RDONLY);
	ssize_t n, len = 0;

	if (bytes == NULL)
		stop_here("malloc");
	while (fd >= 0 && (n = read(fd, bytes + len, SPAN - 1 - (size_t)len)) > 0)
		len += n;
	if (fd >= 0)
		close(fd);
	bytes[len] = '\0';
	return bytes;
}

static void
make_event(char *line, size_t size, int i)
{
	snprintf(line, size, "%s,\"text\":\"job %d of unit %d took %d ms\"}\n", mark, i, i % 3, i * 7919 % 1000);
}

/* The followed file grows until it has so many events. */
static void
add_events(int n)
{
	FILE *f = fopen("log", "a");
	char line[128];

	if (f == NULL)
		stop_here("log");
	while (events_there < n) {
		make_event(line, sizeof line, events_there++);
		fputs(line, f);
	}
	fclose(f);
}

/* All that was written to the output, before and after it was rotated. */
static char *
read_output(void)
{
	char *first = read_file("out.1"), *second = read_file("out");

	strncat(first, second, SPAN - strlen(first) - 1);
	free(second);
	return first;
}

static int
count_followed(void)
{
	char *output = read_output();
	int n = 0;

	for (const char *p = output; (p = strstr(p, mark)) != NULL && strchr(p, '\n') != NULL; p++)
		n++;
	free(output);
	return n;
}

/* ---- the daemon ----------------------------------------------------- */

struct life {
	pid_t pid;
	bool ended, hung;
	int status;      /* as of waitpid, when it has ended */
	bool unanswered; /* a peer got less than it asked for */
	bool stalled;    /* it reads no events, and has said something: that it tries again, perhaps */
};

static void
set_faults(const struct scene_fault *f)
{
	char number[32];

	snprintf(number, sizeof number, "%ld", f->from);
	setenv("LD_PRELOAD", library, 1);
	setenv("FAIL_CALLS", f->calls, 1);
	setenv("FAIL_HOW", f->how, 1);
	setenv("FAIL_FROM", number, 1);
	setenv("FAIL_REPORT", "struck", 1);
	if (f->ever)
		setenv("FAIL_EVER", "1", 1);
	if (f->in_loop)
		setenv("FAIL_IN_LOOP", "1", 1);
	if (f->path != NULL)
		setenv("FAIL_PATH", f->path, 1);
}

static void
redirect(const char *path, int flags, int to)
{
	int fd = open(path, flags, 0600);

	if (fd < 0 || dup2(fd, to) < 0)
		_exit(EX_OSERR);
	close(fd);
}

/* f: NULL for none. Standard error is appended to the file err. */
static struct life
start(const struct scene_fault *f)
{
	struct life l = {.pid = fork()};

	if (l.pid < 0)
		stop_here("fork");
	if (l.pid > 0)
		return l;
	redirect("/dev/null", O_RDONLY, STDIN_FILENO);
	redirect("stdout", O_WRONLY | O_CREAT | O_APPEND, STDOUT_FILENO);
	redirect("err", O_WRONLY | O_CREAT | O_APPEND, STDERR_FILENO);
	if (f != NULL)
		set_faults(f);
	execl(sinkd, "sinkd", "--model", model, "--threads", "1", "--follow", "log", "--from", "start", "--socket",
	    "sock",
	    "--control", "ctl", "--state", "state", "--output", "out", "--digest-every", "5", "--rolling",
	    (char *)NULL);
	_exit(EX_OSERR);
}

/* How long a daemon took what it took does not matter; only that it comes to an end does. */
static bool
has_ended(struct life *l)
{
	if (!l->ended && waitpid(l->pid, &l->status, WNOHANG) == l->pid)
		l->ended = true;
	return l->ended;
}

static double
get_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void
rest(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void
end_hung(struct life *l)
{
	fprintf(stderr, "%s: it hangs\n", now);
	l->hung = true;
	kill(l->pid, SIGKILL);
	waitpid(l->pid, &l->status, 0);
	l->ended = true;
}

static bool
has_spoken(void)
{
	struct stat st;

	return stat("err", &st) == 0 && st.st_size > 0;
}

/*
 * Wait until so many followed events are written, or the daemon has ended. One that neither comes on nor says anything
 * is killed.
 */
static void
wait_for_events(struct life *l, int n)
{
	double since = get_seconds();

	snprintf(now, sizeof now, "%d events", n);
	while (!l->stalled && !has_ended(l) && count_followed() < n) {
		if (get_seconds() - since > PATIENCE)
			end_hung(l);
		else
			l->stalled = get_seconds() - since > STALL_PATIENCE && has_spoken();
		rest();
	}
}

static void
wait_for_end(struct life *l)
{
	double end = get_seconds() + PATIENCE;

	if (!l->ended)
		snprintf(now, sizeof now, "the end");
	while (!has_ended(l)) {
		if (get_seconds() > end)
			end_hung(l);
		rest();
	}
}

/* ---- peers ---------------------------------------------------------- */

/*
 * Is it time to give up a peer? Once the daemon has said something, it may have said that this peer gets nothing. Where
 * it is silent, it hangs.
 */
static bool
has_waited(struct life *l, double since)
{
	double seconds = get_seconds() - since;

	if (seconds > PATIENCE)
		end_hung(l);
	return l->ended || (seconds > PEER_PATIENCE && has_spoken());
}

/* A connection, or -1 if there will be none. */
static int
call(struct life *l, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	double since = get_seconds();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	while (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
		if (has_ended(l) || has_waited(l, since)) {
			close(fd);
			return -1;
		}
		rest();
	}
	return fd;
}

/* Wait for so many lines from it, or the end. */
static void
take_lines(struct life *l, int fd, int n)
{
	double since = get_seconds();
	char bytes[4096];

	while (n > 0 && !has_ended(l)) {
		ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);

		for (ssize_t i = 0; i < got; i++)
			n -= bytes[i] == '\n';
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
			break;
		if (got < 0 && has_waited(l, since))
			break;
		if (got < 0)
			rest();
	}
	l->unanswered |= n > 0;
}

/* Say something on a socket, and wait for so many lines. */
static void
talk(struct life *l, const char *path, const char *text, int answers)
{
	int fd;

	snprintf(now, sizeof now, "talking on %s", path);
	if (has_ended(l) || (fd = call(l, path)) < 0)
		return;
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		l->unanswered = true;
	else
		take_lines(l, fd, answers);
	close(fd);
}

static void
produce(struct life *l)
{
	talk(l, "sock", "{\"source\":\"peer\",\"text\":\"hello\"}\n{\"source\":\"peer\",\"text\":\"it is ten\"}\n"
	    "{\"source\":\"peer\",\"text\":\"good bye\"}\n", 3);
}

/* Move the output away and ask for a new one; that it cannot be opened is said. */
static void
rotate(struct life *l)
{
	double end = get_seconds() + PATIENCE;
	struct stat st;
	off_t before;

	if (has_ended(l) || rename("out", "out.1") < 0)
		return;
	snprintf(now, sizeof now, "rotation");
	before = stat("err", &st) == 0 ? st.st_size : 0;
	kill(l->pid, SIGHUP);
	while (!has_ended(l) && stat("out", &st) < 0 && (stat("err", &st) < 0 || st.st_size == before)) {
		if (get_seconds() > end)
			end_hung(l);
		rest();
	}
}

/* ---- the scene ------------------------------------------------------ */

static void
play(struct life *l)
{
	wait_for_events(l, PART);
	produce(l);
	talk(l, "ctl", "{\"op\":\"digest\",\"id\":1}\n", 1);
	talk(l, "ctl", "{\"op\":\"checkpoint\",\"id\":2}\n", 1);
	add_events(2 * PART);
	wait_for_events(l, 2 * PART);
	rotate(l);
	add_events(3 * PART);
	wait_for_events(l, PARTS * PART);
	kill(l->pid, SIGTERM);
	wait_for_end(l);
}

static void
empty_folder(void)
{
	static const char *const files[] = {"err", "log", "log.1", "log.2", "out", "out.1", "sock", "ctl", "stdout",
	    "struck", "replay.in",
	    "replay.out", "state/checkpoint", "state/checkpoint.old", "state/checkpoint.tmp", "state/lock"};

	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		unlink(files[i]);
	rmdir("state");
	events_there = 0;
	add_events(PART);
}

/* A life before: killed after a checkpoint, when more than that is in the output. */
static void
live_before(void)
{
	struct life l = start(NULL);

	wait_for_events(&l, PART);
	talk(&l, "ctl", "{\"op\":\"checkpoint\"}\n", 1);
	add_events(2 * PART);
	wait_for_events(&l, 2 * PART);
	kill(l.pid, SIGKILL);
	wait_for_end(&l);
}

/* What has the name gets a number, and each that had one the next. */
static void
rotate_log(void)
{
	rename("log.1", "log.2");
	rename("log", "log.1");
}

static void
rotate_inputs(void)
{
	add_events(2 * PART + 2);
	rotate_log();
	add_events(2 * PART + 5);
	rotate_log();
	add_events(PARTS * PART);
}

static void
play_resumed(struct life *l)
{
	add_events(3 * PART);
	wait_for_events(l, PARTS * PART);
	kill(l->pid, SIGTERM);
	wait_for_end(l);
}

/* Without faults: what is left to do is done. Returns false if that does not end well. */
static bool
recover(void)
{
	struct life l = start(NULL);
	double end = get_seconds() + PATIENCE;
	int before;

	/* It may have cut the output first, so what counts is that it is ready: that it answers. */
	talk(&l, "ctl", "{\"op\":\"status\"}\n", 1);
	do
		before = count_followed();
	while (!has_ended(&l) && before < PARTS * PART && get_seconds() < end && (rest(), true));
	if (!has_ended(&l))
		kill(l.pid, SIGTERM);
	wait_for_end(&l);
	return !l.hung && WIFEXITED(l.status) && WEXITSTATUS(l.status) == 0;
}

/* ---- what must be in the output ------------------------------------- */

/* The events of the output without what sinkd added, as a text to be freed, or NULL: that is in *why. */
static char *
extract_events(const char *output, char *why, size_t size)
{
	char *events = calloc(1, SPAN), expected[128];
	const char *line, *end, *member;
	int i = 0;

	for (line = output; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		member = strstr(line, ",\"sinkd\":{\"type\":\"event\"");
		if (member == NULL || member > end)
			continue;
		sprintf(events + strlen(events), "%.*s}\n", (int)(member - line), line);
		if (strncmp(line, mark, strlen(mark)) != 0)
			continue;
		make_event(expected, sizeof expected, i++);
		if (strncmp(line, expected, (size_t)(member - line)) != 0) {
			snprintf(why, size, "event %d is lost, doubled or damaged", i - 1);
			free(events);
			return NULL;
		}
	}
	if (i == PARTS * PART && *line == '\0')
		return events;
	snprintf(why, size, "%d events of %d are there%s", i, PARTS * PART, *line == '\0' ? "" : ", and half a line");
	free(events);
	return NULL;
}

/* What an undisturbed sinkd writes for these events. */
static char *
replay(const char *events)
{
	FILE *f = fopen("replay.in", "w");
	pid_t pid;
	int status;

	if (f == NULL || fputs(events, f) < 0 || fclose(f) != 0 || (pid = fork()) < 0)
		stop_here("replay");
	if (pid == 0) {
		redirect("replay.out", O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
		execl(sinkd, "sinkd", "--model", model, "--threads", "1", "--digest-every", "5", "--rolling",
		    "replay.in", (char *)NULL);
		_exit(EX_OSERR);
	}
	if (waitpid(pid, &status, 0) < 0 || status != 0)
		stop_here("replay");
	return read_file("replay.out");
}

static const char *
find_known(const char *events)
{
	for (int i = 0; i < n_known; i++)
		if (strcmp(known[i].events, events) == 0)
			return known[i].output;
	if (n_known == KNOWN) {
		free(known[0].events);
		free(known[0].output);
		known[0] = known[--n_known];
	}
	known[n_known].events = strdup(events);
	known[n_known].output = replay(events);
	return known[n_known++].output;
}

/* A file that ends has a digest at its end, a followed one has not. */
static bool
is_same(const char *output, const char *whole)
{
	size_t n = strlen(output);

	return strncmp(output, whole, n) == 0 &&
	    (whole[n] == '\0' || strncmp(whole + n, "{\"sinkd\":{\"type\":\"digest\"", 25) == 0) &&
	    strchr(whole + n, '\n') == strrchr(whole + n, '\n');
}

static bool
verify(char *why, size_t size)
{
	char *output = read_output(), *events = extract_events(output, why, size);
	bool same = events != NULL && is_same(output, find_known(events));

	if (events != NULL && !same)
		snprintf(why, size, "the output has other bytes than that of an undisturbed run");
	free(events);
	free(output);
	return same;
}

/* ---- one fault ------------------------------------------------------ */

static bool
is_text(const char *errors)
{
	for (const char *line = errors; *line != '\0'; line = strchr(line, '\n') + 1)
		if (strncmp(line, "sinkd: ", 7) != 0 || strchr(line, '\n') == NULL)
			return false;
	return true;
}

/* Did the daemon end as it should? Sets r->code. */
static void
judge(struct scene_result *r, const struct life *l, const char *errors)
{
	r->code = WIFEXITED(l->status) ? WEXITSTATUS(l->status) : -WTERMSIG(l->status);
	if (l->hung)
		snprintf(r->why, sizeof r->why, "it hung at: %s", now);
	else if (r->code == -SIGKILL && r->may_be_killed)
		return;
	else if (r->code == -SIGTERM && *errors != '\0')
		return; /* it was ending by itself, and had said so, when it was told to end: that ends it at once */
	else if (r->code < 0)
		snprintf(r->why, sizeof r->why, "signal %d", -r->code);
	else if (r->code != 0 && (r->code < EX__BASE || r->code > EX__MAX))
		snprintf(r->why, sizeof r->why, "exit code %d", r->code);
	else if (r->code != 0 && *errors == '\0')
		snprintf(r->why, sizeof r->why, "it ended without a message");
	else if (l->unanswered && r->code == 0 && *errors == '\0')
		snprintf(r->why, sizeof r->why, "a peer got no answer, and nothing said why");
	else if (!is_text(errors))
		snprintf(r->why, sizeof r->why, "standard error has more than messages");
}

static void
try_fault(const struct scene_fault *f, struct scene_result *r)
{
	struct life l;

	empty_folder();
	if (f->resumed)
		live_before();
	if (f->rotated)
		rotate_inputs();
	unlink("err");
	l = start(f);
	if (f->resumed)
		play_resumed(&l);
	else
		play(&l);
	r->errors = read_file("err");
	r->struck = access("struck", F_OK) == 0;
	judge(r, &l, r->errors);
	for (int i = 0; i < f->again; i++) {
		l = start(f);
		play_resumed(&l);
	}
	if (r->code == 0 && !l.stalled && count_followed() < PARTS * PART && r->why[0] == '\0')
		snprintf(r->why, sizeof r->why, "it ended early with exit code 0");
	add_events(PARTS * PART); /* those that the daemon did not live to see */
}

void
scene_open(const char *program, const char *file, const char *preloaded)
{
	sinkd = program;
	model = file;
	library = preloaded;
}

void
scene_try(const struct scene_fault *f, struct scene_result *r)
{
	char why[128] = "";

	*r = (struct scene_result){.may_be_killed = strncmp(f->how, "kill", 4) == 0};
	try_fault(f, r);
	if (!recover())
		snprintf(why, sizeof why, "the run after it failed");
	else
		verify(why, sizeof why);
	if (why[0] != '\0' && r->why[0] == '\0')
		snprintf(r->why, sizeof r->why, "%s", why);
}
