/*
 * Where all inputs come together: their lines become records, get room and a
 * number, and go to the engine thread in one order.
 */
#ifndef SINKD_DAEMON_INTAKE_H
#define SINKD_DAEMON_INTAKE_H

#include "daemon/input/feed.h"
#include "daemon/worker.h"

struct intake;

enum overload { OVERLOAD_BLOCK, OVERLOAD_SKIP };

/* Names of enum overload in its order, then NULL. */
extern const char *const overload_names[];

struct intake_options {
	struct reader_options reader;
	enum overload overload; /* what happens when there is no room */
	bool strict;            /* the first bad line is a failure */
};

struct intake_callbacks {
	/* Every feed has come to its end, or nothing more may be read: e->code is 0, or why. Called once. */
	void (*end)(void *arg, const struct err *e);
};

/* Borrows options and callbacks; w may be set later. Returns NULL with *e set (EX_OSERR). */
struct intake *intake_new(const struct intake_options *o, const struct intake_callbacks *callbacks, void *arg,
    struct err *e);

/* Its feeds too. */
void intake_free(struct intake *in);

/* What a feed is to be given as callbacks and arg. */
extern const struct feed_callbacks intake_feed_callbacks;

/* Take over a feed that was made with those. */
void intake_add(struct intake *in, const struct feed_ops *ops, void *feed);

void intake_set_worker(struct intake *in, struct worker *w);

/* There is room again, or this is the beginning, before which no line is taken: from the loop, at any time. */
void intake_resume(struct intake *in);

/* Read no more; end is not called from here on. */
void intake_stop(struct intake *in);
bool intake_has_stopped(const struct intake *in);

/* The oldest record is done with. */
void intake_release(struct intake *in, struct record *r);

/* Records on their way, and for how many seconds the oldest has been. */
size_t intake_get_count(const struct intake *in);
double intake_get_lag(const struct intake *in, double now);

/* The number of the newest record, how many of all were errors, and to begin with other numbers. */
int64_t intake_get_seq(const struct intake *in);
int64_t intake_get_errors(const struct intake *in);
void intake_set_numbers(struct intake *in, int64_t seq, int64_t errors);

/* Add to an object what the feeds need to go on. Returns false when one of them cannot. */
bool intake_save(const struct intake *in, json_t *state);

#endif
