/*
 * What a reply may be: JSON of a schema, or text that is faithful to the
 * stream, or both. With both, faithfulness applies to strings and numbers; keys
 * and the values of an enum come from the asker. The caller tries bytes on a
 * copy of the state.
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

/* Take bytes. Returns false if they are not allowed here; the caller then discards the state. */
bool constraint_feed(const struct constraint *c, struct constraint_state *s, const char *bytes, size_t len);

/* Can more bytes complete the text to an allowed one? Ask only while every constraint_feed returned true. */
bool constraint_may_go_on(const struct constraint *c, const struct constraint_state *s);

/* May the text be cut here? This does not ask whether its JSON is whole. */
bool constraint_may_cut(const struct constraint *c, const struct constraint_state *s);
/* May the text end here, with whole JSON if there is a schema? */
bool constraint_may_end(const struct constraint *c, const struct constraint_state *s);
/* Must it end here? True when the JSON value is whole and nothing may follow. */
bool constraint_must_end(const struct constraint *c, const struct constraint_state *s);

/* The next byte of the shortest completion of the JSON, or -1 if nothing is missing. */
int constraint_get_shortest(const struct constraint *c, const struct constraint_state *s);

#endif
