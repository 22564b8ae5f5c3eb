/* What sinkd was told to do: the table of its options and their values. */
#ifndef SINKD_DAEMON_SETTINGS_H
#define SINKD_DAEMON_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/options.h"
#include "daemon/intake.h"
#include "daemon/producers.h"
#include "daemon/worker.h"
#include "stream/reader.h"

/* Where an input that has no end begins. */
enum from { FROM_END, FROM_START };

struct settings {
	/* as given */
	char *model, *pin, *key, *text_field, *source_field, *config;
	char *follow, *socket, *socket_mode, *output;
	int policy; /* enum policy */
	int format; /* enum reader_format */
	int device;
	int from;     /* enum from */
	int overload; /* enum overload */
	int answer;   /* enum producers_answer */
	int64_t sinks, window, threads, gpu, max_line;
	int64_t max_peers, backlog, patience;
	bool strict, quiet;
	/* made of these by settings_complete; they borrow from the above */
	struct worker_options worker;
	struct intake_options intake;
	struct producers_options producers;
	unsigned mode; /* of sockets */
	char model_path[4096];
};

extern const struct options settings_options;

/*
 * Check what the table cannot, find the model, fill in what is made of them.
 * Returns 0, or -1 with *e set: EX_USAGE, EX_NOINPUT.
 */
int settings_complete(struct settings *s, struct err *e);

#endif
