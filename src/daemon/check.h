/* A look at what a start would need, without a start. */
#ifndef SINKD_DAEMON_CHECK_H
#define SINKD_DAEMON_CHECK_H

#include <sys/stat.h>

#include "daemon/settings.h"

/*
 * Check the model, the state, the inputs names[n] and those of the settings, the
 * output and the sockets, and print a line about each to standard output. Nothing
 * is made, changed or locked. Returns 0, or the code of the first error.
 */
int check_run(const struct settings *s, char *const *names, int n);

/* Is one of the inputs the output's file too? A start asks the same. Returns 0, or -1 with *e set (EX_USAGE). */
int check_loop(const struct settings *s, char *const *names, int n, const struct stat *output, struct err *e);

#endif
