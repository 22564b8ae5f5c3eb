/* Rates and recent events; see stats.h. Loop thread. */
#include "daemon/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "stream/text.h"

#define RATE_SECONDS 10.0

void
rate_add(struct rate *r, double count, double now)
{
	r->value = rate_get(r, now) + count / RATE_SECONDS;
	r->time = now;
}

double
rate_get(const struct rate *r, double now)
{
	return r->time > 0 ? r->value * exp((r->time - now) / RATE_SECONDS) : 0;
}

struct stats *
stats_new(void)
{
	struct stats *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	memory_touch(s, sizeof *s);
	s->start = clock_get_seconds();
	return s;
}

void
stats_free(struct stats *s)
{
	free(s);
}

static void
copy_text(char *to, size_t size, const char *from, size_t len)
{
	size_t n = len < size ? len : size - 1;

	memcpy(to, from, n);
	to[n] = '\0';
	text_drop_cut(to);
}

void
stats_take_record(struct stats *s, const struct record *r)
{
	double now = clock_get_seconds();
	struct stats_event *e;

	rate_add(&s->events, 1, now);
	rate_add(&s->tokens, (double)r->score.tokens, now);
	if (r->type != RECORD_EVENT || r->score.scored == 0)
		return;
	e = &s->recent[s->scored++ % STATS_RECENT];
	e->seq = r->seq;
	e->surprise = score_get_surprise(r->score.nll, r->score.scored);
	e->time = time(NULL);
	copy_text(e->text, sizeof e->text, r->text, r->text_len);
	s->surprise_sum += e->surprise;
}

void
stats_take_digest(struct stats *s, const char *line, size_t len)
{
	struct stats_digest *d = &s->last[s->digests++ % STATS_DIGESTS];

	d->time = time(NULL);
	copy_text(d->line, sizeof d->line, line, len);
}

static int
stats_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double
stats_get_quantile(const struct stats *s, double q)
{
	double values[STATS_RECENT];
	size_t n = s->scored < STATS_RECENT ? (size_t)s->scored : STATS_RECENT;

	if (n == 0)
		return NAN;
	for (size_t i = 0; i < n; i++)
		values[i] = s->recent[i].surprise;
	qsort(values, n, sizeof *values, stats_compare);
	return values[(size_t)(q * (double)(n - 1) + 0.5)];
}

int
stats_get_top(const struct stats *s, const struct stats_event **top, int n)
{
	int64_t have = s->scored < STATS_RECENT ? s->scored : STATS_RECENT;
	int found = 0;

	for (int64_t i = 0; i < have; i++) {
		const struct stats_event *e = &s->recent[i];
		int at = found;

		while (at > 0 && top[at - 1]->surprise < e->surprise)
			at--;
		if (at == n)
			continue;
		found += found < n;
		memmove(top + at + 1, top + at, (size_t)(found - at - 1) * sizeof *top);
		top[at] = e;
	}
	return found;
}
