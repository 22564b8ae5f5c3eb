/*
 * Digests: what has happened since the last one. The style `extract` quotes
 * events that the model chose, `write` has it write a short text on a fork. On
 * schedule a digest may replace the block pinned behind the sinks, so that what
 * the window has lost lives on in summary. Engine thread.
 */
#ifndef SINKD_STREAM_DIGEST_H
#define SINKD_STREAM_DIGEST_H

#include "stream/extract.h"
#include "stream/reply.h"

enum digest_style { DIGEST_AUTO, DIGEST_EXTRACT, DIGEST_WRITE };
/*
 * In its order, then NULL. Auto is extract for models of less than a billion
 * parameters, else write. With a schema every style is write.
 */
extern const char *const digest_style_names[];

enum { DIGEST_LINES = 5 }; /* where lines is 0 */

struct digest_options {
	enum digest_style style;
	bool scheduled;       /* of the events since the last one on schedule, which is numbered, else the following: */
	int64_t since_seq;    /* of the events remembered with this number or a later one */
	int64_t since_time;   /* and not before this time, microseconds since 1970; 0: any */
	int32_t lines;        /* extract: at most so many, up to EXTRACT_LINES; 0: DIGEST_LINES */
	struct reply_options reply; /* write: how; join and stream do not count */
};

struct digest {
	enum digest_style style;
	int64_t number;       /* of those on schedule, from 1; 0: it is none */
	int64_t from, to;     /* seq of its first and its last event; to 0: there was no event */
	int64_t events;       /* that it covers */
	int64_t forgotten;    /* that it should cover as well, and that are no longer remembered */
	int64_t tokens, scored;
	double nll;           /* of these */
	/* extract */
	int64_t shapes;
	int n_lines;
	struct extract_line lines[EXTRACT_LINES];
	/* write */
	bool json;            /* a schema was asked for */
	struct reply reply;
};

/* Is this model too small to write what is true? Then digests quote. */
bool digest_is_small(const struct model_info *m);

/* The sentence for those who let such a model write. */
void digest_describe_small(const struct model_info *m, char *text, size_t size);

/*
 * Make a digest. On schedule its events are dealt with afterwards, and nothing
 * is made where there are none. Returns 0, or -1 with *e set, as reply_make.
 * Release with digest_fini in every case.
 */
int digest_make(struct stream *s, const struct digest_options *o, const struct reply_hooks *hooks, struct digest *d,
    struct err *e);

/*
 * The same in two parts, so that events can be read while the model writes:
 * digest_begin does all but the writing, and if digest_is_written, the text of
 * the answer that digest_begin_text begins is to be put into d->reply.
 */
int digest_begin(struct stream *s, const struct digest_options *o, struct digest *d, struct err *e);
bool digest_is_written(const struct digest *d);
struct answer *digest_begin_text(struct stream *s, const struct digest_options *o, const struct digest *d,
    const struct reply_hooks *hooks, struct err *e);
void digest_fini(struct digest *d);

/* Pin the digest's text in place of what was pinned before, as much of it as there is room for; see stream_pin. */
int digest_pin(struct stream *s, const struct digest *d, struct err *e);

/* Append the digest's members to a line that the caller has begun, and end the line. */
void digest_write(struct buf *out, const struct stream *s, const struct digest *d);

#endif
