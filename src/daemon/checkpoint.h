/*
 * Checkpoints: the loop's side. The engine thread writes the stream's state,
 * in the order of the stream; a thread of our own then syncs the outputs' files
 * and the checkpoint, and puts it in its place. One that fails is tried again,
 * with growing pauses, until one works.
 */
#ifndef SINKD_DAEMON_CHECKPOINT_H
#define SINKD_DAEMON_CHECKPOINT_H

#include <event2/event.h>
#include <jansson.h>

#include "daemon/output/destination.h"
#include "daemon/worker.h"

struct checkpoint;

struct checkpoint_callbacks {
	/* What is to be stored with it: an object, a new reference; NULL: no memory. */
	json_t *(*save)(void *arg);
	/* Number of the last record. A regular checkpoint is left out where there is none since the last one. */
	int64_t (*get_seq)(void *arg);
	/*
	 * Where the outputs are now that everything before the checkpoint is written. *p is the checkpoint's, for
	 * places_fini. Returns 0, or -1 with *e set.
	 */
	int (*get_places)(void *arg, struct places *p, struct err *e);
	/* It is done: e->code is 0, or why it failed. Called from the loop, never from a function below. */
	void (*done)(void *arg, const struct err *e);
};

struct checkpoint_numbers {
	int64_t made, failed, bytes; /* bytes of the last one */
	double time, seconds;        /* clock_get_seconds when the last one was done (0: never), and what it took */
	struct err failure;          /* why the last one failed; code 0: it did not */
};

/* Borrows the folder. Returns NULL with *e set (EX_OSERR). */
struct checkpoint *checkpoint_new(struct event_base *base, struct state_folder *folder,
    const struct checkpoint_callbacks *callbacks, void *arg, struct err *e);

/* Waits for one that is being synced. Not before the worker. */
void checkpoint_free(struct checkpoint *c);

/* Before the first one: who writes the stream's state, and which number the checkpoint has that this run began with. */
void checkpoint_set_worker(struct checkpoint *c, struct worker *w, int64_t seq);

/* Begin one every so many seconds; 0: do not. Returns 0, or -1 with *e set. */
int checkpoint_set_interval(struct checkpoint *c, int64_t seconds, struct err *e);

/*
 * Begin one of all that was submitted so far; if one is on its way, another
 * follows it. Returns 0, or -1 with *e set: then it is tried again later.
 */
int checkpoint_begin(struct checkpoint *c, struct err *e);

/* The request came back from the engine thread, and is the checkpoint's now. */
void checkpoint_take(struct checkpoint *c, struct request *q);

/* Does it wait for the outputs to pass on all lines before it? checkpoint_go_on says that they have. */
bool checkpoint_waits(const struct checkpoint *c);
void checkpoint_go_on(struct checkpoint *c);

/* From now on a failed one is tried again soon: the program is about to end. */
void checkpoint_hurry(struct checkpoint *c);

/* Is one on its way? */
bool checkpoint_is_busy(const struct checkpoint *c);
const struct checkpoint_numbers *checkpoint_get_numbers(const struct checkpoint *c);

#endif
