/*
 * Whose fault an error is, as lines of the protocol say it in "fault", and the exit status that it gives. The one
 * place that decides both; sinkd-protocol(7) and sinkd(1) are the contracts.
 */
#ifndef SINKD_STREAM_FAULT_H
#define SINKD_STREAM_FAULT_H

#include "base/buf.h"
#include "base/err.h"

enum fault {
	FAULT_INPUT,   /* a line of the input cannot be an event */
	FAULT_REQUEST, /* the client asked for what cannot be, or what it may not have */
	FAULT_SERVER,  /* sinkd or its machine: it may work at another time */
};

/* Why a request was refused, where the engine is whole. */
enum fault fault_of_request(const struct err *e);

/* The exit status for the code of an error: one of <sysexits.h>, 0 for 0. */
int fault_get_status(int code);

/* Append the members fault and reason (valid UTF-8). */
void fault_write(struct buf *out, enum fault f, const char *reason);

#endif
