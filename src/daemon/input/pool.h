/*
 * Memory for the records on their way through the program: a fixed number of
 * records and a fixed ring of bytes, both taken and released in stream order.
 * Whoever finds it full stops reading: this is what bounds the program.
 */
#ifndef SINKD_DAEMON_POOL_H
#define SINKD_DAEMON_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "stream/record.h"

enum { POOL_RECORDS = 1024 };

struct pool;

/* largest: bytes that one record may need. Returns NULL with *e set (EX_OSERR). */
struct pool *pool_new(size_t largest, struct err *e);
void pool_free(struct pool *p);

/* Is there room for one more record of at most n bytes? There always is when the pool is empty and n <= largest. */
bool pool_has_room(const struct pool *p, size_t n);

/* A copy of *r with its bytes, which pool_has_room was asked for. It stays where it is until released. */
struct record *pool_take(struct pool *p, const struct record *r);

/* r must be the oldest one taken. */
void pool_release(struct pool *p, struct record *r);

/*
 * Of the records that wait the older half is not to be computed, so that
 * there is room soon. Does nothing while some that were marked are there.
 */
void pool_mark_skipped(struct pool *p);

size_t pool_get_count(const struct pool *p);

/* When the oldest record came, as clock_get_seconds; 0: there is none. */
double pool_get_oldest(const struct pool *p);

#endif
