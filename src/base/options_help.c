/*
 * What a table of options prints: --help for a terminal, the OPTIONS section of
 * the manual page in mdoc(7), and an example of a configuration file; see
 * options.h.
 */
#include "base/options.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

enum { TEXT_COLUMN = 26, COLUMNS = 79 };

/* The rows that every program has; see parse_arguments in options.c. */
static const struct option_row common_rows[] = {
	{.name = "help", .letter = 'h', .type = OPTION_FLAG, .help = "Print this help and exit."},
	{.name = "version", .letter = 'V', .type = OPTION_FLAG, .help = "Print the program's version and exit."},
	{.name = NULL},
};
/* That of the programs that have a configuration file. */
static const struct option_row example_row = {
	.name = "example-config", .type = OPTION_FLAG,
	.help = "Print a configuration file with all options, commented out, and exit.",
};

/* Length of the first sentence of text, its full stop included. */
static size_t
sentence_length(const char *text)
{
	const char *end = strstr(text, ". ");

	return end != NULL ? (size_t)(end - text) + 1 : strlen(text);
}

/* "(default 4, from 0 to 65536)" and the like, or nothing, as a sentence of its own. */
static void
format_limits(const struct option_row *r, const char *open, const char *close, char *buf, size_t size)
{
	char range[96] = "", fallback[160] = "";
	bool number = r->type == OPTION_INT || r->type == OPTION_SIZE || r->type == OPTION_DURATION;

	if (number && r->max != INT64_MAX)
		snprintf(range, sizeof range, "from %" PRId64 " to %" PRId64, r->min, r->max);
	else if (number)
		snprintf(range, sizeof range, "at least %" PRId64, r->min);
	if (r->fallback != NULL)
		snprintf(fallback, sizeof fallback, "default %s", r->fallback);
	buf[0] = '\0';
	if (range[0] != '\0' && fallback[0] != '\0')
		snprintf(buf, size, "%s%s, %s%s", open, range, fallback, close);
	else if (range[0] != '\0' || fallback[0] != '\0')
		snprintf(buf, size, "%s%s%s%s", open, range, fallback, close);
}

/* The word that stands for the argument: its name, or the choices. */
static void
format_argument(const struct option_row *r, char *buf, size_t size)
{
	buf[0] = '\0';
	if (r->type != OPTION_CHOICE) {
		snprintf(buf, size, "%s", r->argument == NULL ? "" : r->argument);
		return;
	}
	for (int i = 0; r->choices[i] != NULL; i++) {
		size_t used = strlen(buf);

		snprintf(buf + used, size - used, "%s%s", i == 0 ? "" : "|", r->choices[i]);
	}
}

/*
 * Print the first len bytes of text as words; a new line begins with lead and
 * stands in the column start then. *column is where the line stands.
 */
static void
wrap(const char *text, size_t len, const char *lead, int start, int *column, FILE *out)
{
	for (size_t i = 0; i < len;) {
		size_t word = strcspn(text + i, " ");

		if (word > len - i)
			word = len - i;
		if (*column + 1 + (int)word > COLUMNS) {
			fprintf(out, "\n%-*s", start, lead);
			*column = start;
		} else if (*column > start) {
			fputc(' ', out);
			++*column;
		}
		fprintf(out, "%.*s", (int)word, text + i);
		*column += (int)word;
		i += word;
		i += strspn(text + i, " ");
	}
}

/* The same in the right column of --help. */
static void
print_wrapped(const char *text, size_t len, int *column, FILE *out)
{
	wrap(text, len, "", TEXT_COLUMN, column, out);
}

static void
print_help_row(const struct option_row *r, FILE *out)
{
	char argument[160], limits[288];
	int column;

	format_argument(r, argument, sizeof argument);
	format_limits(r, "(", ")", limits, sizeof limits);
	column = r->letter != 0 ? fprintf(out, "  -%c, ", r->letter) : fprintf(out, "      ");
	column += fprintf(out, "--%s%s%s", r->name, argument[0] == '\0' ? "" : "=", argument);
	if (column > TEXT_COLUMN - 2) {
		fputc('\n', out);
		column = 0;
	}
	column += fprintf(out, "%*s", TEXT_COLUMN - column, "");
	print_wrapped(r->help, sentence_length(r->help), &column, out);
	print_wrapped(limits, strlen(limits), &column, out);
	fputc('\n', out);
}

void
options_print_help(const struct options *o, FILE *out)
{
	fprintf(out, "Usage: %s [option ...]%s%s\n%s\n\n", o->program, o->operands == NULL ? "" : " ",
	    o->operands == NULL ? "" : o->operands, o->about);
	for (const struct option_row *r = o->rows; r->name != NULL; r++)
		print_help_row(r, out);
	if (options_get_config(o) != NULL)
		print_help_row(&example_row, out);
	for (const struct option_row *r = common_rows; r->name != NULL; r++)
		print_help_row(r, out);
}

/* ---- the manual page ------------------------------------------------ */

/* mandoc -Tlint wants lines of text within 80 columns. */
enum { MANUAL_COLUMNS = 78 };

static void
end_manual_line(int *column, FILE *out)
{
	if (*column > 0)
		fputc('\n', out);
	*column = 0;
}

/* An option's name or "page(1)": a macro on a line of its own, with what follows it. False: any other word. */
static bool
print_manual_reference(const char *word, size_t len, int *column, FILE *out)
{
	size_t name = len, open = strcspn(word, "(");

	while (name > 0 && strchr(".,;:", word[name - 1]) != NULL)
		name--;
	if (name > 2 && strncmp(word, "--", 2) == 0) {
		name -= word[name - 1] == ')';
		end_manual_line(column, out);
		fprintf(out, ".Fl Fl %.*s%s%.*s\n", (int)name - 2, word + 2, name < len ? " " : "", (int)(len - name),
		    word + name);
		return true;
	}
	if (open > 0 && open + 3 == name && isdigit((unsigned char)word[open + 1]) && word[open + 2] == ')') {
		end_manual_line(column, out);
		fprintf(out, ".Xr %.*s %c%s%.*s\n", (int)open, word, word[open + 1], name < len ? " " : "",
		    (int)(len - name), word + name);
		return true;
	}
	return false;
}

/* One word of running text. *column is where the line stands. */
static void
print_manual_word(const char *word, size_t len, int *column, FILE *out)
{
	if (print_manual_reference(word, len, column, out))
		return;
	if (*column + 1 + (int)len > MANUAL_COLUMNS)
		end_manual_line(column, out);
	if (*column > 0)
		*column += fprintf(out, " ");
	else if (*word == '.' || *word == '\'')
		*column += fprintf(out, "\\&");
	for (size_t i = 0; i < len; i++)
		*column += fprintf(out, "%s", word[i] == '\\' ? "\\e" : (char[]){ word[i], '\0' });
}

/* Running text; every sentence begins on a line of its own. */
static void
print_manual_text(const char *text, FILE *out)
{
	int column = 0;

	while (*text != '\0') {
		size_t len = strcspn(text, " ");

		print_manual_word(text, len, &column, out);
		if (text[len - 1] == '.')
			end_manual_line(&column, out);
		text += len + strspn(text + len, " ");
	}
	end_manual_line(&column, out);
}

static void
print_manual_row(const struct option_row *r, FILE *out)
{
	char limits[288];

	fputs(".It", out);
	if (r->letter != 0)
		fprintf(out, " Fl %c ,", r->letter);
	fprintf(out, " Fl Fl %s", r->name);
	if (r->type == OPTION_CHOICE) {
		fputs(" Ns =", out);
		for (int i = 0; r->choices[i] != NULL; i++)
			fprintf(out, " Ns %s%s", i == 0 ? "" : "| Ns ", r->choices[i]);
	} else if (r->argument != NULL)
		fprintf(out, " Ns = Ns Ar %s", r->argument);
	fputc('\n', out);
	print_manual_text(r->help, out);
	format_limits(r, "", "", limits, sizeof limits);
	if (limits[0] != '\0') {
		fputc(limits[0] - 'a' + 'A', out);
		fprintf(out, "%s.\n", limits + 1);
	}
	if (r->flags & OPTION_REQUIRED)
		fputs("This option is required.\n", out);
}

void
options_print_manual(const struct options *o, FILE *out)
{
	fputs(".Bl -tag -width Ds\n", out);
	for (const struct option_row *r = o->rows; r->name != NULL; r++)
		print_manual_row(r, out);
	if (options_get_config(o) != NULL)
		print_manual_row(&example_row, out);
	for (const struct option_row *r = common_rows; r->name != NULL; r++)
		print_manual_row(r, out);
	fputs(".El\n", out);
}

/* ---- a configuration file ------------------------------------------- */

static void
print_example_row(const struct option_row *r, FILE *out)
{
	struct option_row bare = *r;
	char argument[160], limits[288];
	int column;

	bare.fallback = NULL; /* it is shown as the value */
	format_argument(r, argument, sizeof argument);
	format_limits(&bare, "(", ")", limits, sizeof limits);
	column = fprintf(out, "\n# ") - 1;
	wrap(r->help, strlen(r->help), "# ", 2, &column, out);
	wrap(limits, strlen(limits), "# ", 2, &column, out);
	if (r->type == OPTION_CHOICE)
		fprintf(out, "\n# One of %s.", argument);
	if (r->type == OPTION_FLAG)
		fprintf(out, "\n#%s = no\n", r->name);
	else if (r->fallback != NULL)
		fprintf(out, "\n#%s = %s\n", r->name, r->fallback);
	else
		fprintf(out, "\n#%s = <%s>\n", r->name, argument);
}

void
options_print_example(const struct options *o, FILE *out)
{
	fprintf(out, "# Options of %s(1), one a line. Remove the # before those that you set; what is shown is the\n"
	    "# default, or <what goes there>. There are no quotes: the value is the rest of the line.\n", o->program);
	for (const struct option_row *r = o->rows; r->name != NULL; r++)
		if (!(r->flags & OPTION_CONFIG))
			print_example_row(r, out);
}

int
options_print_wish(const struct options *o, int wish, const char *version, FILE *out, struct err *e)
{
	if (wish == OPTIONS_HELP)
		options_print_help(o, out);
	else if (wish == OPTIONS_MANUAL)
		options_print_manual(o, out);
	else if (wish == OPTIONS_EXAMPLE)
		options_print_example(o, out);
	else
		fprintf(out, "%.*s %s\n", (int)strcspn(o->program, " "), o->program, version);
	if (fflush(out) != 0 || ferror(out))
		return err_set(e, EX_IOERR, "cannot write to standard output: %s", strerror(errno));
	return 0;
}
