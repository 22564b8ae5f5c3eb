/*
 * What is remembered of the most recent events, for digests: number, time,
 * scores, the start of the text, and its shape. Fixed memory. A stage (stage.h)
 * of every stream. Engine thread.
 */
#ifndef SINKD_STREAM_MEMORY_H
#define SINKD_STREAM_MEMORY_H

#include "stream/record.h"

enum {
	MEMORY_EVENTS = 4096,
	MEMORY_TEXT = 200, /* bytes kept of a text */
};

struct memory_event {
	int64_t seq, time;
	uint64_t shape;    /* of texts that differ only in words with digits it is the same */
	double nll;
	int32_t tokens, scored;
	int32_t len;       /* of text */
	int32_t cut;       /* the text was longer */
	char text[MEMORY_TEXT]; /* one line, valid UTF-8, no line end; zeroes behind it */
};

struct memory {
	struct memory_event events[MEMORY_EVENTS];
	int64_t count;     /* events ever added; the last MEMORY_EVENTS of them are there */
	int64_t digested;  /* of these, how many the digests on schedule have dealt with */
	int64_t digests;   /* made on schedule */
};

/* Remember a scored event that has text. */
void memory_add(struct memory *m, const struct record *r);

/* Which of the events remembered the model has in view, and when they came (usec since 1970). events 0: none. */
struct memory_view {
	int64_t events, from, to; /* numbers of the first and the last */
	int64_t from_time, to_time;
};

/* The last events with at most this number of tokens together, but always at least the last event. */
void memory_get_view(const struct memory *m, int64_t tokens, struct memory_view *view);

/* The number of the oldest event remembered, counted from 0 as `count` does. */
int64_t memory_get_first(const struct memory *m);
const struct memory_event *memory_get(const struct memory *m, int64_t number);

/* Surprise, nats per token. */
double memory_get_surprise(const struct memory_event *e);

#endif
