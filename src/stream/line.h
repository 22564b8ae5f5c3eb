/* A line of an input, and where in the input it ends. */
#ifndef SINKD_STREAM_LINE_H
#define SINKD_STREAM_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where in an input the next line begins. All zero: at its start. */
struct place {
	int64_t offset; /* bytes before it */
	int64_t line;   /* number of the last line before it, from 1 */
	bool within;    /* what follows is the rest of a line that was too long; the reader ignores it */
};

/* A line without its newline. */
struct line {
	const char *data;
	size_t len;
	int64_t number; /* in its input, from 1 */
	bool cut;       /* longer than allowed: data is only its start */
	struct place after;
};

#endif
