/*
 * Options: parsing of the command line and of the configuration file; see
 * options.h. What they print is in options_help.c.
 */
#include "base/options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* getopt_long's values for long options: row r is ROW + r, beyond any letter. */
enum { ROW = 0x1000, ROW_HELP = 0x2000, ROW_VERSION = 0x2001, ROW_EXAMPLE = 0x2002 };
enum { ROWS_MAX = 64, LIST = 256 };

static int
row_count(const struct options *o)
{
	int n = 0;

	while (o->rows[n].name != NULL)
		n++;
	assert(n <= ROWS_MAX);
	return n;
}

static void *
member(const struct option_row *r, void *values)
{
	return (char *)values + r->offset;
}

/* How a message names the row: as it was written by the user. */
static const char *
dashes(int code)
{
	return code == EX_CONFIG ? "" : "--";
}

/* What a letter behind a number of this type multiplies it by, or 0: it may not stand there. */
static long long
get_unit(enum option_type type, char letter)
{
	static const struct {
		enum option_type type;
		char letter;
		long long factor;
	} units[] = {
		{OPTION_SIZE, 'K', 1LL << 10}, {OPTION_SIZE, 'M', 1LL << 20}, {OPTION_SIZE, 'G', 1LL << 30},
		{OPTION_DURATION, 's', 1}, {OPTION_DURATION, 'm', 60}, {OPTION_DURATION, 'h', 3600},
		{OPTION_DURATION, 'd', 86400},
	};

	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (units[i].type == type && (units[i].letter | 0x20) == (letter | 0x20))
			return units[i].factor;
	return 0;
}

/* How a message lists the letters of get_unit. */
static const char *
tell_units(enum option_type type)
{
	return type == OPTION_DURATION ? " seconds (s, m, h or d may follow, as in 15m)" :
	    type == OPTION_SIZE ? " bytes (K, M or G may follow)" : "";
}

/* A value in quotes is told apart from quotes that the user wrote. */
static const char *
show_value(const char *text, char *shown, size_t size)
{
	snprintf(shown, size, "'%s'%s", text, *text == '"' || *text == '\'' ? "; write the value without quotes" :
	    strstr(text, " #") != NULL ? "; a comment needs a line of its own" : "");
	return shown;
}

static int
set_number(const struct option_row *r, const char *text, int64_t *out, int code, const char *where, struct err *e)
{
	char *end, shown[LIST];
	long long v, unit;
	bool overflow;

	errno = 0;
	v = strtoll(text, &end, 10);
	overflow = errno == ERANGE;
	if (end != text && *end != '\0' && (unit = get_unit(r->type, *end)) != 0) {
		overflow |= __builtin_mul_overflow(v, unit, &v);
		end++;
	}
	if (end != text && *end == '\0' && !overflow && v >= r->min && v <= r->max) {
		*out = v;
		return 0;
	}
	if (r->max == INT64_MAX)
		return err_set(e, code, "%s%s%s must be a whole number of at least %lld, not %s", where, dashes(code),
		    r->name, (long long)r->min, show_value(text, shown, sizeof shown));
	return err_set(e, code, "%s%s%s must be a whole number from %lld to %lld%s, not %s", where, dashes(code),
	    r->name, (long long)r->min, (long long)r->max, tell_units(r->type), show_value(text, shown, sizeof shown));
}

static int
set_flag(const struct option_row *r, const char *text, bool *out, int code, const char *where, struct err *e)
{
	char shown[LIST];

	if (text == NULL || strcasecmp(text, "yes") == 0 || strcasecmp(text, "true") == 0 || strcmp(text, "1") == 0)
		*out = true;
	else if (strcasecmp(text, "no") == 0 || strcasecmp(text, "false") == 0 || strcmp(text, "0") == 0)
		*out = false;
	else
		return err_set(e, code, "%s%s%s must be yes or no, not %s", where, dashes(code), r->name,
		    show_value(text, shown, sizeof shown));
	return 0;
}

/* "a, b or c". */
static void
list_choices(const struct option_row *r, char *list, size_t size)
{
	list[0] = '\0';
	for (int i = 0; r->choices[i] != NULL; i++) {
		const char *comma = i == 0 ? "" : r->choices[i + 1] == NULL ? " or " : ", ";
		size_t used = strlen(list);

		snprintf(list + used, size - used, "%s%s", comma, r->choices[i]);
	}
}

static int
set_choice(const struct option_row *r, const char *text, int *out, int code, const char *where, struct err *e)
{
	char list[LIST], shown[LIST];

	for (int i = 0; r->choices[i] != NULL; i++)
		if (strcmp(text, r->choices[i]) == 0) {
			*out = i;
			return 0;
		}
	list_choices(r, list, sizeof list);
	return err_set(e, code, "%s%s%s must be %s, not %s", where, dashes(code), r->name, list,
	    show_value(text, shown, sizeof shown));
}

/* Set the member of row r from text (NULL: a flag without argument). where: "file:line: " or "". */
static int
set_value(const struct option_row *r, const char *text, void *values, int code, const char *where, struct err *e)
{
	void *m = member(r, values);
	char *copy;

	switch (r->type) {
	case OPTION_FLAG:
		return set_flag(r, text, m, code, where, e);
	case OPTION_INT:
	case OPTION_SIZE:
	case OPTION_DURATION:
		return set_number(r, text, m, code, where, e);
	case OPTION_CHOICE:
		return set_choice(r, text, m, code, where, e);
	case OPTION_STRING:
		if (*text == '\0')
			return err_set(e, code, "%s%s%s must not be empty", where, dashes(code), r->name);
		if ((copy = strdup(text)) == NULL)
			return err_set(e, EX_OSERR, "out of memory for the options");
		free(*(char **)m);
		*(char **)m = copy;
		return 0;
	}
	assert(false);
	return -1;
}

static int
set_defaults(const struct options *o, void *values, struct err *e)
{
	for (const struct option_row *r = o->rows; r->name != NULL; r++)
		if (r->fallback != NULL && set_value(r, r->fallback, values, EX_SOFTWARE, "", e) < 0)
			return -1;
	return 0;
}

const struct option_row *
options_get_config(const struct options *o)
{
	for (const struct option_row *r = o->rows; r->name != NULL; r++)
		if (r->flags & OPTION_CONFIG)
			return r;
	return NULL;
}

/* ---- command line --------------------------------------------------- */

static void
make_getopt_tables(const struct options *o, char *letters, struct option *longs)
{
	int n = row_count(o), i;

	/*
	 * ':' first: getopt returns ':' for a missing argument and prints
	 * nothing itself.
	 */
	letters += sprintf(letters, ":hV");
	for (i = 0; i < n; i++) {
		const struct option_row *r = &o->rows[i];
		bool flag = r->type == OPTION_FLAG;

		longs[i] = (struct option){r->name, flag ? optional_argument : required_argument, NULL, ROW + i};
		if (r->letter != 0)
			letters += sprintf(letters, "%c%s", r->letter, flag ? "" : ":");
	}
	longs[i++] = (struct option){"help", optional_argument, NULL, ROW_HELP};
	longs[i++] = (struct option){"version", no_argument, NULL, ROW_VERSION};
	if (options_get_config(o) != NULL)
		longs[i++] = (struct option){"example-config", no_argument, NULL, ROW_EXAMPLE};
	longs[i] = (struct option){NULL, 0, NULL, 0};
}

static const struct option_row *
find_option_row(const struct options *o, int value)
{
	if (value >= ROW)
		return &o->rows[value - ROW];
	for (const struct option_row *r = o->rows; r->name != NULL; r++)
		if (r->letter != 0 && r->letter == value)
			return r;
	assert(false); /* getopt was given no others */
	return NULL;
}

/* getopt refused something: say what. After '?' and ':' optopt is the letter or the long option's value, or 0. */
static int
refuse_option(const struct options *o, int result, char **argv, struct err *e)
{
	const char *word = argv[optind - 1];

	if (result == ':') {
		const struct option_row *r = find_option_row(o, optopt);
		char list[LIST];

		if (r->type != OPTION_CHOICE)
			return err_set(e, EX_USAGE, "--%s needs an argument: %s", r->name, r->argument);
		list_choices(r, list, sizeof list);
		return err_set(e, EX_USAGE, "--%s needs an argument: %s", r->name, list);
	}
	if (optopt == 0)
		return err_set(e, EX_USAGE, "unknown option '%s'; %s --help lists them all", word, o->program);
	if (optopt >= ROW)
		return err_set(e, EX_USAGE, "'%s' takes no argument", word);
	return err_set(e, EX_USAGE, "unknown option '-%c'; %s --help lists them all", optopt, o->program);
}

static int
parse_arguments(const struct options *o, int argc, char **argv, void *values, uint64_t *given, int *operand,
    struct err *e)
{
	struct option longs[ROWS_MAX + 4];
	char letters[2 * ROWS_MAX + 4];
	int c;

	make_getopt_tables(o, letters, longs);
	optind = 0; /* glibc: start afresh, also when called again */
	opterr = 0;
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		const struct option_row *r;

		if (c == 'V' || c == ROW_VERSION)
			return OPTIONS_VERSION;
		if (c == ROW_EXAMPLE)
			return OPTIONS_EXAMPLE;
		if (c == 'h' || c == ROW_HELP) {
			if (c == 'h' || optarg == NULL)
				return OPTIONS_HELP;
			if (strcmp(optarg, "mdoc") == 0)
				return OPTIONS_MANUAL;
			return err_set(e, EX_USAGE, "--help takes no argument but mdoc, not '%s'", optarg);
		}
		if (c == '?' || c == ':')
			return refuse_option(o, c, argv, e);
		r = find_option_row(o, c);
		if (set_value(r, optarg, values, EX_USAGE, "", e) < 0)
			return -1;
		*given |= UINT64_C(1) << (r - o->rows);
	}
	*operand = optind;
	if (o->operands == NULL && optind < argc)
		return err_set(e, EX_USAGE, "'%s' is not an option, and %s takes nothing else", argv[optind],
		    o->program);
	return OPTIONS_RUN;
}

/* ---- configuration file --------------------------------------------- */

static char *
trim_line(char *s)
{
	size_t n;

	s += strspn(s, " \t\r\n");
	for (n = strlen(s); n > 0 && strchr(" \t\r\n", s[n - 1]) != NULL; n--)
		s[n - 1] = '\0';
	return s;
}

static int
options_parse_line(const struct options *o, char *line, void *values, uint64_t *given, const char *where, struct err *e)
{
	const struct option_row *r;
	char *key = trim_line(line), *value;

	if (*key == '\0' || *key == '#')
		return 0;
	if ((value = strchr(key, '=')) == NULL)
		return err_set(e, EX_CONFIG, "%sthe line has no '=': %s", where, key);
	*value++ = '\0';
	key = trim_line(key);
	for (r = o->rows; r->name != NULL; r++)
		if (strcmp(r->name, key) == 0)
			break;
	if (r->name == NULL)
		return err_set(e, EX_CONFIG, "%sunknown option '%s'", where, key);
	if (r->flags & OPTION_CONFIG)
		return err_set(e, EX_CONFIG, "%s%s may only be given on the command line", where, key);
	*given |= UINT64_C(1) << (r - o->rows);
	return set_value(r, trim_line(value), values, EX_CONFIG, where, e);
}

static int
parse_file(const struct options *o, const char *path, void *values, uint64_t *given, struct err *e)
{
	char *line = NULL, where[256];
	size_t size = 0;
	ssize_t len;
	FILE *f;
	int rc = 0;

	if ((f = fopen(path, "re")) == NULL)
		return err_set(e, EX_NOINPUT,
		    "cannot open the configuration file %s: %s; %s --example-config prints one to "
		    "begin with", path, strerror(errno), o->program);
	for (int n = 1; rc == 0 && (len = getline(&line, &size, f)) >= 0; n++) {
		snprintf(where, sizeof where, "%.200s:%d: ", path, n);
		if (memchr(line, '\0', (size_t)len) != NULL)
			rc = err_set(e, EX_CONFIG, "%sthe line holds a NUL byte", where);
		else
			rc = options_parse_line(o, line, values, given, where, e);
	}
	if (rc == 0 && ferror(f))
		rc = err_set(e, EX_NOINPUT, "cannot read the configuration file %s: %s", path, strerror(errno));
	free(line);
	fclose(f);
	return rc;
}

/* ---- the whole ------------------------------------------------------ */

int
options_parse(const struct options *o, int argc, char **argv, void *values, int *operand, struct err *e)
{
	const struct option_row *config = options_get_config(o);
	uint64_t given = 0;
	int wish;

	if (set_defaults(o, values, e) < 0)
		return -1;
	wish = parse_arguments(o, argc, argv, values, &given, operand, e);
	if (wish != OPTIONS_RUN)
		return wish;
	if (config != NULL && *(char **)member(config, values) != NULL) {
		/* The command line wins over the file that it names: read it again on top. */
		if (set_defaults(o, values, e) < 0 ||
		    parse_file(o, *(char **)member(config, values), values, &given, e) < 0)
			return -1;
		wish = parse_arguments(o, argc, argv, values, &given, operand, e);
	}
	for (const struct option_row *r = o->rows; wish == OPTIONS_RUN && r->name != NULL; r++)
		if ((r->flags & OPTION_REQUIRED) && !(given >> (r - o->rows) & 1))
			return err_set(e, EX_USAGE, "%s needs --%s", o->program, r->name);
	return wish;
}

static size_t
value_size(const struct option_row *r)
{
	switch (r->type) {
	case OPTION_FLAG:
		return sizeof(bool);
	case OPTION_CHOICE:
		return sizeof(int);
	default:
		return sizeof(int64_t);
	}
}

static bool
is_same(const struct option_row *r, const void *a, const void *b)
{
	const char *x, *y;

	if (r->type != OPTION_STRING)
		return memcmp(a, b, value_size(r)) == 0;
	x = *(char *const *)a;
	y = *(char *const *)b;
	return x == NULL || y == NULL ? x == y : strcmp(x, y) == 0;
}

void
options_update(const struct options *o, void *values, const void *fresh,
    void (*changed)(void *arg, const char *name, bool live), void *arg)
{
	for (const struct option_row *r = o->rows; r->name != NULL; r++) {
		const void *from = (const char *)fresh + r->offset;

		if (is_same(r, member(r, values), from))
			continue;
		assert(!(r->flags & OPTION_LIVE) || r->type != OPTION_STRING);
		if (r->flags & OPTION_LIVE)
			memcpy(member(r, values), from, value_size(r));
		changed(arg, r->name, r->flags & OPTION_LIVE);
	}
}

void
options_fini(const struct options *o, void *values)
{
	for (const struct option_row *r = o->rows; r->name != NULL; r++)
		if (r->type == OPTION_STRING) {
			free(*(char **)member(r, values));
			*(char **)member(r, values) = NULL;
		}
}
