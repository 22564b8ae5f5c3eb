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
	char *min_surprise, *surprise, *source, *text, *silent;
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

/*
 * So long ago, a date, a time of today or an event's number, as a member of a
 * request. Returns 0, or -1 with *e set (EX_USAGE).
 */
int ctl_add_since(json_t *request, const char *since, struct err *e);

/*
 * Show a line that is an object, for people: line is the whole of it, own the
 * member that sinkd added.
 */
void ctl_show(const json_t *line, const json_t *own, bool color);

/* Text for a terminal: control characters are shown, not sent; newlines and tabs pass if lines is set. */
void ctl_print_text(const char *text, size_t len, bool lines);

#endif
