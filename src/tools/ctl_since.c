/* Times and durations on sinkctl's command line; see ctl.h. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/ctl.h"

/* "90s", "15m", "2h", "1d", and a bare number if that may be seconds. Returns false if it is not that. */
static bool
read_span(const char *text, bool bare, double *seconds)
{
	static const char units[] = "smhd";
	static const double lengths[] = {1, 60, 3600, 86400};
	char *end;
	double n = strtod(text, &end);
	const char *unit = *end == '\0' ? NULL : strchr(units, *end);

	/* Letters and signs that strtod reads are no time. */
	if (!isdigit((unsigned char)*text) || (unit == NULL ? !bare || *end != '\0' : end[1] != '\0'))
		return false;
	*seconds = unit == NULL ? n : n * lengths[unit - units];
	return isfinite(*seconds);
}

int
ctl_read_duration(const char *option, const char *text, double *seconds, struct err *e)
{
	if (read_span(text, true, seconds))
		return 0;
	return err_set(e, EX_USAGE, "--%s must be a time such as 90, 15m or 1d (s, m, h or d may follow the number), "
	    "not '%s'", option, text);
}

/* "today", "yesterday", also with a time behind it: moves *day there. Returns what follows. */
static const char *
read_day(const char *text, struct tm *day)
{
	static const struct {
		const char *name;
		int back;
	} days[] = {{"today", 0}, {"yesterday", 1}};

	for (size_t i = 0; i < sizeof days / sizeof *days; i++) {
		size_t len = strlen(days[i].name);

		if (strncmp(text, days[i].name, len) == 0 && (text[len] == ' ' || text[len] == '\0')) {
			day->tm_mday -= days[i].back;
			return text + len + strspn(text + len, " ");
		}
	}
	return text;
}

/* A date or a day, a time of today, or both. Noon and midnight are times of a day. */
static bool
read_date(const char *text, time_t now, time_t *t)
{
	static const char *const formats[] = {"%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S",
	    "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%H:%M:%S", "%H:%M"};
	struct tm today;

	localtime_r(&now, &today);
	today.tm_hour = today.tm_min = today.tm_sec = 0;
	today.tm_isdst = -1;
	text = read_day(text, &today);
	text = strcmp(text, "noon") == 0 ? "12:00" : strcmp(text, "midnight") == 0 ? "00:00" : text;
	if (*text == '\0')
		return (*t = mktime(&today)) != (time_t)-1;
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
		struct tm tm = today;
		const char *end;

		end = strptime(text, formats[i], &tm);
		if (end != NULL && *end == '\0' && (*t = mktime(&tm)) != (time_t)-1)
			return true;
	}
	return false;
}

void
ctl_format_times(double a, double b, char *text_a, char *text_b, size_t size)
{
	time_t now = time(NULL), times[2] = {(time_t)a, (time_t)b};
	char *texts[2] = {text_a, text_b};
	struct tm today, tm[2];
	bool dates = false;

	localtime_r(&now, &today);
	for (int i = 0; i < 2; i++) {
		localtime_r(&times[i], &tm[i]);
		dates |= tm[i].tm_yday != today.tm_yday || tm[i].tm_year != today.tm_year;
	}
	for (int i = 0; i < 2; i++)
		strftime(texts[i], size, dates ? "%Y-%m-%d %H:%M" : "%H:%M", &tm[i]);
}

int
ctl_add_since(json_t *request, const char *since, struct err *e)
{
	time_t now = time(NULL), t;
	double ago;

	if (since[strspn(since, "0123456789")] == '\0' && strlen(since) < 19)
		json_object_set_new(request, "since_seq", json_integer(strtoll(since, NULL, 10)));
	else if (read_span(since, false, &ago))
		json_object_set_new(request, "since_time", json_real(fmax(0, (double)now - ago)));
	else if (read_date(since, now, &t))
		json_object_set_new(request, "since_time", json_integer(t));
	else
		return err_set(e, EX_USAGE, "--since must be an event's number, a time such as 14:30, noon, midnight, "
		    "today, yesterday or 2026-01-31 14:30, or how long ago such as 15m, 2h or 1d, not '%s'", since);
	return 0;
}
