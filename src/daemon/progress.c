/* Progress on a terminal; see progress.h. Loop thread. */
#include "daemon/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	HISTORY = 16, /* redraws, of 0.2 s, that rates are taken over */
	LINE = 192,   /* more than any line has */
	COLUMNS = 80, /* of a terminal that does not know its width */
};

struct moment {
	double time;
	struct progress_numbers n;
};

struct progress {
	struct output *terminal;
	struct event *timer;
	void (*ask)(void *arg, struct progress_numbers *n);
	void *arg;
	struct moment start, history[HISTORY];
	unsigned redraws;
	bool drawn, shared;
};

static void
progress_look(struct progress *p, struct moment *m)
{
	m->time = clock_get_seconds();
	p->ask(p->arg, &m->n);
}

static double
progress_rate(int64_t from, int64_t to, double seconds)
{
	return seconds > 0 ? (double)(to - from) / seconds : 0;
}

/* The terminal is asked each time: its width changes, and the answer costs less than a handler of SIGWINCH. */
static size_t
get_columns(void)
{
	struct winsize w;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : COLUMNS;
}

/* Cut to the terminal's width, less the column where the cursor stands: a line that wraps could not be drawn over. */
static void
draw(struct progress *p, const struct moment *now, const struct moment *old)
{
	double seconds = now->time - old->time;
	size_t columns = get_columns();
	char line[LINE];
	int n = snprintf(line, sizeof line, "%" PRId64 " events  %.1f events/s  %.0f tokens/s  lag %zu", now->n.events,
	    progress_rate(old->n.events, now->n.events, seconds), progress_rate(old->n.tokens, now->n.tokens, seconds),
	    now->n.lag);

	if (now->n.errors > 0)
		snprintf(line + n, sizeof line - (size_t)n, "  %" PRId64 " errors", now->n.errors);
	buf_printf(output_get_buf(p->terminal), "\r%.*s\033[K", (int)(columns < LINE ? columns - 1 : LINE), line);
	output_flush(p->terminal);
	p->drawn = true;
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct progress *p = arg;
	struct moment now, *old = &p->history[p->redraws % HISTORY];

	(void)fd;
	(void)what;
	if (!output_is_drained(p->terminal))
		return; /* it was stopped */
	progress_look(p, &now);
	draw(p, &now, old);
	*old = now;
	p->redraws++;
}

struct progress *
progress_new(struct event_base *base, struct output *terminal, void (*ask)(void *arg, struct progress_numbers *n),
    void *arg, bool shared, struct err *e)
{
	static const struct timeval interval = {.tv_usec = 200 * 1000};
	struct progress *p = calloc(1, sizeof *p);

	if (p == NULL || (p->timer = event_new(base, -1, EV_PERSIST, on_timer, p)) == NULL ||
	    event_add(p->timer, &interval) < 0) {
		err_set(e, EX_OSERR, "out of memory for the progress line");
		progress_free(p);
		return NULL;
	}
	p->terminal = terminal;
	p->shared = shared;
	p->ask = ask;
	p->arg = arg;
	progress_look(p, &p->start);
	for (int i = 0; i < HISTORY; i++)
		p->history[i] = p->start;
	return p;
}

static void
progress_erase(struct progress *p)
{
	if (!p->drawn || !output_is_drained(p->terminal))
		return;
	buf_add_text(output_get_buf(p->terminal), "\r\033[K");
	output_flush(p->terminal);
	p->drawn = false;
}

void
progress_make_way(struct progress *p)
{
	if (p != NULL && p->shared)
		progress_erase(p);
}

void
progress_finish(struct progress *p)
{
	struct moment now;
	struct buf *line;
	double seconds;

	if (p == NULL)
		return;
	line = output_get_buf(p->terminal);
	progress_erase(p);
	progress_look(p, &now);
	seconds = now.time - p->start.time;
	buf_printf(line, "%" PRId64 " events, %" PRId64 " errors, %" PRId64 " tokens in %.1f s: ", now.n.events,
	    now.n.errors, now.n.tokens, seconds);
	buf_printf(line, "%.1f events/s, %.0f tokens/s\n", progress_rate(0, now.n.events, seconds),
	    progress_rate(0, now.n.tokens, seconds));
	output_flush(p->terminal);
}

void
progress_free(struct progress *p)
{
	if (p == NULL)
		return;
	if (p->timer != NULL)
		event_free(p->timer);
	free(p);
}
