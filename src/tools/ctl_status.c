/* sinkctl's status for people; see ctl.h. */
#include <math.h>
#include <string.h>

#include "stream/text.h"
#include "tools/ctl.h"

enum format { NUMBER, COUNT, SPAN, BYTES, HIDDEN };

/* How a member is shown, by its name, or by its object's name and its own. Others are shown as they are. */
static const struct row {
	const char *name;
	const char *label; /* NULL: the name */
	enum format format;
	const char *unit;
} rows[] = {
	{"type", NULL, HIDDEN, ""},
	{"id", NULL, HIDDEN, ""},
	{"uptime", NULL, SPAN, ""},
	{"seq", NULL, COUNT, " (the last number given: events, errors and skipped events all have one)"},
	{"events", NULL, COUNT, " annotated"},
	{"errors", NULL, COUNT, " lines that could not be read"},
	{"skipped", NULL, COUNT, " events left out"},
	{"tokens", NULL, COUNT, " read since the start"},
	{"position", NULL, COUNT, " tokens in the stream"},
	{"evictions", NULL, COUNT, " of them have left the window"},
	{"digests", NULL, COUNT, " made"},
	{"replies", NULL, COUNT, " given"},
	{"events_per_second", "rate of events", NUMBER, " a second"},
	{"tokens_per_second", "rate of tokens", NUMBER, " a second"},
	{"lag events", "lag", COUNT, " events were read and are not written yet"},
	{"lag seconds", "lag, oldest event", SPAN, ""},
	{"queues records", "queue of events", COUNT, " wait for the model"},
	{"queues requests", "queue of requests", COUNT, " wait for the model"},
	{"surprise 0.5", "surprise, median", NUMBER, " nats per token, of the last 1,024 events"},
	{"surprise 0.9", "surprise, 90 % below", NUMBER, " nats per token"},
	{"surprise 0.99", "surprise, 99 % below", NUMBER, " nats per token"},
	{"surprise 1", "surprise, highest", NUMBER, " nats per token"},
	{"surprise sum", NULL, HIDDEN, ""},
	{"surprise count", "surprise, known of", COUNT, " events"},
	{"producers", NULL, COUNT, " connected"},
	{"producer_lines_skipped", "producers missed", COUNT, " lines, because they read too slowly"},
	{"clients", NULL, COUNT, " connected"},
	{"client_lines_skipped", "clients missed", COUNT, " lines, because they read too slowly"},
	{"checkpoint made", "checkpoints", COUNT, " made"},
	{"checkpoint failed", "checkpoints failed", COUNT, ""},
	{"checkpoint bytes", "checkpoint, size", BYTES, ""},
	{"checkpoint seconds", "checkpoint, took", SPAN, ""},
	{"checkpoint age", "checkpoint, age", SPAN, ""},
	{"model parameters", NULL, COUNT, ""},
	{"model capacity", NULL, COUNT, " tokens, sinks and window together"},
};

static const struct row *
find_status_row(const char *name)
{
	static const struct row other = {NULL, NULL, NUMBER, ""};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return &other;
}

/* "35.2 s", "12 min 3 s", "5 h 0 min", "12 d 4 h". */
static void
print_span(double seconds)
{
	long long s = (long long)fmin(fmax(seconds, 0), 1e15); /* what no integer holds is not a daemon's age */

	if (seconds < 60)
		printf("%.3g s", seconds);
	else if (s < 3600)
		printf("%lld min %lld s", s / 60, s % 60);
	else if (s < 86400)
		printf("%lld h %lld min", s / 3600, s % 3600 / 60);
	else
		printf("%lld d %lld h", s / 86400, s % 86400 / 3600);
}

static void
print_bytes(double n)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB"};
	int i = 0;

	for (; n >= 1024 && i < 3; i++)
		n /= 1024;
	printf("%.*f %s", i == 0 ? 0 : 1, n, units[i]);
}

/* In a column of its own, 22 wide. The daemon chose the name, so it is shown as any text. */
static void
print_name(const char *name)
{
	size_t len = strlen(name);

	ctl_print_text(name, len, false);
	printf("%*s ", len < 22 ? (int)(22 - len) : 0, "");
}

static void
show_member(const char *name, const json_t *v)
{
	const struct row *r = find_status_row(name);

	if (r->format == HIDDEN)
		return;
	print_name(r->label != NULL ? r->label : name);
	if (json_is_string(v))
		ctl_print_text(json_string_value(v), json_string_length(v), false);
	else if (r->format == SPAN)
		print_span(json_number_value(v));
	else if (r->format == BYTES)
		print_bytes(json_number_value(v));
	else if (r->format == COUNT || json_is_integer(v))
		ctl_print_count(json_integer_value(v));
	else
		printf("%.4g", json_number_value(v));
	puts(r->unit);
}

static void
show_members(const json_t *o, const char *prefix)
{
	const char *name;
	json_t *v;

	json_object_foreach ((json_t *)o, name, v) {
		char full[128];

		snprintf(full, sizeof full, "%s%s%s", prefix, *prefix == '\0' ? "" : " ", name);
		text_drop_cut(full);
		if (json_is_object(v))
			show_members(v, full);
		else if (!json_is_null(v))
			show_member(full, v);
	}
}

void
ctl_show_status(const json_t *own)
{
	show_members(own, "");
}
