/*
 * Forms of input objects: the journal's, containers', chats' and generic JSON.
 * A form is data: how it is known, and which members hold text and source.
 */
#ifndef SINKD_STREAM_FORM_H
#define SINKD_STREAM_FORM_H

#include <jansson.h>
#include <stddef.h>

#include "base/buf.h"

struct form {
	const char *name;
	/* An object is of this form if it has one of either list; an empty second list asks for nothing. */
	const char *any[4], *and_any[4];
	const char *text[4];   /* members that may hold the text, the first one with any wins */
	const char *source[4]; /* the same for the source */
};

/* The form's description by name ("journal", "container", "chat"), or NULL. */
const struct form *form_find(const char *name);

/* The form of an object by its members; the generic one if no other fits. */
const struct form *form_detect(const json_t *object);

/*
 * Append the text that the first of the named members holds: a string; an
 * array of strings and objects with a member "text", joined by newlines; or an
 * array of bytes. Invalid UTF-8 is replaced. Where there is none, nothing is
 * appended and reason tells why.
 */
void form_add_text(struct buf *out, const json_t *object, const char *const *names, char *reason, size_t size);

#endif
