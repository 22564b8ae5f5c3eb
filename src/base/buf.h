/*
 * A growing run of bytes. Running out of memory is remembered instead of
 * reported by every call: what is appended afterwards is lost, `failed` stays
 * set until buf_clear, and the owner checks it once at the end.
 */
#ifndef SINKD_BASE_BUF_H
#define SINKD_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

/* All zero: empty. data is not NUL-terminated. */
struct buf {
	char *data;
	size_t len, cap;
	bool failed;
};

/* Release the memory; the buf is empty and usable afterwards. */
void buf_fini(struct buf *b);

/* Forget the bytes and the failure, keep the memory. */
void buf_clear(struct buf *b);

/* Give back memory beyond keep bytes, as far as the bytes held allow. */
void buf_trim(struct buf *b, size_t keep);

/* Room for n more bytes at the end: where they go, to be counted into len by the caller; or NULL (failed is set). */
char *buf_reserve(struct buf *b, size_t n);

void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_add_text(struct buf *b, const char *text);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Drop the first n bytes. */
void buf_consume(struct buf *b, size_t n);

#endif
