/*
 * What the control plane asks of the engine thread. The loop makes a request
 * and hands it over; it comes back with a result RESULT_DONE, to be freed.
 */
#ifndef SINKD_DAEMON_REQUEST_H
#define SINKD_DAEMON_REQUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream/digest.h"

enum request_op {
	REQUEST_ASK,   /* text: the question. Lines: delta (with reply.stream), then reply or error */
	REQUEST_DIGEST, /* Line: digest, or error. On schedule its result has no request, and there may be none */
	REQUEST_CHECKPOINT, /* write state and blob into the worker's folder, for state_finish; see failure */
	REQUEST_HASH,  /* a number of the stream's state, into hash */
};

struct request {
	enum request_op op;
	uint64_t client;            /* the loop's own number; the engine thread passes it on */
	char *id;                   /* the peer's id as JSON text, or NULL; heap */
	char *text;                 /* valid UTF-8; heap */
	size_t text_len;
	/* Their schemas are the request's and freed with it. */
	struct reply_options reply;   /* ASK */
	struct digest_options digest; /* DIGEST */
	char *blob;                 /* CHECKPOINT: what the loop wants to have stored with it; heap */
	size_t blob_len;
	struct err failure;         /* CHECKPOINT, HASH: code 0, or why it could not be done */
	uint64_t hash;
	int64_t bytes;              /* CHECKPOINT: what was written */
	double asked;               /* when a client asked; 0: worker_request sets it */
	atomic_bool cancelled;      /* set by the loop when nobody listens any more; looked at for every token */
};

/* A request of zeroes but for op, or NULL. */
struct request *request_new(enum request_op op);
void request_free(struct request *q);

#endif
