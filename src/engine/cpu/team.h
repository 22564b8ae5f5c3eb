/*
 * A team of threads for data-parallel loops. The caller works too; the others
 * spin briefly between loops, then sleep. Which thread runs which task never
 * changes a result: tasks write to places of their own.
 */
#ifndef SINKD_ENGINE_TEAM_H
#define SINKD_ENGINE_TEAM_H

struct team;

/* A team of n threads (n >= 1, the caller included); NULL when they cannot be started. */
struct team *team_new(int n);
void team_free(struct team *p);

/*
 * Call fn(arg, task, worker) for each task in 0 .. tasks-1, in any order;
 * worker is 0 .. n-1 and tells whose scratch to use. Returns when all are done.
 */
void team_run(struct team *p, void (*fn)(void *arg, int task, int worker), void *arg, int tasks);

#endif
