/*
 * Lines become records: the format is found out, JSON is read,
 * text and source are taken from their members, bad lines become errors.
 */
#ifndef SINKD_STREAM_READER_H
#define SINKD_STREAM_READER_H

#include <stddef.h>

#include "base/err.h"
#include "stream/line.h"
#include "stream/record.h"

enum { READER_KEY_MAX = 64 };

enum reader_format {
	READER_AUTO,
	READER_JOURNAL,
	READER_CONTAINER,
	READER_CHAT,
	READER_JSON,
	READER_PLAIN,
};

/* Names of enum reader_format in its order, then NULL. */
extern const char *const reader_format_names[];

struct reader_options {
	const char *key;          /* the member that annotations have: valid UTF-8, at most READER_KEY_MAX bytes */
	const char *text_field;   /* members to take text and source from, not the same; NULL: as the form says */
	const char *source_field;
	size_t max_line;          /* only for the sentence that refuses a longer one */
};

struct reader;

/* Borrows from o. Returns NULL when there is no memory. */
struct reader *reader_new(const struct reader_options *o);
void reader_free(struct reader *r);

/*
 * Read a line of an input whose format is *format: what was asked for, and once
 * auto has been decided by a line, that. Fills *rec: its type, flags, line, raw, text and reason; seq and
 * input are the caller's. raw and text are borrowed from the line and from the
 * reader until its next call; together they are at most READER_GROWTH(len)
 * bytes. Returns 1, 0 if the line is none (blank, in JSON), or -1 with *e set
 * (EX_OSERR: no memory).
 */
int reader_read(struct reader *r, enum reader_format *format, const struct line *line, struct record *rec,
    struct err *e);

/*
 * Nothing that a text is decoded from is shorter in JSON: a byte of an array
 * takes four characters where U+FFFD takes three. The rest is ": ", "\n" and
 * the start of an error, 3 * RECORD_START.
 */
#define READER_GROWTH(len) (2 * (len) + 256)

#endif
