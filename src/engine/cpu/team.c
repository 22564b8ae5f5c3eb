/* A team of threads for data-parallel loops; see team.h. */
#include "engine/cpu/team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__x86_64__) || defined(__i386__)
#define relax() __builtin_ia32_pause()
#else
#define relax() ((void)0)
#endif

/* Some tens of microseconds: longer than the gap between two loops of one pass, shorter than anyone notices. */
enum { SPINS = 2000 };

struct worker {
	struct team *team;
	pthread_t thread;
	int index;
};

struct team {
	int n;
	struct worker *workers;   /* n - 1 */
	int started;

	/* The loop at hand; written only while no worker is inside. */
	void (*fn)(void *arg, int task, int worker);
	void *arg;
	int tasks;
	atomic_int next;          /* the next task to take */

	/*
	 * Number of the loop, whether it still admits workers, and how many are
	 * inside. A worker that comes late finds the loop closed and waits for
	 * the next, so that nobody waits for a worker the system has not run.
	 */
	_Atomic uint64_t state;
	atomic_bool quit;

	pthread_mutex_t lock;     /* for sleeping only: no worker misses the new loop it waits for */
	pthread_cond_t wake;
	atomic_int sleepers;
};

static const uint64_t open_bit = UINT64_C(1) << 31, inside_mask = (UINT64_C(1) << 31) - 1;

static uint32_t
loop_of(uint64_t state)
{
	return (uint32_t)(state >> 32);
}

static void
team_work(struct team *p, int worker)
{
	int task;

	while ((task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->tasks)
		p->fn(p->arg, task, worker);
}

/* Wait until the loop number is no longer `seen`: spin first, then sleep. Returns the new one. */
static uint32_t
await_loop(struct team *p, uint32_t seen)
{
	uint32_t loop;

	for (int i = 0; i < SPINS; i++) {
		loop = loop_of(atomic_load_explicit(&p->state, memory_order_acquire));
		if (loop != seen)
			return loop;
		relax();
	}
	pthread_mutex_lock(&p->lock);
	atomic_fetch_add(&p->sleepers, 1);
	while ((loop = loop_of(atomic_load(&p->state))) == seen)
		pthread_cond_wait(&p->wake, &p->lock);
	atomic_fetch_sub(&p->sleepers, 1);
	pthread_mutex_unlock(&p->lock);
	return loop;
}

/* Begin a new loop. The lock is needed only if somebody may be asleep. */
static void
open_loop(struct team *p)
{
	uint64_t loop = loop_of(atomic_load_explicit(&p->state, memory_order_relaxed)) + UINT64_C(1);

	atomic_store(&p->state, loop << 32 | open_bit);
	if (atomic_load(&p->sleepers) == 0)
		return;
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

/* Admit nobody any more, and wait for those inside to leave. */
static void
close_loop(struct team *p)
{
	atomic_fetch_and_explicit(&p->state, ~open_bit, memory_order_acquire);
	for (int i = 0; (atomic_load_explicit(&p->state, memory_order_acquire) & inside_mask) != 0; i++) {
		relax();
		if (i > SPINS) {
			i = 0;
			sched_yield();
		}
	}
}

/* Enter the loop of that number unless it is closed or over. */
static bool
enter_loop(struct team *p, uint32_t loop)
{
	uint64_t state = atomic_load_explicit(&p->state, memory_order_acquire);

	while (loop_of(state) == loop && (state & open_bit) != 0)
		if (atomic_compare_exchange_weak(&p->state, &state, state + 1))
			return true;
	return false;
}

static void *
run_worker(void *arg)
{
	struct worker *w = arg;
	struct team *p = w->team;
	uint32_t seen = 0;

	for (;;) {
		seen = await_loop(p, seen);
		if (atomic_load(&p->quit))
			return NULL;
		if (!enter_loop(p, seen))
			continue;
		team_work(p, w->index);
		atomic_fetch_sub_explicit(&p->state, 1, memory_order_release);
	}
}

struct team *
team_new(int n)
{
	struct team *p = calloc(1, sizeof *p);
	sigset_t all, old;

	if (p == NULL)
		return NULL;
	p->n = n;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	p->workers = calloc((size_t)n, sizeof *p->workers);
	if (p->workers == NULL) {
		team_free(p);
		return NULL;
	}
	/* Signals belong to the program's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (int i = 0; i < n - 1; i++) {
		p->workers[i] = (struct worker){ .team = p, .index = i + 1 };
		if (pthread_create(&p->workers[i].thread, NULL, run_worker, &p->workers[i]) != 0)
			break;
		p->started++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (p->started < n - 1) {
		team_free(p);
		return NULL;
	}
	return p;
}

void
team_free(struct team *p)
{
	if (p == NULL)
		return;
	atomic_store(&p->quit, true);
	open_loop(p);
	for (int i = 0; i < p->started; i++)
		pthread_join(p->workers[i].thread, NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p->workers);
	free(p);
}

void
team_run(struct team *p, void (*fn)(void *arg, int task, int worker), void *arg, int tasks)
{
	if (p->n == 1 || tasks <= 1) {
		for (int i = 0; i < tasks; i++)
			fn(arg, i, 0);
		return;
	}
	p->fn = fn;
	p->arg = arg;
	p->tasks = tasks;
	atomic_store_explicit(&p->next, 0, memory_order_relaxed);
	open_loop(p);
	team_work(p, 0);
	close_loop(p);
}
