/* What sinkd was told to do: the table of its options and their values. */
#ifndef SINKD_DAEMON_SETTINGS_H
#define SINKD_DAEMON_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/options.h"
#include "daemon/control/control.h"
#include "daemon/input/intake.h"
#include "daemon/input/producers.h"
#include "daemon/worker.h"
#include "stream/reader.h"

/* What becomes of a state that was saved with other options. */
enum mismatch { MISMATCH_FAIL, MISMATCH_FRESH };

/* Where an input that has no end begins. */
enum from { FROM_END, FROM_START };

struct settings {
	/* as given */
	char *model, *pin, *key, *text_field, *source_field, *config;
	char *follow, *journal_match, *journal_directory, *socket, *control, *metrics, *socket_mode, *output, *state;
	char *system, *digest_schema;
	int policy; /* enum policy */
	int format; /* enum reader_format */
	int device, path;
	int from;     /* enum from */
	int overload; /* enum overload */
	int answer;   /* enum producers_answer */
	int state_mismatch; /* enum mismatch */
	int digest_style; /* enum digest_style */
	int64_t sinks, window, threads, gpu, max_line;
	int64_t max_peers, backlog, patience, checkpoint_interval, digest_every, digest_interval, digest_lines;
	int64_t rolling_tokens, time_limit;
	bool strict, quiet, progress, check_config, journal, rolling, faithful, sandbox;
	/* made of these by settings_complete; they borrow from the above */
	struct worker_options worker;
	struct intake_options intake;
	struct producers_options producers;
	struct control_options control_options;
	struct schema *schema; /* of digests, or NULL; freed by settings_fini */
	unsigned mode; /* of sockets */
	char model_path[4096];
};

extern const struct options settings_options;

/*
 * Check what the table cannot, find the model, fill in what is made of them.
 * Returns 0, or -1 with *e set: EX_USAGE, EX_NOINPUT.
 */
int settings_complete(struct settings *s, struct err *e);

/* Some of the options changed: fill in again what is made of those that may. */
void settings_refresh(struct settings *s);

/* Release what options_parse and settings_complete took. */
void settings_fini(struct settings *s);

#endif
