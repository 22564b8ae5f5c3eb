/* The loop that joins input, engine thread and output. */
#ifndef SINKD_DAEMON_DAEMON_H
#define SINKD_DAEMON_DAEMON_H

#include "base/err.h"
#include "daemon/settings.h"

/*
 * Stream the inputs (paths, "-" for standard input; n = 0: standard input)
 * until they end, a signal comes or something fails. Returns 0, or -1 with *e
 * set: what was done until then is written.
 */
int daemon_run(const struct settings *s, char *const *inputs, int n, struct err *e);

#endif
