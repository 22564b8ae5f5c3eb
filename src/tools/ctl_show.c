/* What sinkctl shows to people; see ctl.h. */
#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "stream/form.h"
#include "tools/ctl.h"

static const char *
get_string(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s == NULL ? "" : s;
}

static json_int_t
get_int(const json_t *o, const char *name)
{
	return json_integer_value(json_object_get(o, name));
}

void
ctl_print_text(const char *text, size_t len, bool lines)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		/* C1 control characters are 0xc2 0x80 to 0xc2 0x9f in UTF-8. */
		if (c == 0xc2 && i + 1 < len && (unsigned char)text[i + 1] < 0xa0) {
			fputs("\xef\xbf\xbd", stdout);
			i++;
		} else if ((c < 0x20 && !(lines && (c == '\n' || c == '\t'))) || c == 0x7f)
			fputs(c == '\n' || c == '\t' ? " " : "\xef\xbf\xbd", stdout);
		else
			putchar(c);
	}
}

void
ctl_print_count(int64_t n)
{
	char digits[24];
	int len = snprintf(digits, sizeof digits, "%" PRIu64, n < 0 ? -(uint64_t)n : (uint64_t)n);

	if (n < 0)
		putchar('-');
	for (int i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0)
			putchar(',');
		putchar(digits[i]);
	}
}

static void
print_string(const char *s)
{
	ctl_print_text(s, strlen(s), false);
}

/* ---- the stream's lines --------------------------------------------- */

/* An event's text and source as the daemon would read them. */
static void
print_event_text(const json_t *line)
{
	const struct form *form = form_detect(line);
	struct buf text = {0}, source = {0};
	char reason[256], why[256] = "no text";

	form_add_text(&text, line, form->text, why, sizeof why);
	form_add_text(&source, line, form->source, reason, sizeof reason);
	if (source.len > 0) {
		ctl_print_text(source.data, source.len, false);
		fputs(": ", stdout);
	}
	while (text.len > 0 && text.data[text.len - 1] == '\n')
		text.len--;
	if (text.len > 0)
		ctl_print_text(text.data, text.len, false);
	else
		printf("(%s)", why);
	buf_fini(&text);
	buf_fini(&source);
}

static void
show_surprise(const json_t *own, const char *color)
{
	const json_t *v = json_object_get(own, "surprise");

	if (json_is_number(v))
		printf("%s%6.2f%s", color, json_number_value(v), *color == '\0' ? "" : "\033[0m");
	else
		printf("%6s", "-");
}

/* Red: among the most surprising of the last 1,024 events, one in a hundred; yellow: one in ten. */
static void
show_event(const json_t *line, const json_t *own, double rank, bool color)
{
	printf("%8" JSON_INTEGER_FORMAT " ", get_int(own, "seq"));
	show_surprise(own, !color ? "" : rank <= 0.01 ? "\033[31m" : rank <= 0.1 ? "\033[33m" : "");
	fputs("  ", stdout);
	print_event_text(line);
	putchar('\n');
}

static void
show_alert(const json_t *own)
{
	if (strcmp(get_string(own, "why"), "silent") == 0) {
		fputs("silent: ", stdout);
		print_string(*get_string(own, "source") == '\0' ? "everything" : get_string(own, "source"));
		printf(", for %" JSON_INTEGER_FORMAT " s\n", get_int(own, "seconds"));
		return;
	}
	printf("%8" JSON_INTEGER_FORMAT " ", get_int(own, "seq"));
	show_surprise(own, "");
	fputs("  ", stdout);
	print_string(get_string(own, "text"));
	putchar('\n');
}

static void
show_digest(const json_t *own, bool color)
{
	const json_t *line;
	size_t i;

	if (json_object_get(own, "to") == NULL) {
		puts("no events");
		return;
	}
	fputs(color ? "\033[1mevents " : "events ", stdout);
	ctl_print_count(get_int(own, "from"));
	fputs(" to ", stdout);
	ctl_print_count(get_int(own, "to"));
	fputs(color ? "\033[0m" : "", stdout);
	if (get_int(own, "forgotten") > 0) {
		fputs("; the daemon no longer remembers ", stdout);
		ctl_print_count(get_int(own, "forgotten"));
		fputs(" before them", stdout);
	}
	putchar('\n');
	json_array_foreach (json_object_get(own, "lines"), i, line) {
		printf("%8" JSON_INTEGER_FORMAT " %5" JSON_INTEGER_FORMAT "x ", get_int(line, "seq"),
		    get_int(line, "count"));
		print_string(get_string(line, "text"));
		putchar('\n');
	}
	if (json_object_get(own, "text") != NULL) {
		ctl_print_text(get_string(own, "text"), strlen(get_string(own, "text")), true);
		putchar('\n');
	}
}

static void
show_skipped(const json_t *own)
{
	printf("%" JSON_INTEGER_FORMAT " left out: ", get_int(own, "count"));
	print_string(get_string(own, "reason"));
	putchar('\n');
}

static void
show_error(const json_t *own)
{
	printf("%8" JSON_INTEGER_FORMAT "  error  ", get_int(own, "seq"));
	print_string(get_string(own, "reason"));
	putchar('\n');
}

void
ctl_show(const json_t *line, const json_t *own, double rank, bool color)
{
	const char *type = get_string(own, "type");

	if (strcmp(type, "event") == 0)
		show_event(line, own, rank, color);
	else if (strcmp(type, "alert") == 0)
		show_alert(own);
	else if (strcmp(type, "digest") == 0)
		show_digest(own, color);
	else if (strcmp(type, "skipped") == 0)
		show_skipped(own);
	else if (strcmp(type, "error") == 0)
		show_error(own);
	else if (strcmp(type, "status") == 0)
		ctl_show_status(own);
	else if (strcmp(type, "checkpoint") == 0)
		printf("%" JSON_INTEGER_FORMAT " bytes in %.3f s\n", get_int(own, "bytes"),
		    json_number_value(json_object_get(own, "seconds")));
}
