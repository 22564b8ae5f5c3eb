/* The line that a record becomes on output; sinkd-protocol(7) is the contract. */
#ifndef SINKD_STREAM_ANNOTATE_H
#define SINKD_STREAM_ANNOTATE_H

#include "base/buf.h"
#include "stream/record.h"

/* Append the record's line, newline included. key: the member's name as a JSON string, quotes included. */
void annotate_write(struct buf *out, const struct record *r, const char *key);

#endif
