/*
 * Options in one table: it feeds the command line parser, --help, the
 * configuration file and the OPTIONS section of the manual page, so that they
 * cannot drift apart. Every program brings its own table and a struct of
 * values that the rows point into.
 */
#ifndef SINKD_BASE_OPTIONS_H
#define SINKD_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum option_type {
	OPTION_FLAG,   /* bool; --name, or --name=yes|no */
	OPTION_INT,    /* int64_t */
	OPTION_SIZE,   /* int64_t, bytes; K, M or G (powers of 1,024) may follow */
	OPTION_DURATION, /* int64_t, seconds; s, m, h or d may follow */
	OPTION_STRING, /* char *, a heap copy; NULL while not given */
	OPTION_CHOICE, /* int, index into choices */
};

enum option_flags {
	OPTION_REQUIRED = 1, /* must be given on the command line or in the configuration file */
	OPTION_CONFIG = 2,   /* names the configuration file; only on the command line; OPTION_STRING */
	OPTION_LIVE = 4,     /* may change while the program runs, see options_update; not OPTION_STRING */
};

/* One row. A table ends with a row whose name is NULL. */
struct option_row {
	const char *name;     /* long name, without dashes; the key in a configuration file */
	char letter;          /* short name, or 0 */
	enum option_type type;
	const char *argument; /* what the argument is called in help, e.g. "tokens"; NULL for a flag */
	size_t offset;        /* of the member in the struct of values */
	const char *fallback; /* default, written as on the command line, or NULL: 0, false, NULL */
	int64_t min, max;     /* range of a number; max INT64_MAX: no upper limit */
	const char *const *choices; /* of OPTION_CHOICE, ends with NULL */
	unsigned flags;
	const char *help; /* sentences; --help prints the first. "--name" in it becomes a reference in the manual */
};

struct options {
	const char *program;  /* "sinkd", or with a subcommand "sinkeval ppl" */
	const char *operands; /* what follows the options, e.g. "[file ...]"; NULL: nothing may follow */
	const char *about;    /* one sentence for --help */
	const struct option_row *rows;
};

enum options_wish {
	OPTIONS_RUN,     /* do the work */
	OPTIONS_HELP,    /* --help, -h: print help and exit 0 */
	OPTIONS_MANUAL,  /* --help=mdoc: print the manual's OPTIONS section and exit 0 */
	OPTIONS_VERSION, /* --version, -V: print the version and exit 0 */
	OPTIONS_EXAMPLE, /* --example-config, of programs that have a configuration file: print one and exit 0 */
};

/*
 * Fill *values (a zeroed struct that the rows' offsets refer to) from the
 * defaults, the configuration file where a row names one and it is given, and
 * the command line, each overriding the one before. --help and --version are
 * known to every program. argv may be permuted so that operands come last;
 * *operand receives the index of the first. Returns an enum options_wish, or
 * -1 with *e set: EX_USAGE (names the option), EX_CONFIG (names file and
 * line), EX_NOINPUT (no such file). Release with options_fini in every case.
 */
int options_parse(const struct options *o, int argc, char **argv, void *values, int *operand, struct err *e);

/*
 * The configuration was read again, into *fresh: the rows that may change take
 * their values from there into *values. changed is told of the name of each row
 * whose value differs: live, if it was taken.
 */
void options_update(const struct options *o, void *values, const void *fresh,
    void (*changed)(void *arg, const char *name, bool live), void *arg);

/* Release the strings in *values and set them to NULL. */
void options_fini(const struct options *o, void *values);

/* The row that names the configuration file, or NULL: the program has none. */
const struct option_row *options_get_config(const struct options *o);

/* Usage and one entry for each option, wrapped at 79 columns. */
void options_print_help(const struct options *o, FILE *out);

/* The same as mdoc(7): the list that follows ".Sh OPTIONS" in the manual page. */
void options_print_manual(const struct options *o, FILE *out);

/* A configuration file with every option, its help and its default, all of it commented out. */
void options_print_example(const struct options *o, FILE *out);

/*
 * What most programs do with a wish other than OPTIONS_RUN: print help,
 * manual section, example or "program version" to out. Returns 0, or -1 with *e set
 * (EX_IOERR) when it could not be written.
 */
int options_print_wish(const struct options *o, int wish, const char *version, FILE *out, struct err *e);

#endif
