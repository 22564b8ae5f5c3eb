/*
 * A destination that cannot go back: standard output, a FIFO, a device. A file,
 * which can, begins with the same struct and shares the operations.
 */
#ifndef SINKD_DAEMON_OUTPUT_STREAM_H
#define SINKD_DAEMON_OUTPUT_STREAM_H

#include "daemon/output/destination.h"

struct output_stream {
	struct output *output;
};

extern const struct destination_ops output_stream_ops;

/* Takes the output over, also on failure; NULL: it could not be made, and *e is set. Returns NULL with *e set. */
struct output_stream *output_stream_new(struct output *output, struct err *e);

/* self: a struct output_stream, or what begins with one. */
bool output_stream_write(void *self, const char *lines, size_t len);
void output_stream_flush(void *self);
bool output_stream_is_full(const void *self);
bool output_stream_is_drained(const void *self);
void output_stream_set_patience(void *self, int seconds);

#endif
