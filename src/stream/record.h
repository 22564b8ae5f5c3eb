/*
 * A record is one input event (libevent owns the word "event") on its way
 * through the program: made by the reader from a line, scored by the engine
 * thread, written by annotate. It owns no memory: where its bytes lie is said
 * by whoever holds it.
 */
#ifndef SINKD_STREAM_RECORD_H
#define SINKD_STREAM_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream/score.h"

enum { RECORD_START = 64 }; /* bytes of a bad line that its error shows */

enum record_type {
	RECORD_EVENT, /* annotated */
	RECORD_ERROR, /* a line that cannot be one; raw is its start */
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
	char reason[256];    /* of an error, or of an event without text; valid UTF-8; "": none */
	struct score score;
};

/* Bytes that record_keep needs. */
size_t record_get_size(const struct record *r);

/* Move raw and text into memory of record_get_size bytes. */
void record_keep(struct record *r, char *memory);

/* An event that could not be scored becomes an error of ours; raw is cut to its start. reason: valid UTF-8. */
void record_fail(struct record *r, const char *reason);

#endif
