/* A look at what a start would need, without a start. */
#ifndef SINKD_DAEMON_CHECK_H
#define SINKD_DAEMON_CHECK_H

#include "daemon/settings.h"

/*
 * Check the model, the state, the inputs names[n] and those of the settings, the
 * output and the sockets, and print a line about each to standard output. Nothing
 * is made, changed or locked. Returns 0, or the code of the first error.
 */
int check_run(const struct settings *s, char *const *names, int n);

#endif
