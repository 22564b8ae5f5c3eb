/* sinkeval: measures what the engine computes; one subcommand a file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/eval.h"

static const struct eval_command *const commands[] = {
	&eval_bench,
#ifdef HAVE_JANSSON
	&eval_chat,
#endif
	&eval_logits,
	&eval_ppl,
#ifdef HAVE_JANSSON
	&eval_qa,
#endif
	&eval_recall,
#ifdef HAVE_JANSSON
	&eval_tokenize,
#endif
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static int
fail(const struct err *e)
{
	fprintf(stderr, "sinkeval: %s\n", e->text);
	return e->code;
}

static void
print_usage(FILE *out)
{
	fputs("usage: sinkeval command [options] ...\n\n", out);
	for (int i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->options.about);
	fputs("\n\"sinkeval command --help\" tells a command's options, sinkeval(1) the rest.\n", out);
}

static int
run_command(const struct eval_command *c, int argc, char **argv)
{
	struct err e = { 0 };
	void *values = calloc(1, c->values_size);
	int operand, wish = -1, r = -1;

	if (values == NULL)
		err_set(&e, EX_OSERR, "out of memory");
	else
		wish = options_parse(&c->options, argc, argv, values, &operand, &e);
	if (wish == OPTIONS_RUN)
		r = c->run(values, argv + operand, stdout, &e);
	else if (wish >= 0)
		r = options_print_wish(&c->options, wish, PACKAGE_VERSION, stdout, &e);
	if (r == 0 && (fflush(stdout) != 0 || ferror(stdout)))
		r = err_set(&e, EX_IOERR, "standard output: %s", strerror(errno));
	if (values != NULL)
		options_fini(&c->options, values);
	free(values);
	return r < 0 ? fail(&e) : 0;
}

int
main(int argc, char **argv)
{
	struct err e;

	if (argc < 2) {
		print_usage(stderr);
		return EX_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_usage(stdout);
		return fflush(stdout) == 0 ? 0 : EX_IOERR;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts("sinkeval " PACKAGE_VERSION);
		return fflush(stdout) == 0 ? 0 : EX_IOERR;
	}
	for (int i = 0; i < N_COMMANDS; i++)
		if (strcmp(argv[1], commands[i]->name) == 0)
			return run_command(commands[i], argc - 1, argv + 1);
	err_set(&e, EX_USAGE, "there is no command '%s', see sinkeval --help", argv[1]);
	return fail(&e);
}
