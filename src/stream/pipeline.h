/*
 * The way of an event: from its record to tokens, through the model to scores, and through the stages (stage.h).
 * Records that wait are computed together, as a group; the scores are the same as one by one. Engine thread.
 */
#ifndef SINKD_STREAM_PIPELINE_H
#define SINKD_STREAM_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "stream/stream.h"

struct pipeline_options {
	int64_t digest_every; /* a digest is due after this number of events with text, and ends a group; 0: never */
	void *arg;            /* for both functions */

	/* The record is done: scored, skipped, or an error. */
	void (*deliver)(void *arg, struct record *r);

	/*
	 * An event of very many tokens is half read: the caller may use the stream, on a fork. Returns 0, or -1: the
	 * caller has noted why, and the group fails. NULL: nothing to do.
	 */
	int (*between)(void *arg);
};

struct pipeline;

/* A pipeline into the stream, which is borrowed. Returns NULL with *e set (EX_OSERR). */
struct pipeline *pipeline_new(struct stream *s, const struct pipeline_options *o, struct err *e);
void pipeline_free(struct pipeline *p);

/*
 * Add a record to the group; it must stay in place until it is delivered. Returns 0, or -1 with *e set: then the group,
 * this record included, has to fail.
 */
int pipeline_add(struct pipeline *p, struct record *r, struct err *e);

/* May a further record be added? If not, the group has to run first. */
bool pipeline_has_room(const struct pipeline *p);

/* Compute the group and deliver its records in order. Returns 0, or -1 with *e set: then the rest has to fail. */
int pipeline_run(struct pipeline *p, struct err *e);

/* Deliver what is left of the group; its events become errors. reason: valid UTF-8. */
void pipeline_fail(struct pipeline *p, const char *reason);

/* Is a digest due, now that all records added were delivered? */
bool pipeline_is_due(const struct pipeline *p);

/* Tokens of events that were read so far. */
int64_t pipeline_get_tokens(const struct pipeline *p);

#endif
