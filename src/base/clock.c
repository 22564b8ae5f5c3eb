/* Time; see clock.h. */
#include "base/clock.h"

#include <time.h>

static int64_t
get_usec(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

double
clock_get_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int64_t
clock_get_usec(void)
{
	return get_usec(CLOCK_MONOTONIC);
}

int64_t
clock_get_real_usec(void)
{
	return get_usec(CLOCK_REALTIME);
}

bool
clock_is_earlier(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}
