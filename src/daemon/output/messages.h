/*
 * Messages for people leave by way of the loop: a terminal that was stopped,
 * or a pipe that nobody reads, holds up nothing but them.
 */
#ifndef SINKD_DAEMON_MESSAGES_H
#define SINKD_DAEMON_MESSAGES_H

#include "daemon/output/output.h"

struct messages;

/*
 * From here on log_message goes through the loop. What standard error does not
 * take waits; when 64 KiB do, further messages are lost and counted, and the
 * number is told. Returns NULL with *e set.
 */
struct messages *messages_new(struct event_base *base, struct err *e);

/* What waits has a second to leave. NULL: nothing. */
void messages_free(struct messages *m);

/* Standard error, for what else is to be shown there. */
struct output *messages_get_output(struct messages *m);

#endif
