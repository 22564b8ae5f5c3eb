/* What the engine thread hands back, and the lines that requests get; sinkd-protocol(7) is the contract. */
#ifndef SINKD_DAEMON_RESULT_H
#define SINKD_DAEMON_RESULT_H

#include <stddef.h>

#include "stream/fault.h"
#include "stream/record.h"
#include "daemon/request.h"

enum result_type {
	RESULT_RECORD, /* a record, scored */
	RESULT_LINE,   /* a line of output, newline included */
	RESULT_DONE,   /* the request is done: it is the receiver's again */
};

struct result {
	enum result_type type;
	struct record *record;   /* RESULT_RECORD */
	struct request *request; /* whose line this is, or NULL: a digest made on schedule, for the output */
	char *line;              /* RESULT_LINE: heap, the receiver frees it */
	size_t len;
};

/* Release what a result that nobody will take holds. */
void result_drop(struct result *r);

/* Append a line of the request q; key as in annotate_write. */
void result_write_delta(struct buf *out, const char *key, const struct request *q, const char *text, size_t len);
void result_write_reply(struct buf *out, const char *key, const struct request *q, const struct reply *r,
    double waited);
void result_write_error(struct buf *out, const char *key, const struct request *q, enum fault fault,
    const char *reason);

/* The head of a line of the given type, with the request's id where q is not NULL and has one. */
void result_begin(struct buf *out, const char *key, const struct request *q, const char *type);

#endif
