/* Whose request is served next, and how many may wait. */
#include "daemon/control/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Users that are neither the superuser nor whoever runs the tests. */
enum { ANN = 70001, BOB = 70002, CLEO = 70003 };

static struct turns *turns;
static struct err err;

static int
start(void **state)
{
	(void)state;
	turns = turns_new(&err);
	return turns == NULL;
}

static int
stop(void **state)
{
	(void)state;
	turns_free(turns);
	return 0;
}

/* A request whose number is kept as its length of text. Returns its refusal's code, or 0. */
static int
add(uid_t uid, uint64_t client, size_t number)
{
	struct request *q = request_new(REQUEST_ASK);

	assert_non_null(q);
	q->client = client;
	q->text_len = number;
	if (turns_add(turns, uid, q, &err) == 0)
		return 0;
	request_free(q);
	return err.code;
}

/* The number of the request that is served next; it is served. 0: there is none. */
static size_t
serve(void)
{
	struct request *q = turns_take(turns);
	size_t number = q == NULL ? 0 : q->text_len;

	if (q != NULL) {
		assert_null(turns_take(turns));
		turns_end(turns);
		request_free(q);
	}
	return number;
}

static void
test_users_take_turns_then_their_connections(void **state)
{
	static const size_t want[] = {1, 6, 3, 7, 5, 8, 2, 4, 0};

	(void)state;
	add(ANN, 1, 1);
	add(ANN, 1, 2);
	add(ANN, 2, 3);
	add(ANN, 2, 4);
	add(ANN, 3, 5);
	add(BOB, 4, 6);
	add(BOB, 4, 7);
	add(BOB, 4, 8);
	for (size_t i = 0; i < sizeof want / sizeof *want; i++)
		assert_int_equal(serve(), want[i]);
}

/* Also before the next request of the one who is being served. */
static void
test_who_comes_is_next(void **state)
{
	struct request *q;

	(void)state;
	for (size_t i = 1; i <= 8; i++)
		add(ANN, 1, i);
	q = turns_take(turns);
	add(ANN, 2, 20);
	add(BOB, 3, 30);
	turns_end(turns);
	request_free(q);
	assert_int_equal(serve(), 30);
	assert_int_equal(serve(), 20);
	assert_int_equal(serve(), 2);
}

static void
test_no_user_can_take_all_places(void **state)
{
	(void)state;
	for (size_t i = 0; i < TURNS_OF_USER; i++)
		assert_int_equal(add(ANN, i, 1), 0);
	assert_int_equal(add(ANN, 99, 1), EX_DATAERR);
	assert_non_null(strstr(err.text, "user 70001 has 16 requests waiting"));
	for (size_t i = 0; i < TURNS_OF_OWNER - TURNS_OF_USER; i++)
		assert_int_equal(add(0, 100 + i, 1), 0);
	/* What is left is for those who have none. */
	assert_int_equal(add(0, 200, 1), ERR_BUSY);
	for (uid_t i = 0; i < TURNS_KEPT; i++)
		assert_int_equal(add(BOB + i, 300 + i, 1), 0);
	assert_int_equal(add(BOB + TURNS_KEPT, 400, 1), ERR_BUSY);
	assert_int_equal(turns_get_waiting(turns), TURNS_PLACES);
}

static void
test_who_is_gone_leaves_its_places(void **state)
{
	struct request *q;

	(void)state;
	for (size_t i = 1; i <= TURNS_OF_USER; i++)
		add(ANN, 1 + i % 2, i);
	add(CLEO, 9, 50);
	q = turns_take(turns);
	assert_int_equal(q->text_len, 1);
	turns_drop(turns, 2);
	assert_true(atomic_load(&q->cancelled));
	/* What waits is the other connection's eight and Cleo's one. */
	assert_int_equal(turns_get_waiting(turns), TURNS_OF_USER / 2 + 1);
	turns_end(turns);
	request_free(q);
	turns_drop(turns, 1);
	assert_int_equal(serve(), 50);
	assert_int_equal(serve(), 0);
	assert_int_equal(add(ANN, 1, 1), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_users_take_turns_then_their_connections, start, stop),
		cmocka_unit_test_setup_teardown(test_who_comes_is_next, start, stop),
		cmocka_unit_test_setup_teardown(test_no_user_can_take_all_places, start, stop),
		cmocka_unit_test_setup_teardown(test_who_is_gone_leaves_its_places, start, stop),
	};

	return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
