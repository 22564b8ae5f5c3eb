/*
 * JSON by schema, byte by byte: which byte may come next, and whether the
 * value is whole. A subset of JSON Schema: objects (all properties, in their
 * order), arrays, strings, numbers, booleans, null, enum and const. What is
 * accepted is valid JSON without control characters.
 */
#ifndef SINKD_STREAM_SCHEMA_H
#define SINKD_STREAM_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct schema;

enum { SCHEMA_DEPTH = 16 }; /* objects and arrays inside each other, the innermost value included */

/*
 * Keywords: type (one), properties, required, items, minItems, maxItems,
 * minLength, maxLength (characters), enum, const; and those that only describe.
 * Returns a schema to be freed with schema_free, or NULL with *e set
 * (EX_DATAERR, the sentence names what is not supported; EX_OSERR).
 */
struct schema *schema_new(const json_t *j, struct err *e);
void schema_free(struct schema *s);

/* One value on its way. A copy of it is a fork. */
struct schema_frame {
	int node;
	int at;     /* how far, see schema.c */
	int count;  /* properties, items or characters that are whole */
	bool space; /* one has been there already */
};
struct schema_state {
	const struct schema *schema;
	int depth;  /* 0: the value is whole, and nothing may follow */
	struct schema_frame frames[SCHEMA_DEPTH];
};

void schema_begin(struct schema_state *s, const struct schema *schema);

/* Take the next byte. Returns false if it is not allowed here; the caller then discards the state. */
bool schema_feed(struct schema_state *s, unsigned char byte);

/* Is the next byte one that the schema leaves open: of a string or of a number? */
bool schema_is_free(const struct schema_state *s);

/* Could the value end here? */
bool schema_is_whole(const struct schema_state *s);

/* The next byte on a shortest way to a whole value, or -1 if it is whole. */
int schema_get_shortest(const struct schema_state *s);

#endif
