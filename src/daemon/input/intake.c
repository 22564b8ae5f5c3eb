/* Where inputs come together; see intake.h. Loop thread. */
#include "daemon/input/intake.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "daemon/input/pool.h"

enum { FEEDS = 4 };

const char *const overload_names[] = {"block", "skip", NULL};

struct intake {
	const struct intake_options *options;
	const struct intake_callbacks *callbacks;
	void *arg;
	struct worker *worker;
	struct reader *reader;
	struct pool *pool;
	struct {
		const struct feed_ops *ops;
		void *feed;
	} feeds[FEEDS];
	int n, first; /* feeds, and which of them is to be asked first next time */
	int live;     /* of these have not come to their end */
	int64_t seq, errors;
	bool begun, stopped;
};

struct intake *
intake_new(const struct intake_options *o, const struct intake_callbacks *callbacks, void *arg, struct err *e)
{
	struct intake *in = calloc(1, sizeof *in);

	if (in == NULL || (in->reader = reader_new(&o->reader)) == NULL) {
		err_set(e, EX_OSERR, "out of memory for the inputs");
		goto fail;
	}
	in->options = o;
	in->callbacks = callbacks;
	in->arg = arg;
	if ((in->pool = pool_new(READER_GROWTH(o->reader.max_line), e)) == NULL)
		goto fail;
	return in;
fail:
	intake_free(in);
	return NULL;
}

void
intake_free(struct intake *in)
{
	if (in == NULL)
		return;
	for (int i = 0; i < in->n; i++)
		in->feeds[i].ops->free(in->feeds[i].feed);
	pool_free(in->pool);
	reader_free(in->reader);
	free(in);
}

void
intake_add(struct intake *in, const struct feed_ops *ops, void *feed)
{
	assert(in->n < FEEDS);
	in->feeds[in->n].ops = ops;
	in->feeds[in->n].feed = feed;
	in->n++;
	in->live++;
}

void
intake_set_worker(struct intake *in, struct worker *w)
{
	in->worker = w;
}

/* ---- lines ---------------------------------------------------------- */

static void
intake_end(struct intake *in, const struct err *e)
{
	if (in->stopped)
		return;
	intake_stop(in);
	in->callbacks->end(in->arg, e);
}

static void
end_strictly(struct intake *in, const struct record *r)
{
	struct err e;

	err_set(&e, EX_DATAERR, "%s, line %lld: %s", r->input == NULL ? "standard input" : r->input, (long long)r->line,
	    r->reason);
	intake_end(in, &e);
}

static bool
intake_on_line(void *arg, struct origin *from, const struct line *line)
{
	struct intake *in = arg;
	struct record record, *r;
	struct err e;
	int rc;

	/* A feed may see a line of its own accord before it was told to begin: a file that grows, a connection. */
	if (!in->begun)
		return false;
	if (!pool_has_room(in->pool, READER_GROWTH(line->len))) {
		if (in->options->overload == OVERLOAD_SKIP)
			pool_mark_skipped(in->pool);
		return false;
	}
	rc = reader_read(in->reader, &from->format, line, &record, &e);
	if (rc < 0)
		intake_end(in, &e);
	if (rc <= 0)
		return true;
	from->records++;
	record.seq = ++in->seq;
	in->errors += record.type == RECORD_ERROR;
	record.input = from->name;
	record.peer = from->peer;
	record.time = from->time > 0 ? from->time : clock_get_real_usec();
	r = pool_take(in->pool, &record);
	worker_submit(in->worker, r);
	if (record.type == RECORD_ERROR && in->options->strict)
		end_strictly(in, &record);
	return true;
}

static void
on_end(void *arg, const struct err *e)
{
	struct intake *in = arg;

	in->live--;
	if (e->code != 0 || in->live == 0)
		intake_end(in, e);
}

const struct feed_callbacks intake_feed_callbacks = {intake_on_line, on_end};

/* ---- room ----------------------------------------------------------- */

void
intake_resume(struct intake *in)
{
	in->begun = true;
	if (in->stopped || in->n == 0)
		return;
	/* Another one first each time, so that none is always served last. */
	in->first = (in->first + 1) % in->n;
	for (int i = 0; i < in->n; i++) {
		int k = (in->first + i) % in->n;

		in->feeds[k].ops->resume(in->feeds[k].feed);
	}
}

void
intake_stop(struct intake *in)
{
	if (in->stopped)
		return;
	in->stopped = true;
	for (int i = 0; i < in->n; i++)
		in->feeds[i].ops->stop(in->feeds[i].feed);
}

bool
intake_has_stopped(const struct intake *in)
{
	return in->stopped;
}

void
intake_release(struct intake *in, struct record *r)
{
	pool_release(in->pool, r);
}

size_t
intake_get_count(const struct intake *in)
{
	return pool_get_count(in->pool);
}

double
intake_get_lag(const struct intake *in, double now)
{
	double oldest = pool_get_oldest(in->pool);

	return oldest > 0 ? now - oldest : 0;
}

/* ---- where it has come to ------------------------------------------- */

int64_t
intake_get_seq(const struct intake *in)
{
	return in->seq;
}

int64_t
intake_get_errors(const struct intake *in)
{
	return in->errors;
}

void
intake_set_numbers(struct intake *in, int64_t seq, int64_t errors)
{
	in->seq = seq;
	in->errors = errors;
}

bool
intake_save(const struct intake *in, json_t *state)
{
	bool all = true;

	for (int i = 0; i < in->n; i++) {
		if (in->feeds[i].ops->save != NULL)
			in->feeds[i].ops->save(in->feeds[i].feed, state);
		all &= in->feeds[i].ops->save != NULL;
	}
	return all;
}
