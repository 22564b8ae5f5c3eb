/*
 * The seam for places that the lines of the output go to. To add one: a file
 * with a table of operations, and a line in destinations_open (destinations.c).
 * Loop thread.
 */
#ifndef SINKD_DAEMON_DESTINATION_H
#define SINKD_DAEMON_DESTINATION_H

#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/output/output.h"

enum {
	DESTINATIONS = 4,       /* at most */
	DESTINATION_FILES = 32, /* descriptors that a checkpoint syncs, at most, of all destinations */
};

/* Where destinations are, for a checkpoint. */
struct places {
	json_t *of;                   /* by the names of the destinations; those that keep no place are left out */
	int files[DESTINATION_FILES]; /* to be synced before the places count; whoever has the struct closes them */
	int n;
};

struct destination_ops {
	const char *name; /* in a checkpoint: keep it for ever */

	/* Take whole lines. Returns false: there is no memory for them. */
	bool (*write)(void *self, const char *lines, size_t len);
	/* Pass on what was taken, as far as that needs no waiting, and the rest as soon as possible. */
	void (*flush)(void *self);
	/* Does so much wait that nothing should be added? Is all passed on? */
	bool (*is_full)(const void *self);
	bool (*is_drained)(const void *self);
	/* Fail from now on when nothing was taken for so many seconds. */
	void (*set_patience)(void *self, int seconds);
	void (*close)(void *self);

	/* NULL, all three, for a destination that cannot go back: */

	/*
	 * All is passed on: what does a restart need to find this place again? *place receives an object, a new
	 * reference. Descriptors are added to files. Returns 0, or -1 with *e set.
	 */
	int (*place)(void *self, json_t **place, struct places *files, struct err *e);
	/* Its name may stand for another file now: open it again. Returns 0, or -1 with *e set: all is as before. */
	int (*reopen)(void *self, struct err *e);
	/* Of a regular file: its descriptor, borrowed. */
	int (*get_file)(const void *self);

	/*
	 * Go back to a place that a destination of this name kept: what was written after event number seq is taken
	 * back, in whatever file it lies by now. Returns 0, or -1 with *e set.
	 */
	int (*cut)(void *self, const json_t *place, int64_t seq, struct err *e);
};

struct destination_callbacks {
	struct output_callbacks output;
	/* Lines go to another file from here on, which a checkpoint should know. */
	void (*moved)(void *arg);
};

struct destination_options {
	struct event_base *base;
	const char *output; /* path, or NULL: standard output */
	const char *key;    /* the member that annotations have */
};

struct destinations;

/*
 * Open them. Borrows options and callbacks. Returns NULL with *e set
 * (EX_CANTCREAT, EX_IOERR, EX_OSERR).
 */
struct destinations *destinations_open(const struct destination_options *o,
    const struct destination_callbacks *callbacks, void *arg, struct err *e);
void destinations_close(struct destinations *ds);

/* As the operations, for all of them. */
bool destinations_write(struct destinations *ds, const char *lines, size_t len);
void destinations_flush(struct destinations *ds);
bool destinations_are_full(const struct destinations *ds); /* one of them is */
bool destinations_are_drained(const struct destinations *ds);
void destinations_set_patience(struct destinations *ds, int seconds);
int destinations_reopen(struct destinations *ds, struct err *e);

/* Their places; *p must be given to places_fini. Returns 0, or -1 with *e set, and then *p is empty. */
int destinations_get_places(struct destinations *ds, struct places *p, struct err *e);
void places_fini(struct places *p);

/* Go back to places[...], an object as struct places has it. */
int destinations_cut(struct destinations *ds, const json_t *places, int64_t seq, struct err *e);

/* The regular file that lines go to, or -1. Borrowed. */
int destinations_get_file(const struct destinations *ds);

#endif
