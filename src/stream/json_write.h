/*
 * Members of a JSON object, appended to a buf: each puts a comma before itself
 * unless it is the first. A name needs no escapes. And the envelope that every
 * line of ours has: {KEY:{"type":...}}.
 */
#ifndef SINKD_STREAM_JSON_WRITE_H
#define SINKD_STREAM_JSON_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* The name alone, with its colon; the value is the caller's to append. */
void json_write_name(struct buf *b, const char *name);

void json_write_string(struct buf *b, const char *name, const char *text, size_t len); /* valid UTF-8 */
void json_write_int(struct buf *b, const char *name, int64_t v);
void json_write_number(struct buf *b, const char *name, double v); /* six digits: float32 logits carry no more */
void json_write_raw(struct buf *b, const char *name, const char *json, size_t len);

/* key: the member's name as JSON, with its quotes. id: JSON, or NULL. Members and envelope_end follow. */
void envelope_begin(struct buf *b, const char *key, const char *type, const char *id);

/* The same as a further member of an object that is open; first: it is the object's only one. */
void envelope_join(struct buf *b, const char *key, const char *type, bool first);
void envelope_end(struct buf *b);

#endif
