/*
 * Text with no names and numbers but those of the stream. A word is a run of
 * letters, digits and what joins them inside names and numbers (. : - / @ _).
 * The model may write a word if the word, or a part of it between joints, stands
 * in what the model sees or in the question, in any case. It may also write
 * ordinary words: letters only, lower case or first of a sentence, one token.
 */
#ifndef SINKD_STREAM_FAITHFUL_H
#define SINKD_STREAM_FAITHFUL_H

#include "stream/stream.h"

struct faithful;

/* Borrows from s, which must not be fed while it is used, except on a fork. NULL with *e set (EX_OSERR). */
struct faithful *faithful_new(struct stream *s, const char *question, size_t len, struct err *e);
void faithful_free(struct faithful *f);

enum { FAITHFUL_RUN = 160 }; /* bytes of a word, at most */

/* A text on its way. A copy of it is a fork. */
struct faithful_state {
	int len;         /* of the word that is not finished */
	bool first;      /* it is the first of a sentence */
	char run[FAITHFUL_RUN];
};

void faithful_begin(struct faithful_state *s);

/* Take the next byte. Returns false if it ends a word that is not allowed. */
bool faithful_feed(const struct faithful *f, struct faithful_state *s, char byte);

/* Can the unfinished word become an allowed one? Is it one already? */
bool faithful_may_go_on(const struct faithful *f, const struct faithful_state *s);
bool faithful_may_end(const struct faithful *f, const struct faithful_state *s);

/* Does the byte belong to a word? */
bool faithful_is_inside(char byte);

#endif
