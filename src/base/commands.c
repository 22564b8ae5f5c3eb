/* Programs of several commands; see commands.h. */
#include "base/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static const char *
get_name(const struct options *o)
{
	return strchr(o->program, ' ') + 1;
}

static void
print_usage(const struct commands *c, FILE *out)
{
	const struct options *o;
	size_t size;

	fprintf(out, "usage: %s command [options] ...\n\n", c->program);
	for (int i = 0; (o = c->get(i, &size)) != NULL; i++)
		fprintf(out, "  %-10s %s\n", get_name(o), o->about);
	fprintf(out, "\n\"%s command --help\" tells a command's options, %s(1) the rest.\n", c->program, c->program);
}

/* Returns 0, or -1 with *e set. */
static int
run_one(const struct commands *c, int i, int argc, char **argv, struct err *e)
{
	size_t size;
	const struct options *o = c->get(i, &size);
	void *values = calloc(1, size);
	int operand, wish, rc = -1;

	if (values == NULL)
		return err_set(e, EX_OSERR, "out of memory");
	wish = options_parse(o, argc, argv, values, &operand, e);
	if (wish == OPTIONS_RUN)
		rc = c->run(i, values, argv + operand, e);
	else if (wish >= 0)
		rc = options_print_wish(o, wish, PACKAGE_VERSION, stdout, e);
	options_fini(o, values);
	free(values);
	return rc;
}

static int
run_with_options(const struct commands *c, int argc, char **argv, struct err *e)
{
	const struct options *o;
	size_t size;

	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_usage(c, stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("%s %s\n", c->program, PACKAGE_VERSION);
		return 0;
	}
	for (int i = 0; (o = c->get(i, &size)) != NULL; i++)
		if (strcmp(argv[1], get_name(o)) == 0)
			return run_one(c, i, argc - 1, argv + 1, e);
	if (argv[1][0] == '-')
		return err_set(e, EX_USAGE, "the command comes first and its options behind it: %s command %s ..., see "
		    "%s --help", c->program, argv[1], c->program);
	return err_set(e, EX_USAGE, "there is no command '%s', see %s --help", argv[1], c->program);
}

int
commands_main(const struct commands *c, int argc, char **argv)
{
	struct err e = {0};
	int rc;

	log_set_name(c->program);
	if (argc < 2) {
		print_usage(c, stderr);
		return EX_USAGE;
	}
	rc = run_with_options(c, argc, argv, &e);
	if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout)))
		rc = err_set(&e, EX_IOERR, "cannot write to standard output: %s", strerror(errno));
	if (rc == 0)
		return 0;
	log_message(LOG_ERR, "%s", e.text);
	return e.code;
}
