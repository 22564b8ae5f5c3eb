/* The table of sinkd's options; see settings.h. */
#include "daemon/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/model_path.h"
#include "base/utf8.h"
#include "daemon/http/metrics.h"
#include "daemon/input/pool.h"
#include "daemon/sandbox.h"
#include "daemon/service.h"

enum { ASIDE_TOKENS = 1024 }; /* room for a question and its answer */

#define AT(member) offsetof(struct settings, member)

/* In the order of enum from. */
static const char *const from_names[] = {"end", "start", NULL};

/* In the order of enum mismatch. */
static const char *const mismatch_names[] = {"fail", "fresh", NULL};

static const struct option_row rows[] = {
	{
		.name = "model", .letter = 'm', .type = OPTION_STRING, .argument = "file", .offset = AT(model),
		.help = "Use this model, a GGUF file. Without this option sinkd uses SmolLM2-135M-Instruct, which "
		    "sinkd-fetch-model(1) fetches.",
	},
	{
		.name = "policy", .type = OPTION_CHOICE, .offset = AT(policy), .fallback = "sink",
		.choices = context_policies,
		.help = "Which earlier tokens a token attends to. sink: the first ones of the stream and the most "
		    "recent ones; window: only the most recent ones; dense: all of them, so that memory grows with "
		    "the stream; recompute: the most recent ones, computed again for every token, which is slow and "
		    "there for comparison.",
	},
	{
		.name = "sinks", .type = OPTION_INT, .argument = "tokens", .offset = AT(sinks), .fallback = "4",
		.max = 1 << 24,
		.help = "Keep this many tokens from the start of the stream for ever. If the model begins every text "
		    "with a special token, that token is the first of them. Only the policy sink uses this option.",
	},
	{
		.name = "window", .type = OPTION_INT, .argument = "tokens", .offset = AT(window), .fallback = "1020",
		.min = 1, .max = 1 << 24,
		.help = "Keep this many of the most recent tokens in view. The policy dense keeps all.",
	},
	{
		.name = "pin", .type = OPTION_STRING, .argument = "file", .offset = AT(pin),
		.help = "Begin the stream with the text of this file and keep all of it for ever. If the text has "
		    "more tokens than --sinks says, all of them become sinks. The text may contain the model's "
		    "special tokens; in events such tokens are plain text.",
	},
	{
		.name = "system", .type = OPTION_STRING, .argument = "text", .offset = AT(system),
		.help = "Begin the stream with this system message, in the form that the model was trained with. The "
		    "events are then the user's message. Models that were trained on chats answer better this way.",
	},
	{
		.name = "threads", .letter = 't', .type = OPTION_INT, .argument = "number", .offset = AT(threads),
		.fallback = "0", .max = 1024,
		.help = "Compute with this many threads. 0: one for each processor that sinkd may run on.",
	},
	{
		.name = "device", .type = OPTION_CHOICE, .offset = AT(device), .fallback = "auto",
		.choices = context_devices,
		.help = "Where to compute. auto: on a GPU if the CUDA module and its driver find one with enough "
		    "memory and --path is not given, else on the CPU.",
	},
	{
		.name = "path", .type = OPTION_CHOICE, .offset = AT(path), .fallback = "auto", .choices = context_paths,
		.help = "Code path of the CPU. auto: the fastest one that the processor runs.",
	},
	{
		.name = "gpu", .type = OPTION_INT, .argument = "number", .offset = AT(gpu), .fallback = "0",
		.max = 1024,
		.help = "Use the GPU with this number if there are several.",
	},
	{
		.name = "follow", .letter = 'F', .type = OPTION_STRING, .argument = "file", .offset = AT(follow),
		.help = "Read this file for ever, as tail -F does. sinkd reads what is appended, and goes on with the "
		    "new file if the file is renamed and created again.",
	},
	{
		.name = "journal", .letter = 'j', .type = OPTION_FLAG, .offset = AT(journal),
		.help = "Read the systemd journal for ever.",
	},
	{
		.name = "journal-match", .type = OPTION_STRING, .argument = "matches", .offset = AT(journal_match),
		.help = "Read only journal entries that match. The matches are words FIELD=VALUE, as in "
		    "journalctl(1): an entry must match all fields, but only one of the words that name the same "
		    "field; a + between words means or.",
	},
	{
		.name = "journal-directory", .type = OPTION_STRING, .argument = "folder",
		.offset = AT(journal_directory),
		.help = "Read the journal files in this folder instead of this system's own.",
	},
	{
		.name = "socket", .letter = 's', .type = OPTION_STRING, .argument = "path", .offset = AT(socket),
		.help = "Create a Unix stream socket at this path and read events from any number of producers there.",
	},
	{
		.name = "control", .letter = 'C', .type = OPTION_STRING, .argument = "path", .offset = AT(control),
		.help = "Create a Unix stream socket at this path and answer sinkctl(1) and other clients there.",
	},
	{
		.name = "metrics", .type = OPTION_STRING, .argument = "address", .offset = AT(metrics),
		.help = "Serve metrics for Prometheus, and a page for people, over HTTP. An address with a slash is "
		    "the path of a Unix socket; any other address is a port of the loopback interface.",
	},
	{
		.name = "socket-mode", .type = OPTION_STRING, .argument = "octal", .offset = AT(socket_mode),
		.fallback = "0600",
		.help = "Permissions of the sockets that sinkd creates. Who may write to a socket may connect to it.",
	},
	{
		.name = "answer", .type = OPTION_CHOICE, .offset = AT(answer), .fallback = "own",
		.choices = producers_answer_names,
		.help = "What a producer gets back. own: its own events, annotated; all: the events of all inputs; "
		    "none: nothing, for producers that never read.",
	},
	{
		.name = "from", .type = OPTION_CHOICE, .offset = AT(from), .fallback = "end", .choices = from_names,
		.help = "Where to begin a followed file or the journal if no checkpoint says where to go on. end: "
		    "with what is written from now on; start: with the oldest line or entry.",
	},
	{
		.name = "format", .letter = 'f', .type = OPTION_CHOICE, .offset = AT(format), .fallback = "auto",
		.choices = reader_format_names,
		.help = "Form of the input. auto: JSON if the first line that is not blank begins with a brace, else "
		    "plain; json: one object a line, in any form that sinkd knows; journal, container, chat: only "
		    "objects of this form; plain: lines of text. See sinkd-protocol(7).",
	},
	{
		.name = "text-field", .type = OPTION_STRING, .argument = "name", .offset = AT(text_field),
		.help = "Take the text of an event from this member of the object, whatever the form.",
	},
	{
		.name = "source-field", .type = OPTION_STRING, .argument = "name", .offset = AT(source_field),
		.help = "Take the source of an event from this member of the object, whatever the form.",
	},
	{
		.name = "key", .letter = 'k', .type = OPTION_STRING, .argument = "name", .offset = AT(key),
		.fallback = "sinkd",
		.help = "Name of the member that sinkd adds to every object.",
	},
	{
		.name = "max-line", .type = OPTION_SIZE, .argument = "bytes", .offset = AT(max_line), .fallback = "1M",
		.min = 64, .max = INT64_C(1) << 28,
		.help = "Longest line that sinkd reads. A longer line becomes an error. K, M or G may follow the "
		    "number.",
	},
	{
		.name = "output", .letter = 'o', .type = OPTION_STRING, .argument = "file", .offset = AT(output),
		.help = "Append to this file instead of writing to standard output.",
	},
	{
		.name = "state", .letter = 'S', .type = OPTION_STRING, .argument = "folder", .offset = AT(state),
		.help = "Keep checkpoints in this folder and go on from the last one, see CHECKPOINTS. sinkd creates "
		    "the folder if it is missing.",
	},
	{
		.name = "state-mismatch", .type = OPTION_CHOICE, .offset = AT(state_mismatch), .fallback = "fail",
		.choices = mismatch_names,
		.help = "What to do if the last checkpoint was made with another model, window or beginning, or other "
		    "sinks. fail: do not start; fresh: begin a new context, but go on where the inputs, the output and "
		    "the numbers were, and keep the old checkpoint as checkpoint.at-SEQ.",
	},
	{
		.name = "checkpoint-interval", .type = OPTION_DURATION, .argument = "time",
		.offset = AT(checkpoint_interval), .fallback = "60", .max = 1 << 24, .flags = OPTION_LIVE,
		.help = "Make a checkpoint after this time, if there were new events. 0: only at the end and on "
		    "request. The time is in seconds; s, m, h or d may follow.",
	},
	{
		.name = "digest-every", .type = OPTION_INT, .argument = "events", .offset = AT(digest_every),
		.fallback = "0", .max = INT64_C(1) << 40,
		.help = "Write a digest after this many events, and at the end of the input. 0: none.",
	},
	{
		.name = "digest-interval", .type = OPTION_DURATION, .argument = "time", .offset = AT(digest_interval),
		.fallback = "0", .max = 1 << 24, .flags = OPTION_LIVE,
		.help = "Write a digest after this time, if there were events, and at the end of the input. A replay "
		    "of the same events can then put the digests elsewhere. 0: none. The time is in seconds; s, m, h "
		    "or d may follow.",
	},
	{
		.name = "digest-style", .type = OPTION_CHOICE, .offset = AT(digest_style), .fallback = "auto",
		.choices = digest_style_names,
		.help = "How to write a digest. extract: quote the events that the model chooses; write: let the "
		    "model write a text; auto: extract for models of less than a billion parameters.",
	},
	{
		.name = "digest-lines", .type = OPTION_INT, .argument = "number", .offset = AT(digest_lines),
		.fallback = "5", .min = 1, .max = EXTRACT_LINES,
		.help = "Quote at most this many events in a digest.",
	},
	{
		.name = "digest-schema", .type = OPTION_STRING, .argument = "file", .offset = AT(digest_schema),
		.help = "Let the model write digests as JSON that fits the JSON Schema in this file. "
		    "sinkd-protocol(7) lists the keywords that sinkd understands.",
	},
	{
		.name = "faithful", .type = OPTION_FLAG, .offset = AT(faithful),
		.help = "Allow only names and numbers that the model sees in the digests that it writes.",
	},
	{
		.name = "rolling", .type = OPTION_FLAG, .offset = AT(rolling),
		.help = "Pin the latest scheduled digest behind the sinks, in place of the one before. The model then "
		    "sees a summary of what has left the window.",
	},
	{
		.name = "rolling-tokens", .type = OPTION_INT, .argument = "tokens", .offset = AT(rolling_tokens),
		.fallback = "256", .min = 1, .max = 1 << 20,
		.help = "Room for the pinned digest. If the digest is longer, sinkd pins its first lines.",
	},
	{
		.name = "on-overload", .type = OPTION_CHOICE, .offset = AT(overload), .fallback = "block",
		.choices = overload_names, .flags = OPTION_LIVE,
		.help = "What to do when events come faster than the model reads them. block: stop reading until "
		    "there is room, so that producers wait; skip: leave out the oldest events that wait, and report "
		    "how many of which source.",
	},
	{
		.name = "max-peers", .type = OPTION_INT, .argument = "number", .offset = AT(max_peers),
		.fallback = "2048", .min = 1, .max = 1 << 20, .flags = OPTION_LIVE,
		.help = "Take at most this many connections on each socket. If another one comes, an idle one makes "
		    "room: see sinkd-protocol(7).",
	},
	{
		.name = "backlog", .type = OPTION_SIZE, .argument = "bytes", .offset = AT(backlog), .fallback = "256K",
		.min = 4096, .max = 1 << 30, .flags = OPTION_LIVE,
		.help = "Keep at most this many bytes for a connection that reads slowly, then leave out lines for "
		    "it. K, M or G may follow the number.",
	},
	{
		.name = "patience", .type = OPTION_DURATION, .argument = "time", .offset = AT(patience),
		.fallback = "60",
		.min = 1, .max = 1 << 20, .flags = OPTION_LIVE,
		.help = "Close a connection that has read nothing for this time while something waits for it. After "
		    "SIGTERM, stop waiting for the reader of standard output after the same time. A producer that has "
		    "written a line within this time does not make room for another connection. The time is in "
		    "seconds; s, m, h or d may follow.",
	},
	{
		.name = "time-limit", .type = OPTION_DURATION, .argument = "time", .offset = AT(time_limit),
		.fallback = "120", .max = 24 * 3600, .flags = OPTION_LIVE,
		.help = "Cut off an answer, or a digest that the model writes on request, when it has taken this long. "
		    "The client gets the text so far. A request may set a shorter limit, not a longer one. 0: no "
		    "limit. The time is in seconds; s, m, h or d may follow.",
	},
	{
		.name = "strict", .type = OPTION_FLAG, .offset = AT(strict),
		.help = "Stop at the first bad line, with exit status 65.",
	},
	{
		.name = "progress", .type = OPTION_FLAG, .offset = AT(progress),
		.help = "Show progress in a line on standard error, if that is a terminal, wherever the output goes. "
		    "Without this option sinkd shows it only while it writes to a regular file.",
	},
	{
		.name = "quiet", .letter = 'q', .type = OPTION_FLAG, .offset = AT(quiet),
		.help = "Never show progress.",
	},
	{
		.name = "config", .letter = 'c', .type = OPTION_STRING, .argument = "file", .offset = AT(config),
		.flags = OPTION_CONFIG,
		.help = "Read options from this file, see CONFIGURATION FILE. An option on the command line overrides "
		    "the same option in the file.",
	},
	{
		.name = "check-config", .type = OPTION_FLAG, .offset = AT(check_config),
		.help = "Check the options, the model, the state, the inputs, the output and the sockets, print what "
		    "was found, and exit. Nothing is read or written. The exit status is 0, or that of the first "
		    "error.",
	},
	{
		.name = "sandbox", .type = OPTION_FLAG, .offset = AT(sandbox),
		.help = "When the start is complete, give up all system calls that are not needed after it. See "
		    "SECURITY CONSIDERATIONS.",
	},
	{.name = NULL},
};

const struct options settings_options = {
	.program = "sinkd",
	.operands = "[file ...]",
	.about = "Read events, one a line, through a language model and write them back with their surprise.",
	.rows = rows,
};

/* A member's name: short, valid UTF-8, without control characters. */
static int
check_name(const char *option, const char *name, struct err *e)
{
	size_t len;

	if (name == NULL)
		return 0;
	len = strlen(name);
	if (len > READER_KEY_MAX)
		return err_set(e, EX_USAGE, "--%s must not be longer than %d bytes", option, READER_KEY_MAX);
	if (!utf8_is_valid(name, len))
		return err_set(e, EX_USAGE, "--%s must be valid UTF-8", option);
	for (const char *p = name; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return err_set(e, EX_USAGE, "--%s must not hold control characters", option);
	return 0;
}

/* Before anything is opened, and with what a service may have to be told. NULL: it was not given. */
static int
check_readable(const char *what, const char *path, struct err *e)
{
	if (path == NULL || access(path, R_OK) == 0)
		return 0;
	return err_set(e, EX_NOINPUT, "cannot read the %s %s: %s%s", what, path, strerror(errno),
	    service_explain(path, errno, false));
}

/* Two sockets cannot have one name, and a socket is no output. */
static int
check_names_differ(const struct settings *s, struct err *e)
{
	const char *const options[] = {"socket", "control", "metrics", "output", "state"};
	const char *const metrics = s->metrics != NULL && metrics_is_path(s->metrics) ? s->metrics : NULL;
	const char *const paths[] = {s->socket, s->control, metrics, s->output, s->state};

	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		for (size_t k = 0; k < i; k++)
			if (paths[i] != NULL && paths[k] != NULL && strcmp(paths[i], paths[k]) == 0)
				return err_set(e, EX_USAGE, "--%s and --%s must not be the same path, %s", options[k],
				    options[i], paths[i]);
	return 0;
}

static int
parse_mode(struct settings *s, struct err *e)
{
	char *end;
	unsigned long mode = strtoul(s->socket_mode, &end, 8);

	if (*end != '\0' || mode > 0777 || s->socket_mode[0] == '-')
		return err_set(e, EX_USAGE, "--socket-mode must be octal, at most 777, not '%s'", s->socket_mode);
	s->mode = (unsigned)mode;
	return 0;
}

void
settings_refresh(struct settings *s)
{
	struct peers_options *peers[] = {&s->producers.peers, &s->control_options.peers};

	s->intake.overload = (enum overload)s->overload;
	s->control_options.time_limit = (int32_t)s->time_limit * 1000;
	for (size_t i = 0; i < 2; i++) {
		peers[i]->most = (int)s->max_peers;
		peers[i]->backlog = (size_t)s->backlog;
		peers[i]->patience = (int)s->patience;
	}
	s->producers.peers.idle = (int)s->patience;
}

static void
fill_inputs(struct settings *s)
{
	s->intake = (struct intake_options){
		.reader = {
			.key = s->key,
			.text_field = s->text_field,
			.source_field = s->source_field,
			.max_line = (size_t)s->max_line,
		},
		.overload = (enum overload)s->overload,
		.strict = s->strict,
	};
	s->producers = (struct producers_options){
		.peers = {
			.max_line = (size_t)s->max_line,
			.most = (int)s->max_peers,
			.backlog = (size_t)s->backlog,
			.patience = (int)s->patience,
			.idle = (int)s->patience,
		},
		.format = (enum reader_format)s->format,
		.answer = (enum producers_answer)s->answer,
	};
	s->control_options = (struct control_options){
		.peers = s->producers.peers,
		.time_limit = (int32_t)s->time_limit * 1000,
	};
	s->control_options.peers.idle = 0; /* a client loses nothing, it can connect again */
}

static void
fill_worker(struct settings *s)
{
	struct worker_options *w = &s->worker;
	struct context_options *c = &w->stream.context;

	w->records = POOL_RECORDS;
	w->stream.model = s->model != NULL ? s->model : s->model_path;
	w->stream.pin = s->pin;
	w->stream.system = s->system;
	context_options_init(c);
	c->policy = (enum policy)s->policy;
	c->sinks = (int32_t)s->sinks;
	c->window = (int32_t)s->window;
	c->threads = (int32_t)s->threads;
	c->device = context_devices[s->device];
	c->path = context_paths[s->path];
	c->gpu = (int32_t)s->gpu;
	c->fork_tokens = ASIDE_TOKENS;
	c->block = s->rolling ? (int32_t)s->rolling_tokens : 0;
}

static int
read_schema(struct settings *s, struct err *e)
{
	json_error_t je;
	json_t *j;

	if (s->digest_schema == NULL)
		return 0;
	if ((j = json_load_file(s->digest_schema, 0, &je)) == NULL)
		return err_set(e, EX_DATAERR, "the schema %s is not JSON, line %d: %s", s->digest_schema, je.line,
		    je.text);
	s->schema = schema_new(j, e);
	json_decref(j);
	return s->schema == NULL ? -1 : 0;
}

static void
fill_digests(struct settings *s)
{
	struct worker_digests *d = &s->worker.digests;

	d->every = s->digest_every;
	d->rolling = s->rolling;
	d->options = (struct digest_options){
		.style = (enum digest_style)s->digest_style,
		.lines = (int32_t)s->digest_lines,
		.reply = {.sample = {.top_p = 1}, .schema = s->schema, .faithful = s->faithful},
	};
}

void
settings_fini(struct settings *s)
{
	schema_free(s->schema);
	s->schema = NULL;
	options_fini(&settings_options, s);
}

int
settings_complete(struct settings *s, struct err *e)
{
	if (check_name("key", s->key, e) < 0 || check_name("text-field", s->text_field, e) < 0 ||
	    check_name("source-field", s->source_field, e) < 0)
		return -1;
	if (s->text_field != NULL && s->source_field != NULL && strcmp(s->text_field, s->source_field) == 0)
		return err_set(e, EX_USAGE, "--text-field and --source-field must not be the same, %s", s->text_field);
	if (s->pin != NULL && s->policy != POLICY_SINK && s->policy != POLICY_DENSE)
		return err_set(e, EX_USAGE, "--pin needs the policy sink: %s keeps nothing for ever",
		    context_policies[s->policy]);
	if (s->rolling && s->policy != POLICY_SINK)
		return err_set(e, EX_USAGE, "--rolling needs the policy sink: %s pins no block",
		    context_policies[s->policy]);
	if (s->model == NULL && model_path_find(s->model_path, sizeof s->model_path, e) < 0)
		return -1;
	if (check_readable("model", s->model, e) < 0 || check_readable("text to pin", s->pin, e) < 0 ||
	    check_readable("schema", s->digest_schema, e) < 0)
		return -1;
	if (s->sandbox && sandbox_check(e) < 0)
		return -1;
	if (s->pin != NULL && s->system != NULL)
		return err_set(e, EX_USAGE, "--pin and --system cannot both begin the stream");
	if (s->digest_schema != NULL && (enum digest_style)s->digest_style == DIGEST_EXTRACT)
		return err_set(e, EX_USAGE, "--digest-style extract quotes, and has no --digest-schema");
	if (check_names_differ(s, e) < 0 || parse_mode(s, e) < 0 || read_schema(s, e) < 0)
		return -1;
	fill_worker(s);
	fill_inputs(s);
	fill_digests(s);
	return 0;
}
