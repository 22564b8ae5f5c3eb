/*
 * The engine thread: it owns model, tokenizer and context, takes records from
 * a bounded queue, scores them in order, and hands them back through another.
 * What waits is computed together; the scores are the same as one by one.
 */
#ifndef SINKD_DAEMON_WORKER_H
#define SINKD_DAEMON_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "stream/record.h"

struct worker_options {
	const char *model;              /* path */
	const char *pin;                /* file whose text begins the stream and is kept for ever, or NULL */
	struct context_options context; /* sinks: at least these; a pinned text may need more */
	size_t records;                 /* that may be in the worker's hands at once */
};

struct worker;

/*
 * Load the model, make the context, feed BOS and the pinned text. Returns
 * NULL with *e set: EX_NOINPUT, EX_DATAERR, EX_USAGE (options that cannot
 * work with this model), EX_OSERR.
 */
struct worker *worker_new(const struct worker_options *o, struct err *e);

/* Stops the thread first, if it runs. */
void worker_free(struct worker *w);

/* Start the thread. Returns 0, or -1 with *e set (EX_OSERR). From here on the functions below are the loop's. */
int worker_start(struct worker *w, struct err *e);

/* Hand over a record; it must stay in place until it comes back. At most `records` may be away at once. */
void worker_submit(struct worker *w, struct record *r);

/* The next record that is done, in the order of submission, or NULL. Clear the descriptor first. */
struct record *worker_collect(struct worker *w);

/* Readable when there is something to collect, and when the thread has ended. */
int worker_get_fd(const struct worker *w);
void worker_clear(struct worker *w);

/* Ask the thread to end after the events in hand; what waits stays undone. */
void worker_stop(struct worker *w);

/*
 * Has the thread ended? What is collected afterwards is all there is. If it
 * ended because the engine failed, *e says why, else e->code is 0.
 */
bool worker_has_ended(const struct worker *w, struct err *e);

struct worker_counters {
	int64_t tokens;  /* computed so far, of events */
	size_t waiting;  /* records that were submitted and not begun */
};
void worker_get_counters(const struct worker *w, struct worker_counters *c);

#endif
