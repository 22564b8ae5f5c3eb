/*
 * The inside of worker.h, for worker.c (the thread and its queues) and worker_requests.c
 * (requests). Engine thread, but for what is marked as the loop's.
 */
#ifndef SINKD_DAEMON_WORKER_INNER_H
#define SINKD_DAEMON_WORKER_INNER_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/queue.h"
#include "daemon/worker.h"
#include "stream/pipeline.h"

/* What waits in the order of the stream: one of the two. */
struct work {
	struct record *record;
	struct request *request;
};

/* A request that is being served, and where its lines go. */
struct worker_service {
	struct worker *w;
	struct request *q; /* NULL: a digest that is due */
	struct queue *to;
	bool failed;       /* w->failure says why */
};

/* An answer, or a digest that the model writes, made in turns with the records. */
struct worker_active {
	struct worker_service service; /* its q NULL: there is none */
	struct answer *answer;
	struct digest digest;
	double waited;                 /* seconds, until it was begun */
	size_t tokens;                 /* that it took since records had their turn */
};

struct worker {
	struct worker_options o;
	struct stream *stream;
	struct context_info info; /* at the start */
	struct queue *in, *out;           /* of struct work, of struct result: the order of the stream */
	struct queue *requests, *replies; /* of struct request *, of struct result */
	struct pipeline *pipeline;
	struct request *held;     /* taken from `in`: to be served after the group */
	struct request *next;     /* taken from `requests`, not served yet */
	struct worker_active active;
	bool within;              /* an event of very many tokens is computed, part by part */
	pthread_t thread;         /* the loop's, as the next two */
	bool started;
	size_t ordered;           /* the loop's: requests submitted in order and not collected */
	struct err failure;       /* written before failed and ended */
	atomic_bool stopping, failed, ended, busy;
	atomic_llong tokens, answers, digests, steps, position, evictions;
};

/* worker.c */
void worker_step(struct worker *w);    /* progress was made */
void worker_publish(struct worker *w); /* for the loop, which must not look into the context */

/* A result goes to the loop; waits for room. One that nobody will take any more, since the thread ends, is dropped. */
void worker_push(struct worker *w, struct queue *to, struct result *r);

/* worker_requests.c. They return -1 when the thread has to end, and w->failure says why. */

/* Serve a request from its beginning to its end. */
int worker_serve(struct worker *w, struct request *q, struct queue *to);

/* Make the digest that is due. */
int worker_make_digest(struct worker *w);

/*
 * The turn of those requests that may be served at any time: one short one, or a
 * part of an answer. between: no record is in hand, so that the stream may be
 * changed and saved. Returns 1 if something was done, else 0.
 */
int worker_serve_next(struct worker *w, bool between);

/* The turn of the records: to be called before anything is done with the stream. */
int worker_make_way(struct worker *w);

/* The thread is about to end: an answer that is being made is cut off. */
void worker_cut_off(struct worker *w);

#endif
