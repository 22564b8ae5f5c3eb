/* sinkctl: what its files share. */
#ifndef SINKD_TOOLS_CTL_H
#define SINKD_TOOLS_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct ctl_settings {
	/* of every command */
	char *socket, *instance, *key;
	int color;      /* enum ctl_color */
	bool json;
	/* ask and digest */
	int64_t max_tokens, seed;
	char *time_limit, *temperature, *top_p, *min_p, *schema;
	bool join, faithful;
	char *since;
	int style;      /* enum digest_style */
	int64_t lines;
	/* tail, watch */
	char *min_surprise, *source, *text, *silent, *top, *priority;
	int64_t count;
	/* status */
	bool hash;
};

enum ctl_color { CTL_AUTO, CTL_ALWAYS, CTL_NEVER };

/*
 * A connection to a daemon. Returns a stream to read lines from, whose
 * descriptor takes requests, or NULL with *e set (EX_UNAVAILABLE, EX_NOPERM,
 * EX_USAGE).
 */
FILE *ctl_connect(const struct ctl_settings *s, struct err *e);

enum { CTL_RECENT = 1024 };

/* The surprise of the last events. Zeroes: of none. */
struct ctl_recent {
	/* in the order of the stream, where next is the oldest; ascending */
	double ring[CTL_RECENT], sorted[CTL_RECENT];
	int n, next;
};

/*
 * Add an event's surprise. Returns the share of the last 1,024 events, itself
 * counted, that have as much or more: 0 if it is the only one.
 */
double ctl_rank(struct ctl_recent *r, double surprise);

/* What tail shows. */
struct ctl_tail {
	double top;          /* share of the events, 1: all */
	double min_surprise; /* -1: any, or none */
	int priority;        /* with top: also events of the journal that are as severe; -1: none */
	struct ctl_recent recent;
	double rank;         /* of the line that was looked at last */
};

/* "1%" as a share; "err" or "3" as a number, "none" as -1. Return 0, or -1 with *e set (EX_USAGE). */
int ctl_read_top(const char *text, double *share, struct err *e);
int ctl_read_priority(const char *text, int *priority, struct err *e);

/* Is this line to be shown? Lines of other types than event always are. */
bool ctl_tail_wants(struct ctl_tail *t, const json_t *line, const json_t *own);

/* "90", "90s", "15m", "2h", "1d", also with a point. Returns 0, or -1 with *e set (EX_USAGE). */
int ctl_read_duration(const char *option, const char *text, double *seconds, struct err *e);

/* Two times, seconds since 1970, as people write them: with the date where one is not today. */
void ctl_format_times(double a, double b, char *text_a, char *text_b, size_t size);

/*
 * So long ago, a date, a time of today or an event's number, as a member of a
 * request. Returns 0, or -1 with *e set (EX_USAGE).
 */
int ctl_add_since(json_t *request, const char *since, struct err *e);

/*
 * Show a line that is an object, for people: line is the whole of it, own the
 * member that sinkd added; rank is that of an event, see ctl_rank, for its colour.
 */
void ctl_show(const json_t *line, const json_t *own, double rank, bool color);

/* The same for a line of the type status. */
void ctl_show_status(const json_t *own);

/* A whole number with a comma before every three digits. */
void ctl_print_count(int64_t n);

/* Text for a terminal: control characters are shown, not sent; newlines and tabs pass if lines is set. */
void ctl_print_text(const char *text, size_t len, bool lines);

#endif
