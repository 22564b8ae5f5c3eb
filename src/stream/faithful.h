/*
 * Text that names nothing which the stream does not. A word is a run of
 * letters, digits and what joins them inside names and numbers (. : - / @ _).
 * It may be said if it, or a part between joints, stands in what the model can
 * see or in the question, whatever its case; and if it is ordinary: letters
 * only, lower case or a sentence's first word, and one token of the vocabulary.
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

/* Take the next byte. Returns false if it ends a word that may not be said. */
bool faithful_feed(const struct faithful *f, struct faithful_state *s, char byte);

/* Can the word that is not finished become one that may be said? Is it one already? */
bool faithful_may_go_on(const struct faithful *f, const struct faithful_state *s);
bool faithful_may_end(const struct faithful *f, const struct faithful_state *s);

/* Does the byte belong to a word? */
bool faithful_is_inside(char byte);

#endif
