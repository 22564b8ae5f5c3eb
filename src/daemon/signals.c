/* Signals before the loop; see signals.h. */
#include "daemon/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

enum { NUMBERS = 3 };

static const int numbers[NUMBERS] = {SIGTERM, SIGINT, SIGHUP};
static struct sigaction before[NUMBERS];
static sigset_t mask_before;
static volatile sig_atomic_t end_came, hangup_came;

static void
on_signal(int number)
{
	if (number == SIGHUP) {
		hangup_came = 1;
		return;
	}
	end_came = 1;
	for (int i = 0; i < NUMBERS; i++)
		if (numbers[i] != SIGHUP)
			sigaction(numbers[i], &before[i], NULL); /* the next one is not noted */
}

void
signals_begin(void)
{
	for (int i = 0; i < NUMBERS; i++) {
		struct sigaction a = {
			.sa_handler = on_signal,
			.sa_flags = numbers[i] == SIGHUP ? SA_RESTART : 0,
		};

		sigemptyset(&a.sa_mask);
		sigaction(numbers[i], &a, &before[i]);
	}
}

bool
signals_ask_end(void)
{
	return end_came != 0;
}

void
signals_leave_hangup(void)
{
	sigaction(SIGHUP, &before[2], NULL);
	if (hangup_came)
		raise(SIGHUP);
}

bool
signals_hand_over(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (int i = 0; i < NUMBERS; i++)
		sigaddset(&set, numbers[i]);
	pthread_sigmask(SIG_BLOCK, &set, &mask_before);
	for (int i = 0; i < NUMBERS; i++)
		sigaction(numbers[i], &before[i], NULL);
	return hangup_came != 0;
}

void
signals_release(void)
{
	pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
}
