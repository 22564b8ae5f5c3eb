/* What the model reads for an event. */
#ifndef SINKD_STREAM_RENDER_H
#define SINKD_STREAM_RENDER_H

#include <stddef.h>

#include "base/buf.h"

/*
 * Append "source: text\n", or "text\n" without a source (source_len 0).
 * Line ends at the end of text are dropped first; a text of white space alone
 * appends nothing. Both valid UTF-8.
 */
void render_event(struct buf *out, const char *source, size_t source_len, const char *text, size_t text_len);

#endif
