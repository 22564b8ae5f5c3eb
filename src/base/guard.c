/* What a SIGBUS in a mapped file says; see guard.h. The handler only reads what is prepared, and writes. */
#include "base/guard.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"

enum { RANGES = 8 };

/* A range counts while its sentence is there; that is set last and cleared first. */
static struct range {
	uintptr_t start;
	size_t size;
	_Atomic(char *) sentence;
} ranges[RANGES];

/* Models are opened on any thread; the handler takes no lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void
guard_add(const void *start, size_t size, const char *name)
{
	char *sentence = log_format(LOG_ERR,
	    "%s cannot be read any more: it was cut short or its disk failed, while it was in "
	    "use; put it in place again and start again", name);

	pthread_mutex_lock(&lock);
	for (int i = 0; i < RANGES && sentence != NULL; i++)
		if (atomic_load(&ranges[i].sentence) == NULL) {
			ranges[i].start = (uintptr_t)start;
			ranges[i].size = size;
			atomic_store(&ranges[i].sentence, sentence);
			sentence = NULL;
		}
	pthread_mutex_unlock(&lock);
	free(sentence);
}

void
guard_remove(const void *start)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < RANGES; i++)
		if (atomic_load(&ranges[i].sentence) != NULL && ranges[i].start == (uintptr_t)start)
			free(atomic_exchange(&ranges[i].sentence, NULL));
	pthread_mutex_unlock(&lock);
}

static void
on_bus_error(int number, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;

	(void)context;
	for (int i = 0; i < RANGES; i++) {
		const char *sentence = atomic_load(&ranges[i].sentence);

		if (sentence == NULL || at < ranges[i].start || at - ranges[i].start >= ranges[i].size)
			continue;
		(void)!write(STDERR_FILENO, sentence, strlen(sentence));
		_exit(EX_IOERR);
	}
	/*
	 * Not ours: back to the default action, which takes place when the same instruction is tried again, or by
	 * raise.
	 */
	signal(number, SIG_DFL);
	if (info->si_code <= 0)
		raise(number);
}

void
guard_install(void)
{
	struct sigaction a = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

	sigemptyset(&a.sa_mask);
	sigaction(SIGBUS, &a, NULL);
}
