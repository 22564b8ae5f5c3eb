/* Memory for the records in flight; see pool.h. Loop thread only. */
#include "daemon/input/pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { BYTES_LEAST = 4 << 20 };

struct slot {
	struct record record; /* first: a record's address is its slot's */
	size_t start;         /* of its bytes in the ring */
	double came;
};

struct pool {
	struct slot slots[POOL_RECORDS];
	size_t oldest, count;
	size_t marked; /* of the oldest ones, are not to be computed */
	size_t size; /* of bytes */
	size_t head; /* where free bytes begin; the oldest record's start is where they end */
	char *bytes;
};

struct pool *
pool_new(size_t largest, struct err *e)
{
	struct pool *p = calloc(1, sizeof *p);

	if (p == NULL)
		goto fail;
	p->size = 2 * largest > BYTES_LEAST ? 2 * largest : BYTES_LEAST;
	if ((p->bytes = malloc(p->size)) == NULL)
		goto fail;
	/* Touched now, so that memory does not seem to grow while the rings are filled for the first time. */
	memset(p->bytes, 0xff, BYTES_LEAST);
	memset(p->slots, 0xff, sizeof p->slots);
	return p;
fail:
	pool_free(p);
	err_set(e, EX_OSERR, "out of memory for lines of %zu bytes", largest);
	return NULL;
}

void
pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->count; i++)
		record_fini(&p->slots[(p->oldest + i) % POOL_RECORDS].record);
	free(p->bytes);
	free(p);
}

/* Where n bytes in one piece would begin, or SIZE_MAX. */
static size_t
find_room(const struct pool *p, size_t n)
{
	size_t tail;

	if (p->count == 0)
		return n <= p->size ? 0 : SIZE_MAX;
	tail = p->slots[p->oldest].start;
	if (p->head > tail) {
		if (n <= p->size - p->head)
			return p->head;
		return n < tail ? 0 : SIZE_MAX;
	}
	/* Wrapped; head == tail would look like empty bytes, so one is never used. */
	return n < tail - p->head ? p->head : SIZE_MAX;
}

bool
pool_has_room(const struct pool *p, size_t n)
{
	/* A record of no bytes at all takes one, so that starts tell records apart. */
	return p->count < POOL_RECORDS && find_room(p, n + 1) != SIZE_MAX;
}

struct record *
pool_take(struct pool *p, const struct record *r)
{
	struct slot *s = &p->slots[(p->oldest + p->count) % POOL_RECORDS];
	size_t n = record_get_size(r) + 1;

	assert(p->count < POOL_RECORDS);
	s->start = find_room(p, n);
	assert(s->start != SIZE_MAX);
	s->record = *r;
	s->came = clock_get_seconds();
	record_keep(&s->record, p->bytes + s->start);
	p->head = s->start + n;
	p->count++;
	return &s->record;
}

void
pool_release(struct pool *p, struct record *r)
{
	assert(p->count > 0 && r == &p->slots[p->oldest].record);
	record_fini(r);
	p->oldest = (p->oldest + 1) % POOL_RECORDS;
	p->count--;
	p->marked -= p->marked > 0;
}

void
pool_mark_skipped(struct pool *p)
{
	if (p->marked > 0)
		return;
	p->marked = p->count / 2;
	for (size_t i = 0; i < p->marked; i++)
		atomic_store(&p->slots[(p->oldest + i) % POOL_RECORDS].record.skip, true);
}

size_t
pool_get_count(const struct pool *p)
{
	return p->count;
}

double
pool_get_oldest(const struct pool *p)
{
	return p->count == 0 ? 0 : p->slots[p->oldest].came;
}
