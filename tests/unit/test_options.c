/* Options: command line, configuration file, refusals, and what is printed. */
#include "base/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct values {
	int64_t window, bytes, patience;
	char *model, *config, *out;
	int policy;
	bool quiet;
};

static const char *const policies[] = {"sink", "window", "dense", NULL};

static const struct option_row rows[] = {
	{"model", 'm', OPTION_STRING, "file", offsetof(struct values, model), .help = "The model. See --window, too."},
	{"window", 0, OPTION_INT, "tokens", offsetof(struct values, window), "1020", 1, 100000,
	    .help = "Recent tokens."},
	{"max-line", 0, OPTION_SIZE, "bytes", offsetof(struct values, bytes), "1M", 16, INT64_MAX, .help = "A line."},
	{"patience", 0, OPTION_DURATION, "time", offsetof(struct values, patience), "60", 1, 200000,
	    .help = "How long."},
	{"policy", 0, OPTION_CHOICE, "kind", offsetof(struct values, policy), "sink", .choices = policies,
	    .help = "What."},
	{"quiet", 'q', OPTION_FLAG, NULL, offsetof(struct values, quiet), .help = "No progress."},
	{"output", 'o', OPTION_STRING, "file", offsetof(struct values, out), .flags = OPTION_REQUIRED, .help = "Out."},
	{"config", 0, OPTION_STRING, "file", offsetof(struct values, config), .flags = OPTION_CONFIG,
	    .help = "Read it (not --model). Its lines are those of prog.conf(5), and "
	    "this sentence goes on for more than a line of the manual."},
	{.name = NULL},
};

static const struct options opts = {"prog", NULL, "A test.", rows};
static const struct options opts_operands = {"prog", "[file ...]", "A test.", rows};

static struct values v;
static struct err e;
static int operand;

/* Parse "prog WORD...", words separated by blanks. */
static int
parse(const struct options *o, const char *words)
{
	static char copy[512], *argv[32];
	int argc = 1;

	options_fini(&opts, &v);
	memset(&v, 0, sizeof v);
	memset(&e, 0, sizeof e);
	snprintf(copy, sizeof copy, "%s", words);
	argv[0] = "prog";
	for (char *w = strtok(copy, " "); w != NULL; w = strtok(NULL, " "))
		argv[argc++] = w;
	argv[argc] = NULL;
	return options_parse(o, argc, argv, &v, &operand, &e);
}

static void
refuses(const char *words, int code, const char *reason)
{
	assert_int_equal(parse(&opts, words), -1);
	assert_int_equal(e.code, code);
	if (strstr(e.text, reason) == NULL)
		fail_msg("'%s' does not hold '%s'", e.text, reason);
}

static void
test_defaults_and_values(void **state)
{
	(void)state;
	assert_int_equal(parse(&opts, "-o x"), OPTIONS_RUN);
	assert_int_equal(v.window, 1020);
	assert_int_equal(v.bytes, 1 << 20);
	assert_int_equal(v.policy, 0);
	assert_false(v.quiet);
	assert_null(v.model);
	assert_int_equal(parse(&opts, "-o x --patience 15m"), OPTIONS_RUN);
	assert_int_equal(v.patience, 900);
	assert_int_equal(parse(&opts, "-o x --patience 2d"), OPTIONS_RUN);
	assert_int_equal(v.patience, 172800);
	assert_int_equal(parse(&opts, "-o x --patience 90"), OPTIONS_RUN);
	assert_int_equal(v.patience, 90);
	assert_int_equal(parse(&opts, "-qm a.gguf --out=x --window 7 --max-line 3k --policy dense"), OPTIONS_RUN);
	assert_string_equal(v.model, "a.gguf");
	assert_string_equal(v.out, "x");
	assert_int_equal(v.window, 7);
	assert_int_equal(v.bytes, 3072);
	assert_int_equal(v.policy, 2);
	assert_true(v.quiet);
	assert_int_equal(parse(&opts, "--quiet --quiet=no -o x"), OPTIONS_RUN);
	assert_false(v.quiet);
	assert_int_equal(parse(&opts_operands, "one -o x two"), OPTIONS_RUN);
	assert_int_equal(operand, 3);
}

static void
test_refusals(void **state)
{
	(void)state;
	refuses("-o x --window 0", EX_USAGE, "--window must be a whole number from 1 to 100000, not '0'");
	refuses("-o x --window 12x", EX_USAGE, "not '12x'");
	refuses("-o x --window 99999999999999999999", EX_USAGE, "--window");
	refuses("-o x --max-line 9000000000G", EX_USAGE, "at least 16");
	refuses("-o x --patience 3d", EX_USAGE, "from 1 to 200000");
	refuses("-o x --patience 1w", EX_USAGE, "not '1w'");
	refuses("-o x --patience 1K", EX_USAGE, "not '1K'");
	refuses("-o x --max-line 1T", EX_USAGE, "not '1T'");
	refuses("-o x --policy full", EX_USAGE, "--policy must be sink, window or dense, not 'full'");
	refuses("-o x --frob", EX_USAGE, "unknown option '--frob'");
	refuses("-o x -z", EX_USAGE, "unknown option '-z'");
	refuses("-o x --model", EX_USAGE, "--model needs an argument: file");
	refuses("-o x --policy", EX_USAGE, "--policy needs an argument: sink, window or dense");
	refuses("-o", EX_USAGE, "--output needs an argument");
	refuses("-o x --quiet=maybe", EX_USAGE, "--quiet must be yes or no");
	refuses("-o x --version=3", EX_USAGE, "takes no argument");
	refuses("-o x --help=html", EX_USAGE, "mdoc");
	refuses("-o x stray", EX_USAGE, "'stray' is not an option");
	refuses("--quiet", EX_USAGE, "prog needs --output");
	refuses("-o x --config /nonexistent/c", EX_NOINPUT, "/nonexistent/c");
}

static void
write_config(char *path, const char *text)
{
	int fd;

	strcpy(path, "/tmp/sinkd-options-XXXXXX");
	assert_true((fd = mkstemp(path)) >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void
test_configuration_file(void **state)
{
	char path[64], words[128];

	(void)state;
	write_config(path, "# comment\n\n window = 12\nquiet=yes\r\nmodel = a b.gguf \noutput=x\n");
	snprintf(words, sizeof words, "--config %s --window 13", path);
	assert_int_equal(parse(&opts, words), OPTIONS_RUN);
	unlink(path);
	assert_int_equal(v.window, 13);
	assert_true(v.quiet);
	assert_string_equal(v.model, "a b.gguf");

	write_config(path, "window = 12\nwindow = none\n");
	snprintf(words, sizeof words, "--config %s", path);
	refuses(words, EX_CONFIG, ":2: window must be");
	unlink(path);
	write_config(path, "config = other\n");
	snprintf(words, sizeof words, "--config %s", path);
	refuses(words, EX_CONFIG, ":1: config may only");
	unlink(path);
	write_config(path, "nonsense\n");
	snprintf(words, sizeof words, "--config %s", path);
	refuses(words, EX_CONFIG, ":1: the line has no '='");
	unlink(path);
}

static char *
printed(void (*print)(const struct options *, FILE *))
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	print(&opts, f);
	fclose(f);
	return text;
}

static void
test_help_and_manual(void **state)
{
	char *help = printed(options_print_help), *manual = printed(options_print_manual);

	(void)state;
	assert_int_equal(parse(&opts, "--help"), OPTIONS_HELP);
	assert_int_equal(parse(&opts, "-h"), OPTIONS_HELP);
	assert_int_equal(parse(&opts, "--help=mdoc"), OPTIONS_MANUAL);
	assert_int_equal(parse(&opts, "--version"), OPTIONS_VERSION);
	assert_non_null(strstr(help, "Usage: prog [option ...]\nA test.\n"));
	assert_non_null(strstr(help, "  -m, --model=file        The model.\n"));
	assert_non_null(strstr(help, "Recent tokens. (from 1 to 100000, default 1020)"));
	assert_non_null(strstr(help, "--policy=sink|window|dense\n"));
	assert_non_null(strstr(manual,
	    ".It Fl m , Fl Fl model Ns = Ns Ar file\nThe model.\nSee\n.Fl Fl window ,\ntoo.\n"));
	assert_non_null(strstr(manual, "At least 16, default 1M.\n"));
	assert_non_null(strstr(manual,
	    "Read it (not\n.Fl Fl model ).\nIts lines are those of\n.Xr prog.conf 5 ,\nand this"));
	for (char *line = strtok(manual, "\n"); line != NULL; line = strtok(NULL, "\n"))
		assert_true(line[0] == '.' || strlen(line) <= 80);
	for (char *line = strtok(help, "\n"); line != NULL; line = strtok(NULL, "\n"))
		assert_true(strlen(line) <= 79);
	free(help);
	free(manual);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults_and_values),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_configuration_file),
		cmocka_unit_test(test_help_and_manual),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	options_fini(&opts, &v);
	return failed;
}
