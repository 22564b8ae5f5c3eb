/* A line of input read as a JSON object. */
#ifndef SINKD_STREAM_JSON_LINE_H
#define SINKD_STREAM_JSON_LINE_H

#include <jansson.h>
#include <stddef.h>

#include "base/buf.h"

/*
 * Parse line[len] as one JSON object (RFC 8259), white space around it
 * allowed. What the grammar allows and jansson cannot hold (numbers too large,
 * half a surrogate pair, a NUL in a member's name) is read from a copy in
 * scratch with that replaced; strings then hold U+FFFD there. Without scratch
 * it is refused.
 * Returns a new reference, or NULL with a sentence in reason, valid UTF-8.
 */
json_t *json_line_read(const char *line, size_t len, struct buf *scratch, char *reason, size_t size);

/* Say where text that is not allowed begins: invalid UTF-8 or a NUL. Returns true if all of it is allowed. */
bool json_line_check_bytes(const char *line, size_t len, char *reason, size_t size);

#endif
