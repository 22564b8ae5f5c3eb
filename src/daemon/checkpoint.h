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

#include "daemon/worker.h"

struct checkpoint;

enum { CHECKPOINT_FILES = 8 };

struct checkpoint_callbacks {
	/* What is to be stored with it: an object, a new reference; NULL: no memory. */
	json_t *(*save)(void *arg);
	/*
	 * Where the outputs are now that everything before the checkpoint is written: an object, a new
	 * reference, or NULL with *e set. files receives *n descriptors to be synced, at most CHECKPOINT_FILES;
	 * they are the checkpoint's to close.
	 */
	json_t *(*measure)(void *arg, int files[CHECKPOINT_FILES], int *n, struct err *e);
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

/*
 * Begin one of all that was submitted so far; if one is on its way, another
 * follows it. Returns 0, or -1 with *e set: then it is tried again later.
 */
int checkpoint_begin(struct checkpoint *c, struct worker *w, struct err *e);

/* The request came back, and all results before it are written. The request stays the caller's. */
void checkpoint_take(struct checkpoint *c, struct worker *w, const struct request *q);

/* From now on a failed one is tried again soon: the program is about to end. */
void checkpoint_hurry(struct checkpoint *c);

/* Is one on its way? */
bool checkpoint_is_busy(const struct checkpoint *c);
const struct checkpoint_numbers *checkpoint_get_numbers(const struct checkpoint *c);

#endif
