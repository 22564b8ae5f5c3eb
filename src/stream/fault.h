/*
 * Whose fault an error is, as lines of the protocol say it in "fault". The one
 * place that decides it; sinkd-protocol(7) is the contract.
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

/* Append the members fault and reason (valid UTF-8). */
void fault_write(struct buf *out, enum fault f, const char *reason);

#endif
