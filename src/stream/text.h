/* Text on its way out: made valid UTF-8, and quoted as JSON. */
#ifndef SINKD_STREAM_TEXT_H
#define SINKD_STREAM_TEXT_H

#include <stddef.h>

#include "base/buf.h"

/* Append the bytes with each invalid sequence replaced by U+FFFD. */
void text_add_clean(struct buf *b, const char *bytes, size_t len);

/*
 * Append text (valid UTF-8) as a JSON string with its quotes. Control
 * characters, C1 ones and DEL included, are escaped: no terminal escape
 * leaves unescaped.
 */
void text_add_json(struct buf *b, const char *text, size_t len);

/* Drop from the end of s what snprintf left of a character that it cut. */
void text_drop_cut(char *s);

#endif
