/* Events that were left out because there were too many: counted, by source, and told. */
#ifndef SINKD_DAEMON_SKIPS_H
#define SINKD_DAEMON_SKIPS_H

#include "base/buf.h"
#include "stream/record.h"

enum { SKIPS_SOURCES = 16 }; /* that are told by name; the rest is told as one */

struct skips {
	int64_t from, to; /* numbers of the first and the last one */
	int64_t count;    /* 0: there are none to tell */
	int n;
	struct {
		char name[64]; /* valid UTF-8 */
		int64_t count;
	} sources[SKIPS_SOURCES];
};

/* One more. */
void skips_add(struct skips *s, const struct record *r);

/* Append the line that tells of them; they are told then. key as in annotate_write. */
void skips_write(struct skips *s, struct buf *out, const char *key);

#endif
