/*
 * GGUF files made in memory for tests, right or wrong on purpose: a header,
 * then keys, then descriptions of tensors, then data, put one after the other.
 */
#ifndef SINKD_TESTS_GGUF_BUILD_H
#define SINKD_TESTS_GGUF_BUILD_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"

struct build {
	char bytes[1 << 16];
	size_t n;
};

static inline void
put(struct build *b, const void *bytes, size_t n)
{
	memcpy(b->bytes + b->n, bytes, n);
	b->n += n;
}

static inline void
put_u8(struct build *b, uint8_t v)
{
	put(b, &v, sizeof v);
}

static inline void
put_u32(struct build *b, uint32_t v)
{
	put(b, &v, sizeof v);
}

static inline void
put_u64(struct build *b, uint64_t v)
{
	put(b, &v, sizeof v);
}

static inline void
put_f32(struct build *b, float v)
{
	put(b, &v, sizeof v);
}

static inline void
put_string(struct build *b, const char *s)
{
	put_u64(b, strlen(s));
	put(b, s, strlen(s));
}

static inline void
put_header(struct build *b, uint64_t n_tensors, uint64_t n_keys)
{
	b->n = 0;
	put(b, "GGUF", 4);
	put_u32(b, 3);
	put_u64(b, n_tensors);
	put_u64(b, n_keys);
}

/* What follows is the value. */
static inline void
put_key(struct build *b, const char *key, uint32_t type)
{
	put_string(b, key);
	put_u32(b, type);
}

/* What follows are n elements. */
static inline void
put_array(struct build *b, const char *key, uint32_t type, uint64_t n)
{
	put_key(b, key, GGUF_ARRAY);
	put_u32(b, type);
	put_u64(b, n);
}

static inline void
put_string_key(struct build *b, const char *key, const char *value)
{
	put_key(b, key, GGUF_STRING);
	put_string(b, value);
}

/* A matrix [rows][cols]. */
static inline void
put_tensor(struct build *b, const char *name, uint64_t cols, uint64_t rows, uint32_t type, uint64_t offset)
{
	put_string(b, name);
	put_u32(b, 2);
	put_u64(b, cols);
	put_u64(b, rows);
	put_u32(b, type);
	put_u64(b, offset);
}

/* Zeros up to a multiple of alignment, then n more. */
static inline void
put_data(struct build *b, size_t alignment, size_t n)
{
	for (; b->n % alignment != 0;)
		put_u8(b, 0);
	memset(b->bytes + b->n, 0, n);
	b->n += n;
}

/* Open a copy of the first n bytes that ends where they end, so that a sanitizer sees what reads beyond. */
static inline struct gguf *
open_build(const struct build *b, size_t n, void **copy, struct err *e)
{
	if (posix_memalign(copy, 32, n > 0 ? n : 1) != 0)
		abort();
	memcpy(*copy, b->bytes, n);
	return gguf_open_memory(*copy, n, "test", e);
}

#endif
