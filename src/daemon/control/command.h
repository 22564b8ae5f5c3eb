/* A line of the control plane, read: what is asked for, with all its members checked. */
#ifndef SINKD_DAEMON_COMMAND_H
#define SINKD_DAEMON_COMMAND_H

#include <jansson.h>

#include "daemon/request.h"
#include "stream/line.h"

enum command_op {
	COMMAND_ASK,
	COMMAND_CHECKPOINT,
	COMMAND_DIGEST,
	COMMAND_STATUS,
	COMMAND_SUBSCRIBE,
	COMMAND_UNSUBSCRIBE,
	COMMAND_UNWATCH,
	COMMAND_WATCH,
};

struct command {
	enum command_op op;
	json_t *object;          /* the whole request */
	char *id;                /* JSON text of its id, or NULL; heap */
	struct request *request; /* ASK, DIGEST, and STATUS with a hash: to hand over, which sets it to NULL */
	double min_surprise;     /* SUBSCRIBE; below 0: everything */
};

/*
 * Read a line. Returns 0, or -1 with *e set (EX_DATAERR: the peer's fault;
 * EX_OSERR); id may be known even then. command_fini in every case.
 */
int command_read(struct command *c, const struct line *line, struct err *e);
void command_fini(struct command *c);

/* The member name of o, a number from min to max. Returns 1, 0 if there is none, or -1 with *e set (EX_DATAERR). */
int command_take_number(const json_t *o, const char *name, double min, double max, double *to, struct err *e);

#endif
