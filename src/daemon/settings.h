/* What sinkd was told to do: the table of its options and their values. */
#ifndef SINKD_DAEMON_SETTINGS_H
#define SINKD_DAEMON_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/options.h"
#include "daemon/worker.h"
#include "stream/reader.h"

struct settings {
	/* as given */
	char *model, *pin, *key, *text_field, *source_field, *config;
	int policy; /* enum policy */
	int format; /* enum reader_format */
	int device;
	int64_t sinks, window, threads, gpu, max_line;
	bool strict, quiet;
	/* made of these by settings_complete; they borrow from the above */
	struct worker_options worker;
	struct reader_options reader;
	char model_path[4096];
};

extern const struct options settings_options;

/*
 * Check what the table cannot, find the model, fill in worker and reader.
 * Returns 0, or -1 with *e set: EX_USAGE, EX_NOINPUT.
 */
int settings_complete(struct settings *s, struct err *e);

#endif
