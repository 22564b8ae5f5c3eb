/* sinkctl: asks a running sinkd, over its control socket. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/commands.h"
#include "base/log.h"
#include "stream/digest.h"
#include "tools/ctl.h"

#define AT(member) offsetof(struct ctl_settings, member)

static const char *const color_names[] = {"auto", "always", "never", NULL};

/* ---- options -------------------------------------------------------- */

#define COMMON_ROWS \
	{ \
		.name = "instance", .letter = 'i', .type = OPTION_STRING, .argument = "name", .offset = AT(instance), \
		.help = "Talk to the service sinkd@name. If neither this option nor --socket is given, sinkctl " \
		    "looks for a service and takes it if there is only one.", \
	}, { \
		.name = "socket", .letter = 's', .type = OPTION_STRING, .argument = "path", .offset = AT(socket), \
		.help = "Talk to the daemon that listens on this control socket.", \
	}, { \
		.name = "json", .letter = 'j', .type = OPTION_FLAG, .offset = AT(json), \
		.help = "Print the daemon's lines as they are, for programs.", \
	}, { \
		.name = "key", .letter = 'k', .type = OPTION_STRING, .argument = "name", .offset = AT(key), \
		.fallback = "sinkd", \
		.help = "The name that the daemon was given by its own option --key.", \
	}, { \
		.name = "color", .type = OPTION_CHOICE, .offset = AT(color), .fallback = "auto", \
		.choices = color_names, \
		.help = "Use colours. auto: only on a terminal.", \
	}, \
	{.name = NULL}

#define REPLY_ROWS \
	{ \
		.name = "max-tokens", .letter = 'n', .type = OPTION_INT, .argument = "tokens", \
		.offset = AT(max_tokens), \
		.fallback = "0", .max = 1 << 20, \
		.help = "Stop the model after this many tokens. 0: the daemon decides.", \
	}, { \
		.name = "time-limit", .letter = 't', .type = OPTION_STRING, .argument = "time", \
		.offset = AT(time_limit), \
		.help = "Stop the model after this time. It is in seconds; s, m, h or d may follow.", \
	}, { \
		.name = "temperature", .letter = 'T', .type = OPTION_STRING, .argument = "number", \
		.offset = AT(temperature), \
		.help = "Choose each token at random, the more freely the higher this number is. Without this " \
		    "option the model takes the likeliest token each time.", \
	}, { \
		.name = "top-p", .type = OPTION_STRING, .argument = "share", .offset = AT(top_p), \
		.help = "Choose only among the likeliest tokens that together have this share of the probability.", \
	}, { \
		.name = "min-p", .type = OPTION_STRING, .argument = "share", .offset = AT(min_p), \
		.help = "Choose only among tokens that are at least this share as likely as the likeliest one.", \
	}, { \
		.name = "seed", .type = OPTION_INT, .argument = "number", .offset = AT(seed), .fallback = "0", \
		.max = INT64_MAX, \
		.help = "Start the random choices from this number. The same seed makes the same choices.", \
	}, { \
		.name = "schema", .type = OPTION_STRING, .argument = "file", .offset = AT(schema), \
		.help = "Let the model write JSON that fits the JSON Schema in this file, see sinkd-protocol(7).", \
	}, { \
		.name = "faithful", .letter = 'f', .type = OPTION_FLAG, .offset = AT(faithful), \
		.help = "Allow only names and numbers that stand in what the model sees.", \
	}

static const struct option_row ask_rows[] = {
	REPLY_ROWS,
	{
		.name = "join", .type = OPTION_FLAG, .offset = AT(join),
		.help = "Add question and answer to the stream, as in a chat.",
	},
	COMMON_ROWS,
};

static const struct option_row digest_rows[] = {
	{
		.name = "since", .type = OPTION_STRING, .argument = "when", .offset = AT(since),
		.help = "Sum up the events since then. That is an event's number, a time such as 14:30, noon, "
		    "midnight, today, yesterday or 2026-01-31 14:30, or how long ago such as 15m, 2h or 1d. What "
		    "counts is the time at which sinkd read the event, not the time in the event. Without this option "
		    "the digest covers all events that the daemon remembers.",
	},
	{
		.name = "style", .type = OPTION_CHOICE, .offset = AT(style), .fallback = "auto",
		.choices = digest_style_names,
		.help = "How to sum up. extract: quote the events that the model chooses; write: let the model write a "
		    "text; auto: extract for models of less than a billion parameters.",
	},
	{
		.name = "lines", .type = OPTION_INT, .argument = "number", .offset = AT(lines), .fallback = "5",
		.min = 1,
		.max = EXTRACT_LINES,
		.help = "Quote at most this many events.",
	},
	REPLY_ROWS,
	COMMON_ROWS,
};

#define COUNT_ROW \
	{ \
		.name = "count", .letter = 'n', .type = OPTION_INT, .argument = "lines", .offset = AT(count), \
		.fallback = "0", .max = INT64_MAX, \
		.help = "End after this many lines. 0: never.", \
	}

#define SURPRISE_ROWS(what) \
	{ \
		.name = "min-surprise", .letter = 'm', .type = OPTION_STRING, .argument = "nats", \
		.offset = AT(min_surprise), .help = what, \
	}, { \
		.name = "surprise", .type = OPTION_STRING, .argument = "nats", .offset = AT(min_surprise), \
		.help = "Another name for --min-surprise.", \
	}

static const struct option_row tail_rows[] = {
	{
		.name = "top", .type = OPTION_STRING, .argument = "percent", .offset = AT(top),
		.help = "Show the most surprising events only: those that are among this part of the last 1,024 "
		    "events, such as 1%. There are no earlier events at first: until some hundred have come, sinkctl "
		    "shows each event that is the most surprising so far. Events that --priority selects are shown as "
		    "well.",
	},
	{
		.name = "priority", .type = OPTION_STRING, .argument = "level", .offset = AT(priority),
		.fallback = "err",
		.help = "With --top, also show entries of the journal that are as severe as this level, or more: "
		    "emerg, alert, crit, err, warning, notice, info or debug. none: show no more than --top says.",
	},
	SURPRISE_ROWS("Show only events with at least this surprise. What is high depends on the model and on the "
	    "stream: --top needs no number."),
	COUNT_ROW,
	COMMON_ROWS,
};

static const struct option_row watch_rows[] = {
	SURPRISE_ROWS("Report events with at least this surprise."),
	{
		.name = "source", .type = OPTION_STRING, .argument = "name", .offset = AT(source),
		.help = "Report events of this source only.",
	},
	{
		.name = "text", .type = OPTION_STRING, .argument = "text", .offset = AT(text),
		.help = "Report events that contain this text only.",
	},
	{
		.name = "silent", .type = OPTION_STRING, .argument = "time", .offset = AT(silent),
		.help = "Report when no such event has arrived for this time, instead of the events themselves. It is "
		    "in seconds; s, m, h or d may follow.",
	},
	COUNT_ROW,
	COMMON_ROWS,
};

static const struct option_row status_rows[] = {
	{
		.name = "hash", .type = OPTION_FLAG, .offset = AT(hash),
		.help = "Also show a checksum of the stream's state, which questions do not change.",
	},
	COMMON_ROWS,
};

static const struct option_row checkpoint_rows[] = {COMMON_ROWS};

/* ---- requests ------------------------------------------------------- */

static int
read_option_number(const char *option, const char *text, double *v, struct err *e)
{
	char *end;

	*v = strtod(text, &end);
	if (end == text || *end != '\0' || !isfinite(*v))
		return err_set(e, EX_USAGE, "--%s must be a number, not '%s'", option, text);
	return 0;
}

/* A number that was given as text, or nothing. */
static int
add_option_number(json_t *o, const char *name, const char *option, const char *text, struct err *e)
{
	double v;

	if (text == NULL)
		return 0;
	if (read_option_number(option, text, &v, e) < 0)
		return -1;
	json_object_set_new(o, name, json_real(v));
	return 0;
}

static int
add_duration(json_t *o, const char *name, const char *option, const char *text, struct err *e)
{
	double seconds;

	if (text == NULL)
		return 0;
	if (ctl_read_duration(option, text, &seconds, e) < 0)
		return -1;
	json_object_set_new(o, name, json_real(seconds));
	return 0;
}

/* Text that was given, or nothing. */
static int
add_string(json_t *o, const char *name, const char *what, const char *text, struct err *e)
{
	if (text != NULL && json_object_set_new(o, name, json_string(text)) < 0)
		return err_set(e, EX_USAGE, "%s is not valid UTF-8", what);
	return 0;
}

static int
add_schema(json_t *o, const char *path, struct err *e)
{
	json_error_t je;
	json_t *schema;

	if (path == NULL)
		return 0;
	if (access(path, R_OK) < 0)
		return err_set(e, EX_NOINPUT, "cannot read the schema %s: %s", path, strerror(errno));
	if ((schema = json_load_file(path, 0, &je)) == NULL)
		return err_set(e, EX_DATAERR, "the schema %s is not JSON, line %d: %s", path, je.line, je.text);
	json_object_set_new(o, "schema", schema);
	return 0;
}

static int
add_reply(json_t *o, const struct ctl_settings *s, struct err *e)
{
	if (add_duration(o, "time_limit", "time-limit", s->time_limit, e) < 0 ||
	    add_option_number(o, "temperature", "temperature", s->temperature, e) < 0 ||
	    add_option_number(o, "top_p", "top-p", s->top_p, e) < 0 ||
	    add_option_number(o, "min_p", "min-p", s->min_p, e) < 0 ||
	    add_schema(o, s->schema, e) < 0)
		return -1;
	if (s->max_tokens > 0)
		json_object_set_new(o, "max_tokens", json_integer(s->max_tokens));
	if (s->faithful)
		json_object_set_new(o, "faithful", json_true());
	json_object_set_new(o, "seed", json_integer(s->seed));
	return 0;
}

static int
make_ask(json_t *o, const struct ctl_settings *s, const char *words, struct err *e)
{
	if (add_string(o, "text", "the question", words, e) < 0)
		return -1;
	if (s->join)
		json_object_set_new(o, "join", json_true());
	json_object_set_new(o, "stream", json_true());
	return add_reply(o, s, e);
}

static int
make_digest(json_t *o, const struct ctl_settings *s, const char *words, struct err *e)
{
	(void)words;
	if (s->since != NULL && ctl_add_since(o, s->since, e) < 0)
		return -1;
	json_object_set_new(o, "style", json_string(digest_style_names[s->style]));
	json_object_set_new(o, "lines", json_integer(s->lines));
	return add_reply(o, s, e);
}

static int
make_tail(json_t *o, const struct ctl_settings *s, const char *words, struct err *e)
{
	(void)words;
	/* A rank is one among all events. */
	return s->top != NULL ? 0 : add_option_number(o, "min_surprise", "min-surprise", s->min_surprise, e);
}

static int
make_watch(json_t *o, const struct ctl_settings *s, const char *words, struct err *e)
{
	(void)words;
	if (add_string(o, "source", "--source", s->source, e) < 0 ||
	    add_string(o, "text", "--text", s->text, e) < 0 ||
	    add_option_number(o, "surprise", "min-surprise", s->min_surprise, e) < 0)
		return -1;
	return add_duration(o, "silent", "silent", s->silent, e);
}

static int
make_status(json_t *o, const struct ctl_settings *s, const char *words, struct err *e)
{
	(void)words;
	(void)e;
	if (s->hash)
		json_object_set_new(o, "hash", json_true());
	return 0;
}

static int
make_nothing(json_t *o, const struct ctl_settings *s, const char *words, struct err *e)
{
	(void)o;
	(void)s;
	(void)words;
	(void)e;
	return 0;
}

static const struct command {
	const char *op;   /* of the request */
	const char *last; /* type of the line that ends the answer, or NULL: there is none */
	int (*make)(json_t *o, const struct ctl_settings *s, const char *words, struct err *e);
	struct options options;
} commands[] = {
	{"ask", "reply", make_ask, {"sinkctl ask", "question ...", "Ask the model about what it has read.", ask_rows}},
	{"checkpoint", "checkpoint", make_nothing,
	    {"sinkctl checkpoint", NULL, "Save the state, and wait until it is on disk.", checkpoint_rows}},
	{"digest", "digest", make_digest, {"sinkctl digest", NULL, "Sum up what has happened.", digest_rows}},
	{"status", "status", make_status, {"sinkctl status", NULL, "Show counts, rates, lag and the model.",
	    status_rows}},
	{"subscribe", NULL, make_tail, {"sinkctl tail", "[file]",
	    "Show events as they are annotated, or those of a file.", tail_rows}},
	{"watch", NULL, make_watch, {"sinkctl watch", NULL, "Report events that match, or that none arrives.",
	    watch_rows}},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

/* Will the model write text? */
static bool
writes_text(const struct command *c, const struct ctl_settings *s)
{
	return c->make == make_ask || (c->make == make_digest && (s->style == DIGEST_WRITE || s->schema != NULL));
}

static int
send_request(FILE *f, const json_t *o, struct err *e)
{
	char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(17));
	size_t len = text == NULL ? 0 : strlen(text);

	if (text == NULL)
		return err_set(e, EX_OSERR, "out of memory");
	text[len++] = '\n';
	for (size_t i = 0; i < len;) {
		ssize_t n = send(fileno(f), text + i, len - i, MSG_NOSIGNAL);

		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			break; /* the daemon has closed the connection, but has said why: that is read next */
		if (n < 0 && errno != EINTR) {
			free(text);
			return err_set(e, EX_UNAVAILABLE, "cannot send to the daemon: %s", strerror(errno));
		}
		i += n > 0 ? (size_t)n : 0;
	}
	free(text);
	return 0;
}

/* ---- answers -------------------------------------------------------- */

struct shown {
	const struct ctl_settings *settings;
	const struct command *command;
	bool color;
	bool file; /* lines are read from one, not from a daemon */
	struct ctl_tail tail;
	bool pieces; /* of an answer are on the screen */
	json_int_t parameters; /* of the model, where it writes an answer or a digest; 0: not known */
	int64_t lines;
};

/* The daemon refused: an error line with the request's id. Errors of the stream have a number instead. */
static int
check_refusal(const json_t *own, struct err *e)
{
	const char *type = json_string_value(json_object_get(own, "type"));
	const char *fault = json_string_value(json_object_get(own, "fault"));
	const char *reason = json_string_value(json_object_get(own, "reason"));

	if (type == NULL || strcmp(type, "error") != 0 || json_object_get(own, "seq") != NULL)
		return 0;
	return err_set(e, fault != NULL && strcmp(fault, "request") == 0 ? EX_DATAERR : EX_TEMPFAIL, "%s",
	    reason == NULL ? "the daemon refuses" : reason);
}

/* An answer that the model did not end itself looks whole, or broken. */
static void
tell_cut(const json_t *own)
{
	const char *end = json_string_value(json_object_get(own, "end"));

	if (end != NULL && strcmp(end, "length") == 0)
		log_message(LOG_NOTICE, "the text was cut off: it may have no more tokens");
	else if (end != NULL && strcmp(end, "time") == 0)
		log_message(LOG_NOTICE, "the text was cut off: its time was over");
}

/* What the answer can be about: on standard error, so that the answer alone goes into a pipe. */
static void
tell_view(const json_t *own)
{
	const json_t *view = json_object_get(own, "view");
	char from[64], to[64];

	if (view == NULL)
		return;
	ctl_format_times(json_number_value(json_object_get(view, "from_time")),
	    json_number_value(json_object_get(view, "to_time")), from, to, sizeof from);
	log_message(LOG_NOTICE, "the model saw events %lld to %lld, %s to %s",
	    (long long)json_integer_value(json_object_get(view, "from")),
	    (long long)json_integer_value(json_object_get(view, "to")), from, to);
}

static void
show_answer(struct shown *s, const json_t *own, const char *type)
{
	const json_t *text = json_object_get(own, "text");

	if (strcmp(type, "delta") == 0) {
		ctl_print_text(json_string_value(text), json_string_length(text), true);
		s->pieces = true;
		return;
	}
	if (!s->pieces)
		ctl_print_text(json_string_value(text), json_string_length(text), true);
	putchar('\n');
}

/* The status that comes before an answer says how large the model is. */
static bool
is_status_before(const struct shown *s, const char *type)
{
	return strcmp(type, "status") == 0 && writes_text(s->command, s->settings);
}

/* Who reads what a small model wrote is told what it is worth. */
static void
tell_small(const struct shown *s)
{
	struct model_info m = {.n_params = s->parameters};
	char text[512];

	if (s->parameters == 0 || !digest_is_small(&m))
		return;
	digest_describe_small(&m, text, sizeof text);
	log_message(LOG_NOTICE, "%s", text);
}

/* Returns 1 when the last line was shown, 0, or -1 with *e set. */
static int
show_line(struct shown *s, const char *text, size_t len, struct err *e)
{
	json_t *line = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
	const json_t *own = json_object_get(line, s->settings->key);
	const char *type = json_string_value(json_object_get(own, "type"));
	const char *last = s->command->last;
	int rc = 0;

	if (own == NULL || type == NULL) {
		json_decref(line);
		return err_set(e, EX_DATAERR, "a line has no member %s, which sinkd adds; see --key", s->settings->key);
	}
	if ((rc = check_refusal(own, e)) < 0 && s->settings->json)
		fwrite(text, 1, len, stdout);
	else if (rc == 0 && is_status_before(s, type))
		s->parameters = json_integer_value(json_object_get(json_object_get(own, "model"), "parameters"));
	else if (rc == 0 && strcmp(type, "ok") != 0 && ctl_tail_wants(&s->tail, line, own)) {
		if (s->settings->json)
			fwrite(text, 1, len, stdout);
		else if (strcmp(type, "delta") == 0 || strcmp(type, "reply") == 0)
			show_answer(s, own, type);
		else
			ctl_show(line, own, s->tail.rank, s->color);
		fflush(stdout);
		if (!s->settings->json) {
			tell_cut(own);
			tell_view(own);
		}
		if (!s->settings->json && last != NULL && strcmp(type, last) == 0)
			tell_small(s);
		s->lines++;
		rc = (last != NULL && strcmp(type, last) == 0) ||
		    (s->settings->count > 0 && s->lines == s->settings->count);
	}
	json_decref(line);
	return rc;
}

static int
take_lines(FILE *f, struct shown *s, struct err *e)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int rc = 0;

	while (rc == 0 && (len = getline(&line, &size, f)) > 0) {
		rc = show_line(s, line, (size_t)len, e);
		if (ferror(stdout))
			rc = err_set(e, EX_IOERR, "cannot write to standard output");
	}
	free(line);
	if (rc == 0 && !s->file)
		return err_set(e, EX_UNAVAILABLE, "the daemon has closed the connection");
	return rc < 0 ? -1 : 0;
}

/* The operands, joined by spaces; heap. */
static char *
join_words(char **words)
{
	size_t len = 1;
	char *text;

	for (char **w = words; *w != NULL; w++)
		len += strlen(*w) + 1;
	if ((text = calloc(1, len)) == NULL)
		return NULL;
	for (char **w = words; *w != NULL; w++) {
		if (w != words)
			strcat(text, " ");
		strcat(text, *w);
	}
	return text;
}

/* The file that tail is to read, "-" for standard input. */
static FILE *
open_lines(const char *path, struct err *e)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");

	if (f == NULL)
		err_set(e, EX_NOINPUT, "cannot open %s: %s", path, strerror(errno));
	return f;
}

/* The daemon, after it was given the request. */
static FILE *
open_daemon(const struct command *c, const struct ctl_settings *s, const char *words, struct err *e)
{
	json_t *o = json_pack("{s:s, s:i}", "op", c->op, "id", 1), *status = json_pack("{s:s}", "op", "status");
	bool asks_status = writes_text(c, s) && !s->json;
	FILE *f = NULL;

	if (o == NULL || status == NULL)
		err_set(e, EX_OSERR, "out of memory");
	else if (c->make(o, s, words, e) == 0 && (f = ctl_connect(s, e)) != NULL &&
	    ((asks_status && send_request(f, status, e) < 0) || send_request(f, o, e) < 0)) {
		fclose(f);
		f = NULL;
	}
	json_decref(status);
	json_decref(o);
	return f;
}

/* What tail is to show of what comes. Other commands show all. */
static int
fill_tail(struct ctl_tail *t, const struct ctl_settings *s, struct err *e)
{
	*t = (struct ctl_tail){.top = 1, .priority = -1, .min_surprise = -1};
	if (s->min_surprise != NULL && read_option_number("min-surprise", s->min_surprise, &t->min_surprise, e) < 0)
		return -1;
	if (s->priority != NULL && ctl_read_priority(s->priority, &t->priority, e) < 0)
		return -1;
	if (s->top != NULL && ctl_read_top(s->top, &t->top, e) < 0)
		return -1;
	return 0;
}

/* Somebody who sends lines into "sinkctl tail" means to read these. */
static int
hint_at_dash(struct err *e)
{
	struct err why = *e;
	struct stat st;

	if (why.code != EX_UNAVAILABLE || fstat(STDIN_FILENO, &st) < 0 || !S_ISFIFO(st.st_mode))
		return -1;
	return err_set(e, why.code, "%s; 'sinkctl tail -' reads the lines that come through a pipe", why.text);
}

static int
run_connected(const struct command *c, const struct ctl_settings *s, char **operands, struct err *e)
{
	struct shown shown = {
		.settings = s,
		.command = c,
		.color = s->color == CTL_ALWAYS || (s->color == CTL_AUTO && isatty(STDOUT_FILENO)),
		.file = c->make == make_tail && *operands != NULL,
	};
	char *words = join_words(operands);
	FILE *f = NULL;
	int rc = -1;

	if (s->top != NULL && !s->json && isatty(STDERR_FILENO))
		log_message(LOG_NOTICE, "--top compares each event with the last %d; until some hundred have come, it "
		    "shows each event that is the most surprising so far", CTL_RECENT);
	if (words == NULL)
		err_set(e, EX_OSERR, "out of memory");
	else if (c->make == make_ask && *words == '\0')
		err_set(e, EX_USAGE, "there is no question; 'sinkctl ask --help' shows how to ask one");
	else if (shown.file && operands[1] != NULL)
		err_set(e, EX_USAGE, "tail reads one file, not also %s", operands[1]);
	else if (fill_tail(&shown.tail, s, e) == 0 &&
	    (f = shown.file ? open_lines(*operands, e) : open_daemon(c, s, words, e)) != NULL)
		rc = take_lines(f, &shown, e);
	else if (c->make == make_tail && !shown.file)
		rc = hint_at_dash(e);
	if (f != NULL && f != stdin)
		fclose(f);
	free(words);
	return rc;
}

/* ---- the program ---------------------------------------------------- */

static const struct options *
get_ctl_options(int i, size_t *size)
{
	*size = sizeof(struct ctl_settings);
	return i < N_COMMANDS ? &commands[i].options : NULL;
}

static int
run_request(int i, void *values, char **operands, struct err *e)
{
	return run_connected(&commands[i], values, operands, e);
}

int
main(int argc, char **argv)
{
	static const struct commands all = {"sinkctl", get_ctl_options, run_request};

	return commands_main(&all, argc, argv);
}
