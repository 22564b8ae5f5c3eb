/* sinkd: a filter that reads events and writes them back with what a language model made of them. */
#include <malloc.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/settings.h"

static int
run(int argc, char **argv, struct settings *s, struct err *e)
{
	int operand, wish = options_parse(&settings_options, argc, argv, s, &operand, e);

	if (wish < 0)
		return -1;
	if (wish != OPTIONS_RUN)
		return options_print_wish(&settings_options, wish, PACKAGE_VERSION, stdout, e);
	if (settings_complete(s, e) < 0)
		return -1;
	return daemon_run(s, argv + operand, argc - operand, e);
}

int
main(int argc, char **argv)
{
	struct settings s;
	struct err e = {0};
	int rc;

	/* A long line's memory goes back to the system when it is freed. */
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	log_set_name("sinkd");
	memset(&s, 0, sizeof s);
	rc = run(argc, argv, &s, &e);
	options_fini(&settings_options, &s);
	if (rc == 0)
		return 0;
	log_message(LOG_ERR, "%s", e.text);
	return e.code;
}
