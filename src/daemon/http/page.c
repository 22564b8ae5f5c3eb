/* The page for people, GET /: see metrics.h. Read without scripts, it reloads itself. */
#include <inttypes.h>

#include "daemon/http/metrics.h"

enum { TOP = 10 };

static const char head[] =
	"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>sinkd</title>"
	"<meta http-equiv=\"refresh\" content=\"5\"><meta name=\"viewport\" content=\"width=device-width\">"
	"<style>body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em;color:#222;"
	"background:#fff}h1{font-size:1.3em}h2{font-size:1.05em;margin-top:2em}dl{display:grid;grid-template-columns:"
	"repeat(auto-fit,minmax(9em,1fr));gap:1em;margin:0}dt{color:#666;font-size:.85em}dd{margin:0;font-size:1.3em}"
	"table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25em .8em .25em 0;vertical-align:top;"
	"border-bottom:1px solid #ddd}td.n,th.n{text-align:right;white-space:nowrap}.t{overflow-wrap:anywhere;"
	"font-family:monospace;font-size:.9em}.d{border-left:3px solid #aaa;padding-left:1em;margin:1em 0}"
	"@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#444}dt{color:#999}}"
	"</style></head><body>\n";

/* Text with what HTML takes for its own escaped, and control characters shown as such. */
static void
add_text(struct evbuffer *out, const char *text)
{
	for (const char *p = text; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;
		/* U+0080 to U+009F, control characters as well, are c2 80 to c2 9f. */
		bool c1 = c == 0xc2 && (unsigned char)p[1] >> 5 == 4;

		if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'')
			evbuffer_add_printf(out, "&#%d;", c);
		else if (c == '\n')
			evbuffer_add(out, " ", 1);
		else if (c < 0x20 || c == 0x7f || c1) {
			evbuffer_add(out, "\xef\xbf\xbd", 3);
			p += c1;
		} else
			evbuffer_add(out, p, 1);
	}
}

static void
add_fact(struct evbuffer *out, const char *name, int digits, double v)
{
	evbuffer_add_printf(out, "<div><dt>%s</dt><dd>%.*f</dd></div>\n", name, digits, v);
}

static double
get(const json_t *status, const char *member, const char *inner)
{
	const json_t *v = json_object_get(status, member);

	return json_number_value(inner == NULL ? v : json_object_get(v, inner));
}

static void
add_facts(struct evbuffer *out, const json_t *status)
{
	evbuffer_add_printf(out, "<dl>\n");
	add_fact(out, "events", 0, get(status, "events", NULL));
	add_fact(out, "events/s", 1, get(status, "events_per_second", NULL));
	add_fact(out, "tokens/s", 0, get(status, "tokens_per_second", NULL));
	add_fact(out, "lag, events", 0, get(status, "lag", "events"));
	add_fact(out, "lag, seconds", 1, get(status, "lag", "seconds"));
	add_fact(out, "errors", 0, get(status, "errors", NULL));
	add_fact(out, "left out", 0, get(status, "skipped", NULL));
	add_fact(out, "median surprise", 1, get(status, "surprise", "0.5"));
	if (json_is_number(json_object_get(json_object_get(status, "checkpoint"), "age")))
		add_fact(out, "checkpoint, seconds ago", 0, get(status, "checkpoint", "age"));
	evbuffer_add_printf(out, "</dl>\n");
}

static void
add_time(struct evbuffer *out, time_t t)
{
	struct tm tm;
	char text[32];

	if (localtime_r(&t, &tm) != NULL && strftime(text, sizeof text, "%F %T", &tm) > 0)
		evbuffer_add_printf(out, "%s", text);
}

/* ---- digests -------------------------------------------------------- */

/* The member that annotations have, whatever its name: a digest's line has only that. */
static const json_t *
get_digest(const json_t *line)
{
	return json_object_iter_value(json_object_iter((json_t *)line));
}

static void
add_digest(struct evbuffer *out, const struct stats_digest *d)
{
	json_t *line = json_loads(d->line, 0, NULL);
	const json_t *digest = get_digest(line), *lines = json_object_get(digest, "lines"), *one;
	const char *text = json_string_value(json_object_get(digest, "text"));
	size_t i;

	evbuffer_add_printf(out, "<div class=\"d\"><div>");
	add_time(out, d->time);
	if (line != NULL)
		evbuffer_add_printf(out, ", events %lld to %lld",
		    (long long)json_integer_value(json_object_get(digest, "from")),
		    (long long)json_integer_value(json_object_get(digest, "to")));
	evbuffer_add_printf(out, "</div>\n");
	json_array_foreach (lines, i, one) {
		const char *quoted = json_string_value(json_object_get(one, "text"));

		evbuffer_add_printf(out, "<div class=\"t\">%lld&times; ",
		    (long long)json_integer_value(json_object_get(one, "count")));
		add_text(out, quoted == NULL ? "" : quoted);
		evbuffer_add_printf(out, "</div>\n");
	}
	if (text != NULL || line == NULL) {
		evbuffer_add_printf(out, "<div>");
		add_text(out, line == NULL ? d->line : text);
		evbuffer_add_printf(out, "</div>\n");
	}
	evbuffer_add_printf(out, "</div>\n");
	json_decref(line);
}

static void
add_digests(struct evbuffer *out, const struct stats *s)
{
	int64_t n = s->digests < STATS_DIGESTS ? s->digests : STATS_DIGESTS;

	evbuffer_add_printf(out, "<h2>Latest digests</h2>\n");
	if (n == 0)
		evbuffer_add_printf(out, "<p>None yet.</p>\n");
	for (int64_t i = 1; i <= n; i++)
		add_digest(out, &s->last[(s->digests - i) % STATS_DIGESTS]);
}

/* ---- events --------------------------------------------------------- */

static void
add_events(struct evbuffer *out, const struct stats *s)
{
	const struct stats_event *top[TOP];
	int n = stats_get_top(s, top, TOP);

	evbuffer_add_printf(out, "<h2>Most surprising of the last %d events</h2>\n<table><tr><th class=\"n\">surprise"
	    "</th><th class=\"n\">event</th><th>time</th><th>text</th></tr>\n", STATS_RECENT);
	for (int i = 0; i < n; i++) {
		evbuffer_add_printf(out, "<tr><td class=\"n\">%.2f</td><td class=\"n\">%" PRId64 "</td><td>",
		    top[i]->surprise, top[i]->seq);
		add_time(out, top[i]->time);
		evbuffer_add_printf(out, "</td><td class=\"t\">");
		add_text(out, top[i]->text);
		evbuffer_add_printf(out, "</td></tr>\n");
	}
	evbuffer_add_printf(out, "</table>\n");
}

void
page_write(struct evbuffer *out, const json_t *status, const struct stats *stats)
{
	const char *name = json_string_value(json_object_get(json_object_get(status, "model"), "name"));

	evbuffer_add(out, head, sizeof head - 1);
	evbuffer_add_printf(out, "<h1>sinkd &middot; ");
	add_text(out, name == NULL ? "" : name);
	evbuffer_add_printf(out, "</h1>\n");
	add_facts(out, status);
	add_digests(out, stats);
	add_events(out, stats);
	evbuffer_add_printf(out, "</body></html>\n");
}
