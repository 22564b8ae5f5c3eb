/* A program of several commands, each with options of its own: sinkctl, sinkeval. */
#ifndef SINKD_BASE_COMMANDS_H
#define SINKD_BASE_COMMANDS_H

#include "base/options.h"

struct commands {
	const char *program;
	/*
	 * The options of command i, whose program is "program command", and the size
	 * of the struct that their rows point into. NULL: there are no more commands.
	 */
	const struct options *(*get)(int i, size_t *size);
	/* Do command i; operands are the argv entries behind the options, NULL-terminated. 0, or -1 with *e set. */
	int (*run)(int i, void *values, char **operands, struct err *e);
};

/*
 * What main does: find the command, parse its options, run it; --help and
 * --version with and without a command. Failures are told on stderr; returns
 * the exit status.
 */
int commands_main(const struct commands *c, int argc, char **argv);

#endif
