/* Records in flight: bounded, kept intact, released in order; and the queue that carries them. */
#include "daemon/input/pool.h"
#include "daemon/queue.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct err e;

static struct record
make(char *bytes, size_t raw, size_t text)
{
	return (struct record){.raw = bytes, .raw_len = raw, .text = bytes + raw, .text_len = text};
}

/* Records of pseudo-random sizes go through, as many at once as fit; every byte must come out as it went in. */
static void
test_records_keep_their_bytes(void **state)
{
	enum { LARGEST = 3 << 20 };
	static struct { struct record *r; unsigned char fill; } ring[POOL_RECORDS];
	struct pool *p = pool_new(LARGEST, &e);
	char *bytes = malloc(LARGEST);
	uint32_t seed = 1;
	unsigned taken = 0, released = 0, most = 0;

	(void)state;
	assert_non_null(p);
	while (released < 5000) {
		size_t n, raw;

		seed = seed * 1664525 + 1013904223;
		n = seed >> 8 & (seed >> 28 == 0 ? 0x1fffff : 0x1fff);
		raw = n / 3;
		while (!pool_has_room(p, n)) {
			struct record *r = ring[released % POOL_RECORDS].r;
			unsigned char fill = ring[released++ % POOL_RECORDS].fill;

			for (size_t i = 0; i < r->raw_len; i++)
				assert_true((unsigned char)r->raw[i] == fill);
			for (size_t i = 0; i < r->text_len; i++)
				assert_true((unsigned char)r->text[i] == fill);
			pool_release(p, r);
		}
		memset(bytes, (int)(taken & 0xff), n);
		struct record r = make(bytes, raw, n - raw);
		ring[taken % POOL_RECORDS].fill = (unsigned char)(taken & 0xff);
		ring[taken++ % POOL_RECORDS].r = pool_take(p, &r);
		most = taken - released > most ? taken - released : most;
	}
	assert_true(most > 100);
	pool_free(p);
	free(bytes);
}

static void
test_pool_is_bounded(void **state)
{
	struct pool *p = pool_new(1000, &e);
	struct record empty = {0}, *first = NULL;

	(void)state;
	for (int i = 0; i < POOL_RECORDS; i++) {
		struct record *r;

		assert_true(pool_has_room(p, 0));
		r = pool_take(p, &empty);
		first = i == 0 ? r : first;
	}
	assert_false(pool_has_room(p, 0));
	pool_release(p, first);
	assert_true(pool_has_room(p, 0));
	assert_int_equal(pool_get_count(p), POOL_RECORDS - 1);
	pool_free(p);
}

static void *
pop_all(void *arg)
{
	struct queue *q = arg;

	for (uintptr_t expected = 1; expected <= 100000;) {
		uintptr_t item;

		if (!queue_pop(q, &item))
			queue_wait(q);
		else if (item != expected++)
			return q;
	}
	return NULL;
}

static void
test_queue_carries_all_in_order(void **state)
{
	struct queue *q = queue_new(7, sizeof(uintptr_t), &e);
	atomic_bool stopping = false;
	pthread_t thread;
	void *wrong;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, pop_all, q), 0);
	for (uintptr_t i = 1; i <= 50000; i += queue_push(q, &i))
		assert_true(queue_get_count(q) <= 7);
	for (uintptr_t i = 50001; i <= 100000; i++)
		assert_true(queue_push_wait(q, &i, &stopping));
	pthread_join(thread, &wrong);
	assert_null(wrong);
	assert_int_equal(queue_get_count(q), 0);
	queue_free(q);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records_keep_their_bytes),
		cmocka_unit_test(test_pool_is_bounded),
		cmocka_unit_test(test_queue_carries_all_in_order),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
