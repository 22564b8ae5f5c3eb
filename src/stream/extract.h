/*
 * Choosing the events that a digest quotes. Events of the same shape are one
 * candidate with a count; a candidate is rated by the surprise of its least
 * expected event, by its novelty, and by how likely the model finds its text
 * as the answer to "The most important line is". Engine thread.
 */
#ifndef SINKD_STREAM_EXTRACT_H
#define SINKD_STREAM_EXTRACT_H

#include "stream/stream.h"

struct extract_line {
	int64_t number;       /* in the memory: the candidate's least expected event */
	int64_t first, last;  /* seq of the first and the last event of its shape */
	int64_t count;        /* events of its shape */
	double surprise, novelty, answer; /* nats per token; nats; nats per token, NAN where it was not asked */
};

enum { EXTRACT_LINES = 32 };

/*
 * Choose at most n (<= EXTRACT_LINES) lines from the events numbered from ..
 * end-1 of the stream's memory, in their order. *shapes receives the number of
 * candidates. The model is asked on a fork, where there is room. Returns the
 * number of lines, or -1 with *e set (EX_OSERR, EX_TEMPFAIL).
 */
int extract_choose(struct stream *s, int64_t from, int64_t end, int n, struct extract_line *lines, int64_t *shapes,
    struct err *e);

#endif
