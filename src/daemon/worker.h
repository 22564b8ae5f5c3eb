/*
 * The engine thread: it owns the stream, takes records from a bounded queue,
 * passes them through the pipeline, and hands them back through another queue.
 * Between groups of records it serves requests.
 */
#ifndef SINKD_DAEMON_WORKER_H
#define SINKD_DAEMON_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/result.h"
#include "stream/state.h"

/* Requests that may be in the worker's hands at once, on either of the two ways. */
enum { WORKER_REQUESTS = 64 };

/* Digests that the engine thread makes by itself. It counts events with text, so that a replay is the same. */
struct worker_digests {
	int64_t every;                 /* 0: never */
	bool rolling;                  /* every digest on schedule replaces the pinned block */
	struct digest_options options; /* of these; scheduled does not count */
};

struct worker_options {
	struct stream_options stream;
	const char *key; /* the member's name as a JSON string, for the lines of requests */
	size_t records;  /* that may be in the worker's hands at once */
	struct worker_digests digests;
	struct state_folder *folder; /* of checkpoints, or NULL; borrowed */
	const struct state *state;  /* to begin with, or NULL; not needed after worker_new */
};

struct worker;

/*
 * Open the stream, with stream_open's errors, and put it into the state where
 * there is one, with state_restore's. Borrows the strings of o.
 */
struct worker *worker_new(const struct worker_options *o, struct err *e);

/* Stops the thread first, if it runs. Frees requests and lines that were not collected. */
void worker_free(struct worker *w);

/* Start the thread. Returns 0, or -1 with *e set (EX_OSERR). From here on the functions below are the loop's. */
int worker_start(struct worker *w, struct err *e);

/* Hand over a record; it must stay in place until it comes back. At most `records` may be away at once. */
void worker_submit(struct worker *w, struct record *r);

/*
 * Hand over a request to be served soon, at the next boundary of records; what
 * it gives comes by worker_collect_reply. Returns false if WORKER_REQUESTS are
 * waiting already, and the request stays the caller's.
 */
bool worker_request(struct worker *w, struct request *q);

/*
 * The same in the order of the stream: after all records submitted before and
 * before all that follow. What it gives comes by worker_collect, in order; an
 * answer comes in one piece.
 */
bool worker_submit_request(struct worker *w, struct request *q);

/*
 * The next result in the order of the stream. Returns false if there is none
 * yet. Clear the descriptor first. The thread does not wait for who does not
 * collect: there is room for all that was submitted.
 */
bool worker_collect(struct worker *w, struct result *r);

/* Readable when there is something to collect, and when the thread has ended. */
int worker_get_fd(const struct worker *w);
void worker_clear(struct worker *w);

/* The same three for the results of worker_request. */
bool worker_collect_reply(struct worker *w, struct result *r);
int worker_get_reply_fd(const struct worker *w);
void worker_clear_replies(struct worker *w);

/* Ask the thread to end after the events in hand; what waits stays undone, an answer on its way is cut off. */
void worker_stop(struct worker *w);

/*
 * Has the thread ended? What is collected afterwards is all there is. If it
 * ended because the engine failed, *e says why, else e->code is 0.
 */
bool worker_has_ended(const struct worker *w, struct err *e);

/*
 * Has the engine failed? Known before the results that the failure spoilt can
 * be collected; *e says why. The thread ends soon.
 */
bool worker_has_failed(const struct worker *w, struct err *e);

struct worker_counters {
	int64_t tokens;    /* computed so far, of events */
	size_t waiting;    /* records and requests in order that were submitted and not begun */
	size_t requests;   /* the others */
	int64_t replies;   /* answers given */
	int64_t digests;   /* made, all of them */
	int64_t steps;     /* of work: while `busy` these must go on */
	bool busy;         /* the thread has work in hand */
	int64_t position;  /* tokens in the stream, all that ever were */
	int64_t evictions; /* of these can no longer be seen */
};
void worker_get_counters(const struct worker *w, struct worker_counters *c);

/* What was loaded: for messages and status. Borrowed; before worker_start or as constants afterwards. */
const struct model_info *worker_get_model(const struct worker *w);
const struct context_info *worker_get_context(const struct worker *w);

#endif
