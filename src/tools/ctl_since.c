/* sinkctl's --since; see ctl.h. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/ctl.h"

/* "90s", "15m", "2h", "1d": so long ago. Returns false if it is not that. */
static bool
read_ago(const char *text, double *seconds)
{
	static const char units[] = "smhd";
	static const double lengths[] = {1, 60, 3600, 86400};
	char *end;
	double n = strtod(text, &end);
	const char *unit;

	/* Letters and signs that strtod reads are no time. */
	if (!isdigit((unsigned char)*text) || *end == '\0' || end[1] != '\0' || (unit = strchr(units, *end)) == NULL)
		return false;
	*seconds = n * lengths[unit - units];
	return isfinite(*seconds);
}

/* A date, a time of today, or both. */
static bool
read_date(const char *text, time_t now, time_t *t)
{
	static const char *const formats[] = {"%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S",
	    "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%H:%M:%S", "%H:%M"};
	struct tm today;

	localtime_r(&now, &today);
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
		struct tm tm = today;
		const char *end;

		tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
		tm.tm_isdst = -1;
		end = strptime(text, formats[i], &tm);
		if (end != NULL && *end == '\0' && (*t = mktime(&tm)) != (time_t)-1)
			return true;
	}
	return false;
}

int
ctl_add_since(json_t *request, const char *since, struct err *e)
{
	time_t now = time(NULL), t;
	double ago;

	if (since[strspn(since, "0123456789")] == '\0' && strlen(since) < 19)
		json_object_set_new(request, "since_seq", json_integer(strtoll(since, NULL, 10)));
	else if (read_ago(since, &ago))
		json_object_set_new(request, "since_time", json_real(fmax(0, (double)now - ago)));
	else if (read_date(since, now, &t))
		json_object_set_new(request, "since_time", json_integer(t));
	else
		return err_set(e, EX_USAGE, "--since must be an event's number, a time like 14:30 or 2026-01-31 14:30, "
		    "or how long ago like 15m, not '%s'", since);
	return 0;
}
