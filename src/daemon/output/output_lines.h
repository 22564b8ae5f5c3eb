/*
 * Lines of an output's file, read back: which events it has. key names the
 * member that annotations have; a line without it is not ours. *error receives
 * errno where a file cannot be read to the end that matters, and the answer then
 * means nothing; else it is left as it is.
 */
#ifndef SINKD_DAEMON_OUTPUT_LINES_H
#define SINKD_DAEMON_OUTPUT_LINES_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Find the first event after number `after`. *at receives where its line begins,
 * or the first of the unnumbered lines of ours before it. Returns its number, or
 * -1: there is none.
 */
int64_t output_lines_find_first(int fd, const char *key, int64_t after, int64_t *at, int *error);

/* Number of the last event that a file has after `from`, or -1. A torn line at its end does not count. */
int64_t output_lines_find_last(int fd, const char *key, int64_t from, int *error);

/* Is what stands at `at` a line of ours, the torn one that a killed process leaves, or nothing? */
bool output_lines_is_ours(int fd, const char *key, int64_t at, int *error);

#endif
