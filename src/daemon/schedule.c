/* Digests on schedule; see schedule.h. Loop thread. */
#include "daemon/schedule.h"

#include <stdlib.h>

struct schedule {
	struct worker *worker;
	const struct digest_options *options;
	struct event *timer;
	int asked; /* for, and not back */
};

static void
schedule_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct schedule *s = arg;

	(void)fd;
	(void)what;
	/* While one waits, for the output say, others would only take the room that checkpoints need. */
	if (s->asked == 0)
		schedule_ask(s);
}

struct schedule *
schedule_new(struct event_base *base, struct worker *w, const struct digest_options *o, struct err *e)
{
	struct schedule *s = calloc(1, sizeof *s);

	if (s == NULL || (s->timer = event_new(base, -1, EV_PERSIST, schedule_on_timer, s)) == NULL) {
		err_set(e, EX_OSERR, "out of memory for timers");
		free(s);
		return NULL;
	}
	s->worker = w;
	s->options = o;
	return s;
}

void
schedule_free(struct schedule *s)
{
	if (s == NULL)
		return;
	event_free(s->timer);
	free(s);
}

int
schedule_set_interval(struct schedule *s, int64_t seconds, struct err *e)
{
	struct timeval interval = {(time_t)seconds, 0};

	event_del(s->timer);
	return seconds == 0 || event_add(s->timer, &interval) == 0 ? 0 : err_set(e, EX_OSERR, "cannot set timers");
}

void
schedule_ask(struct schedule *s)
{
	struct request *q = request_new(REQUEST_DIGEST);

	if (q == NULL)
		return;
	q->digest = *s->options;
	q->digest.reply.schema = NULL; /* the worker's own options count on schedule */
	q->digest.scheduled = true;
	if (worker_submit_request(s->worker, q))
		s->asked++;
	else
		request_free(q);
}

void
schedule_take(struct schedule *s, struct request *q)
{
	s->asked--;
	request_free(q);
}

bool
schedule_is_busy(const struct schedule *s)
{
	return s->asked > 0;
}
