/*
 * What an answer may be: JSON of a schema, or text that is faithful to the
 * stream, or both: then strings and numbers are, and keys and the values of an
 * enum are the asker's own. Bytes are tried on a copy of the state.
 */
#ifndef SINKD_STREAM_CONSTRAINT_H
#define SINKD_STREAM_CONSTRAINT_H

#include "stream/faithful.h"
#include "stream/schema.h"

struct constraint {
	const struct schema *schema;     /* or NULL */
	const struct faithful *faithful; /* or NULL */
};

struct constraint_state {
	struct schema_state json;
	struct faithful_state words;
};

void constraint_begin(const struct constraint *c, struct constraint_state *s);

/* Take bytes. Returns false if they may not come here; the state is of no more use then. */
bool constraint_feed(const struct constraint *c, struct constraint_state *s, const char *bytes, size_t len);

/* Can what is there lead to a text that is allowed? It can where the bytes before were. */
bool constraint_may_go_on(const struct constraint *c, const struct constraint_state *s);

/* May the text end here, but for JSON that is not whole? And with it? And must it? */
bool constraint_may_cut(const struct constraint *c, const struct constraint_state *s);
bool constraint_may_end(const struct constraint *c, const struct constraint_state *s);
bool constraint_must_end(const struct constraint *c, const struct constraint_state *s);

/* The next byte of the shortest end, or -1 if nothing is missing. */
int constraint_get_shortest(const struct constraint *c, const struct constraint_state *s);

#endif
