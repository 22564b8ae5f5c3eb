/* A team of threads for data-parallel loops; see team.h. */
#include "engine/cpu/team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
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

	void (*fn)(void *arg, int task, int worker);
	void *arg;
	int tasks;
	atomic_int next;          /* the next task to take */
	atomic_int busy;          /* workers that have not finished this loop */
	atomic_uint loop;         /* number of the current loop; a change wakes the workers */
	atomic_bool quit;

	pthread_mutex_t lock;     /* for sleeping only: no worker misses the change of `loop` it waits for */
	pthread_cond_t wake;
	atomic_int sleepers;
};

static void
work(struct team *p, int worker)
{
	int task;

	while ((task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->tasks)
		p->fn(p->arg, task, worker);
}

/* Wait until the loop number is no longer `seen`: spin first, then sleep. */
static void
await_loop(struct team *p, unsigned seen)
{
	for (int i = 0; i < SPINS; i++) {
		if (atomic_load_explicit(&p->loop, memory_order_acquire) != seen)
			return;
		relax();
	}
	pthread_mutex_lock(&p->lock);
	atomic_fetch_add(&p->sleepers, 1);
	while (atomic_load(&p->loop) == seen)
		pthread_cond_wait(&p->wake, &p->lock);
	atomic_fetch_sub(&p->sleepers, 1);
	pthread_mutex_unlock(&p->lock);
}

/* Begin a new loop. The lock is needed only if somebody may be asleep. */
static void
announce(struct team *p)
{
	atomic_fetch_add(&p->loop, 1);
	if (atomic_load(&p->sleepers) == 0)
		return;
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

static void *
run_worker(void *arg)
{
	struct worker *w = arg;
	struct team *p = w->team;
	unsigned seen = 0;

	for (;;) {
		await_loop(p, seen);
		seen++;
		if (atomic_load(&p->quit))
			return NULL;
		work(p, w->index);
		atomic_fetch_sub_explicit(&p->busy, 1, memory_order_release);
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
	announce(p);
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
	atomic_store_explicit(&p->busy, p->n - 1, memory_order_relaxed);
	announce(p);
	work(p, 0);
	/* The others' last tasks are under way; one that was not awake yet has only to say so. */
	for (int i = 0; atomic_load_explicit(&p->busy, memory_order_acquire) != 0; i++) {
		relax();
		if (i > SPINS) {
			i = 0;
			sched_yield();
		}
	}
}
