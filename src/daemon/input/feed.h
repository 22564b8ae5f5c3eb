/*
 * An input as the rest of the loop sees it: something that gives lines while
 * there is room for them, and can say where it has come to.
 */
#ifndef SINKD_DAEMON_FEED_H
#define SINKD_DAEMON_FEED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "stream/lines.h"
#include "stream/reader.h"

/* Where a line comes from; the feed's own. */
struct origin {
	const char *name;          /* for errors, valid UTF-8, lasts as long as the feed; NULL: standard input */
	enum reader_format format; /* as asked for, then as found out */
	uint64_t peer;             /* who waits for the annotation, 0: nobody */
	int64_t records;           /* that its lines have become */
	int64_t time;              /* of the line in hand, microseconds since 1970; 0: now */
};

struct feed_callbacks {
	/* A line. Returns false when there is no room: the same line is given again after resume, after stop never. */
	bool (*line)(void *arg, struct origin *from, const struct line *line);
	/* The end of this feed. e->code is 0, or why it came early: EX_NOINPUT, EX_IOERR, EX_OSERR. Its last call. */
	void (*end)(void *arg, const struct err *e);
};

/* What the loop does with a feed. Nothing is called after free, and after stop only save and free. */
struct feed_ops {
	void (*resume)(void *feed); /* there is room again: go on, from the loop; at any time, also to begin */
	void (*stop)(void *feed);   /* read no more; no callback is called from here on */
	void (*free)(void *feed);
	/* Add to state, an object, what is needed to go on after the last line given. NULL: the feed cannot. */
	void (*save)(const void *feed, json_t *state);
};

/* No input has more bytes or lines: a state that counts beyond this is damaged. Keeps sums inside 64 bits. */
#define FEED_COUNT_MAX (INT64_C(1) << 62)

/* A place as three members of an object, and back; false: they are not there or make no sense. */
void feed_save_place(json_t *object, const struct place *p, enum reader_format format);
bool feed_load_place(const json_t *object, struct place *p, enum reader_format *format);

/*
 * Give out the lines there are, until *stopped, and note in *place how far that
 * came. Returns false when one was not taken, or when stopped.
 */
bool feed_give_lines(const struct feed_callbacks *callbacks, void *arg, struct origin *from, struct lines *lines,
    struct place *place, const bool *stopped);

/* A name from the system as valid UTF-8, on the heap; NULL: no memory. */
char *feed_make_name(const char *name);

#endif
