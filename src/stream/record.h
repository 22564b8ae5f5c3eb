/*
 * A record is one input event (libevent owns the word "event") on its way
 * through the program: made by the reader from a line, scored by the engine
 * thread, written by annotate. It owns its `members` only: whoever holds it knows
 * where its other bytes lie.
 */
#ifndef SINKD_STREAM_RECORD_H
#define SINKD_STREAM_RECORD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "stream/score.h"

enum { RECORD_START = 64 }; /* bytes of a bad line that its error shows */

enum record_type {
	RECORD_EVENT, /* annotated */
	RECORD_ERROR, /* a line that cannot be one; raw is its start */
	RECORD_SKIPPED, /* an event that was not computed: there were too many */
};

struct record {
	enum record_type type;
	bool server_fault;   /* of an error: ours, not the input's */
	bool wrap;           /* a plain line: raw is text, not JSON */
	bool bare;           /* a JSON object without members */
	int64_t seq;         /* number of the record, from 1 */
	int64_t time;        /* of the event, or else of its arrival: microseconds since 1970; 0: not known */
	int64_t line;        /* number of the line in its input, from 1 */
	const char *input;   /* name of the input, or NULL: standard input */
	const char *raw;     /* event: the original bytes before the last '}'; plain: the line; error: its start. */
	size_t raw_len;      /* wrap and error: valid UTF-8 */
	const char *text;    /* what the model reads, valid UTF-8 */
	size_t text_len;     /* 0: nothing to read, reason says why */
	size_t source_len;   /* text begins with the source; 0: it has none */
	uint64_t peer;       /* the loop's own number of who waits for the annotation, 0: nobody */
	char reason[256];    /* of an error, or of an event without text; valid UTF-8; "": none */
	struct score score;
	struct buf members;  /* that stages add to the annotation, each with a comma before it; see record_fini */
	atomic_bool skip;    /* set by the loop while the record waits: it is not to be computed */
};

/* Release the members. */
void record_fini(struct record *r);

/* Bytes that record_keep needs. */
size_t record_get_size(const struct record *r);

/* Move raw and text into memory of record_get_size bytes. */
void record_keep(struct record *r, char *memory);

/* An event that could not be scored becomes an error of ours; raw is cut to its start. reason: valid UTF-8. */
void record_fail(struct record *r, const char *reason);

#endif
