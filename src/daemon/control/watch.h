/* A standing question: an event that is such, or a source that falls silent, makes an alert. */
#ifndef SINKD_DAEMON_WATCH_H
#define SINKD_DAEMON_WATCH_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "stream/record.h"

struct watch {
	int64_t number;      /* of its connection */
	char *id;            /* JSON text of the request's id, or NULL; heap */
	bool has_surprise;
	double surprise;     /* an event must have at least as much */
	char *source, *text; /* its source must be this, its text must hold this; NULL: any; heap */
	double silent;       /* seconds without such an event that make an alert instead; 0: events do */
	double last;         /* when the last one came, or the watch began */
	bool told;           /* of the silence since */
};

/*
 * Read a request's members. Returns 0, or -1 with *e set (EX_DATAERR: the
 * peer's fault; EX_OSERR). watch_fini in every case.
 */
int watch_init(struct watch *w, const json_t *request, double now, struct err *e);
void watch_fini(struct watch *w);

/* Append an alert if the record asks for one. */
void watch_take_record(struct watch *w, const struct record *r, double now, struct buf *out, const char *key);

/* Append an alert if it has been silent for too long by now. */
void watch_look(struct watch *w, double now, struct buf *out, const char *key);

#endif
