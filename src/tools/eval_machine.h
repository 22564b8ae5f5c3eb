/* What sinkeval measures of the machine and of itself: memory, read bandwidth, medians. */
#ifndef SINKD_TOOLS_EVAL_MACHINE_H
#define SINKD_TOOLS_EVAL_MACHINE_H

#include <stdint.h>

#include "base/err.h"

/* Bytes; -1 where the system does not tell. */
struct machine_memory {
	int64_t resident;  /* all pages of the process that are in memory, those of mapped files included */
	int64_t anonymous; /* those that belong to no file */
	int64_t peak;      /* the highest that resident has been */
};

void machine_get_memory(struct machine_memory *m);

/*
 * Bytes per second at which so many threads together read memory that no
 * cache holds: one pass over a buffer of at least 256 MiB, made for the call.
 * Returns -1 with *e set when there is no memory or no thread for it.
 */
double machine_measure_bandwidth(int threads, struct err *e);

/* Processor time of this process, all threads, in seconds. */
double machine_get_cpu_seconds(void);

/* Of n >= 1 values, which stay as they are; n at most 1,000. */
double machine_get_median(const double *values, int n);

#endif
