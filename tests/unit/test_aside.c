/*
 * Forks that wait while the stream goes on, see context_suspend: the answer is
 * the one that an undisturbed fork gives, and the stream is the same, to the bit.
 */
#include "context_rig.h"

#include "base/buf.h"

enum { BEGIN = 90, ASKED = 9, ANSWER = 40, ROOM = 60, PINNED = 4 };

/* What a run gives. */
struct run {
	int32_t answer[ANSWER];
	float logits[VOCAB], nll[N];
	struct buf state;
};

static struct err e;

static struct context *
begin(enum policy policy)
{
	struct context_options o;

	context_options_init(&o);
	o.device = "cpu";
	o.threads = 1;
	o.policy = policy;
	o.sinks = policy == POLICY_SINK ? 3 : 0;
	o.window = 24;
	o.fork_tokens = ROOM;
	o.block = policy == POLICY_SINK ? PINNED : 0;
	return make(&o);
}

static int
add_bytes(void *to, const void *bytes, size_t n, struct err *err)
{
	(void)err;
	buf_add(to, bytes, n);
	return 0;
}

/* Feed the stream up to token `end`. In its midst a block is pinned and another fork is made and dropped. */
static void
go_on(struct context *c, enum policy policy, int from, int end, struct run *r)
{
	enum { PIN = 150, FORK = 200 };

	for (int i = from; i < end; i++) {
		if (i == PIN && policy == POLICY_SINK)
			assert_int_equal(context_pin(c, ids, PINNED, &e), 0);
		if (i == FORK) {
			assert_int_equal(context_fork(c, &e), 0);
			assert_int_equal(context_feed(c, ids, ROOM, NULL, &e), 0);
			context_rewind(c);
		}
		assert_int_equal(context_feed(c, &ids[i], 1, &r->nll[i], &e), 0);
	}
}

/* Ask after BEGIN tokens. pause: after so many tokens of the answer the stream goes on; 0: only when it is done. */
static struct run *
answer(enum policy policy, int pause, int step)
{
	struct context *c = begin(policy);
	struct run *r = calloc(1, sizeof *r);
	int at = BEGIN;

	assert_non_null(r);
	go_on(c, policy, 0, at, r);
	assert_int_equal(context_fork(c, &e), 0);
	assert_int_equal(context_feed(c, ids + 5, ASKED, NULL, &e), 0);
	for (int i = 0; i < ANSWER; i++) {
		if (pause > 0 && i % pause == 0) {
			assert_int_equal(context_suspend(c, &e), 0);
			assert_int_equal(context_suspend(c, &e), -1);
			go_on(c, policy, at, at + step < N ? at + step : N, r);
			at = at + step < N ? at + step : N;
			assert_int_equal(context_resume(c, &e), 0);
			assert_int_equal(context_resume(c, &e), -1);
		}
		assert_int_equal(context_get_likeliest(c, &r->answer[i], &e), 0);
		assert_int_equal(context_feed(c, &r->answer[i], 1, NULL, &e), 0);
	}
	assert_int_equal(context_get_logits(c, r->logits, &e), 0);
	context_rewind(c);
	go_on(c, policy, at, N, r);
	assert_int_equal(context_save(c, &(struct bytes_out){ add_bytes, &r->state }, &e), 0);
	context_free(c);
	return r;
}

static void
release(struct run *r)
{
	buf_fini(&r->state);
	free(r);
}

static void
test_answer_and_stream_do_not_disturb_each_other(void **state)
{
	static const int pauses[][2] = {{1, 1}, {1, 7}, {3, 20}, {7, 100}, {39, 210}, {100, 5}};

	(void)state;
	for (enum policy p = POLICY_SINK; p <= POLICY_RECOMPUTE; p++) {
		struct run *want = answer(p, 0, 0);

		for (size_t i = 0; i < sizeof pauses / sizeof *pauses; i++) {
			struct run *got = answer(p, pauses[i][0], pauses[i][1]);

			assert_memory_equal(want->answer, got->answer, sizeof want->answer);
			assert_memory_equal(want->logits, got->logits, sizeof want->logits);
			assert_memory_equal(want->nll + 1, got->nll + 1, sizeof want->nll - sizeof *want->nll);
			assert_int_equal(want->state.len, got->state.len);
			assert_memory_equal(want->state.data, got->state.data, want->state.len);
			release(got);
		}
		release(want);
	}
}

/* A fork that waits can be dropped, and another one can wait after it. */
static void
test_dropped_while_it_waits(void **state)
{
	(void)state;
	for (enum policy p = POLICY_SINK; p <= POLICY_RECOMPUTE; p++) {
		struct run *want = answer(p, 0, 0), *r = calloc(1, sizeof *r);
		struct context *c = begin(p);

		for (int i = 0; i < 3; i++) {
			go_on(c, p, i * 100, i * 100 + 50, r);
			assert_int_equal(context_fork(c, &e), 0);
			assert_int_equal(context_feed(c, ids, ROOM, NULL, &e), 0);
			assert_int_equal(context_suspend(c, &e), 0);
			go_on(c, p, i * 100 + 50, i * 100 + 100, r);
			if (i == 1)
				assert_int_equal(context_resume(c, &e), 0);
			context_rewind(c);
			assert_int_equal(context_resume(c, &e), -1);
			assert_int_equal(context_suspend(c, &e), -1);
		}
		assert_int_equal(context_save(c, &(struct bytes_out){ add_bytes, &r->state }, &e), 0);
		assert_memory_equal(want->nll + 1, r->nll + 1, sizeof want->nll - sizeof *want->nll);
		assert_memory_equal(want->state.data, r->state.data, want->state.len);
		/* A stream that begins anew has no fork. */
		assert_int_equal(context_fork(c, &e), 0);
		assert_int_equal(context_suspend(c, &e), 0);
		context_reset(c);
		assert_int_equal(context_resume(c, &e), -1);
		go_on(c, p, 0, N, r);
		assert_memory_equal(want->nll + 1, r->nll + 1, sizeof want->nll - sizeof *want->nll);
		context_free(c);
		release(want);
		release(r);
	}
}

/* What is kept is as if it had been fed; what has waited cannot be kept. */
static void
test_kept(void **state)
{
	(void)state;
	for (enum policy p = POLICY_SINK; p <= POLICY_RECOMPUTE; p++) {
		struct context *c = begin(p);
		struct run *want = calloc(1, sizeof *want), *got = calloc(1, sizeof *got);

		go_on(c, p, 0, N, want);
		context_reset(c);
		assert_false(context_keep(c));
		go_on(c, p, 0, 100, got);
		assert_int_equal(context_fork(c, &e), 0);
		assert_int_equal(context_feed(c, ids + 100, 40, got->nll + 100, &e), 0);
		assert_true(context_keep(c));
		go_on(c, p, 140, N, got);
		assert_memory_equal(want->nll + 1, got->nll + 1, sizeof want->nll - sizeof *want->nll);
		assert_int_equal(context_fork(c, &e), 0);
		assert_int_equal(context_suspend(c, &e), 0);
		assert_int_equal(context_resume(c, &e), 0);
		assert_false(context_keep(c));
		context_free(c);
		release(want);
		release(got);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answer_and_stream_do_not_disturb_each_other),
		cmocka_unit_test(test_dropped_while_it_waits),
		cmocka_unit_test(test_kept),
	};

	return cmocka_run_group_tests_name("aside", tests, setup, teardown);
}
