/* sinkeval: measures what the engine computes; one subcommand a file. */
#include "base/commands.h"
#include "base/guard.h"
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

static const struct options *
get_eval_options(int i, size_t *size)
{
	if (i >= N_COMMANDS)
		return NULL;
	*size = commands[i]->values_size;
	return &commands[i]->options;
}

static int
run_evaluation(int i, void *values, char **operands, struct err *e)
{
	return commands[i]->run(values, operands, stdout, e);
}

int
main(int argc, char **argv)
{
	static const struct commands all = {"sinkeval", get_eval_options, run_evaluation};

	guard_install();
	return commands_main(&all, argc, argv);
}
