/* Progress on a terminal; see progress.h. Loop thread. */
#include "daemon/progress.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"

enum { HISTORY = 16 }; /* redraws, of 0.2 s, that rates are taken over */

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
	bool drawn;
};

static void
look(struct progress *p, struct moment *m)
{
	m->time = clock_get_seconds();
	p->ask(p->arg, &m->n);
}

static double
rate(int64_t from, int64_t to, double seconds)
{
	return seconds > 0 ? (double)(to - from) / seconds : 0;
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct progress *p = arg;
	struct buf *line = output_get_buf(p->terminal);
	struct moment now, *old = &p->history[p->redraws % HISTORY];
	double seconds;

	(void)fd;
	(void)what;
	if (!output_is_drained(p->terminal))
		return; /* it was stopped */
	look(p, &now);
	seconds = now.time - old->time;
	buf_printf(line, "\r%" PRId64 " events  %.1f events/s  %.0f tokens/s  lag %zu", now.n.events,
	    rate(old->n.events, now.n.events, seconds), rate(old->n.tokens, now.n.tokens, seconds), now.n.lag);
	if (now.n.errors > 0)
		buf_printf(line, "  %" PRId64 " errors", now.n.errors);
	buf_add_text(line, "\033[K");
	output_flush(p->terminal);
	*old = now;
	p->redraws++;
	p->drawn = true;
}

struct progress *
progress_new(struct event_base *base, struct output *terminal, void (*ask)(void *arg, struct progress_numbers *n),
    void *arg, struct err *e)
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
	p->ask = ask;
	p->arg = arg;
	look(p, &p->start);
	for (int i = 0; i < HISTORY; i++)
		p->history[i] = p->start;
	return p;
}

void
progress_erase(struct progress *p)
{
	if (p == NULL || !p->drawn || !output_is_drained(p->terminal))
		return;
	buf_add_text(output_get_buf(p->terminal), "\r\033[K");
	output_flush(p->terminal);
	p->drawn = false;
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
	look(p, &now);
	seconds = now.time - p->start.time;
	buf_printf(line, "%" PRId64 " events, %" PRId64 " errors, %" PRId64 " tokens in %.1f s: ", now.n.events,
	    now.n.errors, now.n.tokens, seconds);
	buf_printf(line, "%.1f events/s, %.0f tokens/s\n", rate(0, now.n.events, seconds),
	    rate(0, now.n.tokens, seconds));
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
