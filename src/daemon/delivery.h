/*
 * What comes back from the engine thread becomes lines: for the output, for
 * the producer whose event it was, and for whoever listens.
 */
#ifndef SINKD_DAEMON_DELIVERY_H
#define SINKD_DAEMON_DELIVERY_H

#include "base/buf.h"
#include "daemon/control/control.h"
#include "daemon/input/producers.h"
#include "daemon/input/skips.h"
#include "daemon/output/destination.h"
#include "daemon/stats.h"
#include "stream/record.h"

struct delivery {
	const char *key;             /* the member's name as a JSON string */
	struct destinations *destinations;
	struct producers *producers; /* NULL: there are none */
	struct control *control;     /* NULL: there is none */
	struct stats *stats;
	int64_t events, errors, skipped; /* records delivered */
	struct skips skips;          /* of these not told yet */
	struct buf line;             /* scratch */
	bool failed;                 /* there was no memory for a line */
};

void delivery_fini(struct delivery *d);

/* A record that is done. */
void delivery_take_record(struct delivery *d, const struct record *r);

/* A line that no record became, such as a digest, newline included: for the output and subscribers. */
void delivery_take_line(struct delivery *d, const char *line, size_t len);

/* Tell what was left out up to here. */
void delivery_tell_skips(struct delivery *d);

#endif
