/* Time that only goes forward, for rates and timeouts. */
#ifndef SINKD_BASE_CLOCK_H
#define SINKD_BASE_CLOCK_H

/* Seconds since some fixed moment (CLOCK_MONOTONIC). */
double clock_get_seconds(void);

#endif
