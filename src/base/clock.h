/* Time: the one that only goes forward, for rates and timeouts, and that of the day. */
#ifndef SINKD_BASE_CLOCK_H
#define SINKD_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Seconds since some fixed moment (CLOCK_MONOTONIC). */
double clock_get_seconds(void);

/* The same in whole microseconds. */
int64_t clock_get_usec(void);

/* Microseconds since 1970. */
int64_t clock_get_real_usec(void);

/* Does a come before b? */
bool clock_is_earlier(const struct timespec *a, const struct timespec *b);

#endif
