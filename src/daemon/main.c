/* sinkd: a filter that reads events and writes them back with what a language model made of them. */
#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/guard.h"
#include "base/log.h"
#include "daemon/check.h"
#include "daemon/daemon.h"
#include "daemon/service.h"
#include "daemon/settings.h"
#include "daemon/signals.h"
#include "stream/fault.h"

/*
 * A standard descriptor that is closed would be taken by the next file opened.
 * Hold its place with one that cannot be used: reads and writes then fail.
 */
static void
hold_standard_descriptors(void)
{
	static const int unusable[] = {O_WRONLY, O_RDONLY, O_WRONLY};

	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null", unusable[fd]);
}

/*
 * jansson does not look whether every allocation worked: with too little memory it may read beyond a string's end, or
 * call a good line no JSON. A restart goes on at the last checkpoint, so the process ends instead.
 */
static void *
allocate_json(size_t n)
{
	void *p = malloc(n);

	if (p == NULL && n > 0) {
		log_set_writer(NULL, NULL); /* the loop that writes messages does not come back */
		log_message(LOG_ERR, "out of memory for JSON");
		_exit(EX_OSERR);
	}
	return p;
}

static int
main_fail(const struct err *e)
{
	if (signals_ask_end())
		return 0; /* what failed was interrupted, or does not matter any more */
	log_message(LOG_ERR, "%s", e->text);
	return fault_get_status(e->code);
}

static int
main_run(int argc, char **argv, struct settings *s)
{
	struct err e = {0};
	int operand, wish = options_parse(&settings_options, argc, argv, s, &operand, &e);

	if (wish < 0)
		return main_fail(&e);
	if (wish != OPTIONS_RUN)
		return options_print_wish(&settings_options, wish, PACKAGE_VERSION, stdout, &e) < 0 ? main_fail(&e) : 0;
	if (settings_complete(s, &e) < 0)
		return main_fail(&e);
	return s->check_config ? check_run(s, argv + operand, argc - operand) : daemon_run(s, argc, argv, operand);
}

int
main(int argc, char **argv)
{
	struct settings s;
	int status;

	signals_begin();
	hold_standard_descriptors();
	json_set_alloc_funcs(allocate_json, free);
	/* A long line's memory goes back to the system when it is freed. */
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	log_set_name("sinkd");
	if (service_logs_to_journal())
		log_use_priorities();
	guard_install();
	memset(&s, 0, sizeof s);
	status = main_run(argc, argv, &s);
	settings_fini(&s);
	return status;
}
