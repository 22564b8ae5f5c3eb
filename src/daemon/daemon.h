/* The loop that joins inputs, engine thread and outputs. */
#ifndef SINKD_DAEMON_DAEMON_H
#define SINKD_DAEMON_DAEMON_H

#include "daemon/settings.h"

/*
 * Stream the inputs: those of the settings, and the files named by
 * argv[operand] and on ("-" for standard input), or standard input if there is
 * nothing else, until they end, a signal comes or something fails. The command
 * line is kept for the moment when the configuration is to be read again.
 * Returns 0, or a code of <sysexits.h>: then what went wrong was told, and what
 * was done until then is written.
 */
int daemon_run(struct settings *s, int argc, char **argv, int operand);

#endif
