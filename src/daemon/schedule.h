/* Digests on schedule: the loop asks the engine thread for them, in the order of the stream. Loop thread. */
#ifndef SINKD_DAEMON_SCHEDULE_H
#define SINKD_DAEMON_SCHEDULE_H

#include <event2/event.h>

#include "daemon/worker.h"

struct schedule;

/* Borrows the worker and the options, which may change. Returns NULL with *e set (EX_OSERR). */
struct schedule *schedule_new(struct event_base *base, struct worker *w, const struct digest_options *o,
    struct err *e);
void schedule_free(struct schedule *s);

/* Ask for one every so many seconds; 0: do not. Returns 0, or -1 with *e set. */
int schedule_set_interval(struct schedule *s, int64_t seconds, struct err *e);

/* Ask for one of the events since the last, if the engine thread has room for the request. */
void schedule_ask(struct schedule *s);

/* A request came back. Its digest, if there was anything to tell, is a line of the output. */
void schedule_take(struct schedule *s, struct request *q);

/* Is one on its way? */
bool schedule_is_busy(const struct schedule *s);

#endif
