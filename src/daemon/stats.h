/* What is known of the stream for status, metrics and the page: rates, recent events, recent digests. */
#ifndef SINKD_DAEMON_STATS_H
#define SINKD_DAEMON_STATS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "stream/record.h"

enum {
	STATS_RECENT = 1024, /* events that quantiles and the most surprising are taken from */
	STATS_TEXT = 160,    /* bytes of an event's text that are remembered */
	STATS_DIGESTS = 5,
	STATS_DIGEST_TEXT = 4096,
};

/* How many of something a second, over the last ten seconds or so. */
struct rate {
	double value, time;
};

void rate_add(struct rate *r, double count, double now);
double rate_get(const struct rate *r, double now);

struct stats_event {
	int64_t seq;
	double surprise;
	time_t time;
	char text[STATS_TEXT + 1]; /* with its source; valid UTF-8 */
};

struct stats_digest {
	time_t time;
	char line[STATS_DIGEST_TEXT]; /* the line's start, as it was written */
};

struct stats {
	double start;          /* clock_get_seconds when it began */
	struct rate events, tokens;
	int64_t scored;        /* events with a surprise, ever */
	double surprise_sum;
	struct stats_event recent[STATS_RECENT]; /* a ring, scored modulo its size is the next */
	int64_t digests;       /* ever */
	struct stats_digest last[STATS_DIGESTS]; /* a ring */
};

/* On the heap, or NULL. */
struct stats *stats_new(void);
void stats_free(struct stats *s);

void stats_take_record(struct stats *s, const struct record *r);
void stats_take_digest(struct stats *s, const char *line, size_t len);

/* Surprise that the share q of the recent events does not pass, or NAN. */
double stats_get_quantile(const struct stats *s, double q);

/* The n most surprising of the recent events, most surprising first. Returns how many there are. */
int stats_get_top(const struct stats *s, const struct stats_event **top, int n);

#endif
