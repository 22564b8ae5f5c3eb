/*
 * Answers are made in turns with the records: neither waits for the end of the
 * other, and neither changes the other. While nobody collects the pieces of an
 * answer the engine thread stands still in its midst, so that a test knows
 * where it is.
 */
#include "worker_rig.h"

#include <unistd.h>

enum { LONG = FORK - 20, BEFORE = 10, ALL = 40, TURN = 16 };

/* Wait until the engine thread stands still. */
static void
settle(void)
{
	struct worker_counters c;
	int64_t before = -1;

	for (worker_get_counters(worker, &c); c.steps != before; worker_get_counters(worker, &c)) {
		before = c.steps;
		usleep(200000);
	}
}

static struct request *
ask(void (*change)(struct reply_options *o))
{
	struct request *q = make_question("what is new?", LONG);

	q->reply.stream = true;
	if (change != NULL)
		change(&q->reply);
	assert_true(worker_request(worker, q));
	return q;
}

/* Make room for n results. */
static void
pass_over(int n)
{
	for (int i = 0; i < n; i++) {
		struct result r = collect(true);

		result_drop(&r);
	}
}

static void
pass_to_end(const struct request *q)
{
	struct result r;
	bool end;

	do {
		r = collect(true);
		end = r.type == RESULT_DONE && r.request == q;
		result_drop(&r);
	} while (!end);
}

/* Collect a request's lines up to its end; returns its answer's text, heap. */
static char *
collect_answer(struct request *q)
{
	json_t *line = NULL;
	char *text;

	do {
		json_decref(line);
		line = collect_line(q, true);
	} while (strcmp(get_text(line, "type"), "delta") == 0);
	assert_string_equal(get_text(line, "type"), "reply");
	text = strdup(get_text(line, "text"));
	json_decref(line);
	collect_done(q, true);
	return text;
}

static uint64_t
ask_hash(void)
{
	struct request *q = request_new(REQUEST_HASH);
	struct result r;
	uint64_t hash;

	assert_true(worker_request(worker, q));
	r = collect(true);
	assert_int_equal(r.type, RESULT_DONE);
	hash = q->hash;
	request_free(q);
	return hash;
}

static void
test_records_wait_for_a_part_of_an_answer_only(void **state)
{
	enum { MANY = 12 };
	struct request *q[2];

	(void)state;
	stop(NULL);
	options.digests.every = 1; /* so that every record is a group of its own */
	start(NULL);
	submit(0);
	collect_records(0, 1);
	json_decref(collect_line(NULL, false));
	for (int i = 0; i < 2; i++)
		q[i] = ask(NULL);
	settle();
	for (int i = 1; i < MANY; i++)
		submit(i);
	for (int i = 1; i < MANY; i++) {
		/*
		 * There is room for so many more pieces now: the engine thread comes to the end of the answer's turn.
		 */
		pass_over(TURN + 2);
		collect_records(i, i + 1);
		json_decref(collect_line(NULL, false));
	}
	pass_to_end(q[1]);
	options.digests.every = 0;
}

static void
choose_at_random(struct reply_options *o)
{
	o->sample = (struct sample_options){.temperature = 1, .top_p = 0.95, .seed = 7};
}

static void
be_faithful(struct reply_options *o)
{
	o->faithful = true;
	o->sample = (struct sample_options){.temperature = 1, .top_p = 1, .seed = 8};
}

/* Records are computed while the second of two answers is made, or, undisturbed, after it. Returns its text. */
static char *
run(void (*change)(struct reply_options *o), bool disturbed, double nll[ALL], uint64_t *hash)
{
	struct request *q[2];
	char *text;

	restart();
	for (int i = 0; i < BEFORE; i++)
		submit(i);
	collect_records(0, BEFORE);
	for (int i = 0; i < 2; i++)
		q[i] = ask(i == 0 ? NULL : change);
	settle();
	for (int i = BEFORE; i < ALL && disturbed; i++)
		submit(i);
	if (disturbed) {
		pass_over(3 * (TURN + 1)); /* they are three groups at most */
		collect_records(BEFORE, ALL);
	}
	free(collect_answer(q[0]));
	text = collect_answer(q[1]);
	for (int i = BEFORE; i < ALL && !disturbed; i++)
		submit(i);
	if (!disturbed)
		collect_records(BEFORE, ALL);
	for (int i = 0; i < ALL; i++)
		nll[i] = records[i].score.nll;
	*hash = ask_hash();
	return text;
}

static void
test_answers_and_records_do_not_change_each_other(void **state)
{
	static void (*const changes[])(struct reply_options *o) = {NULL, choose_at_random, be_faithful};

	(void)state;
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		double want_nll[ALL], got_nll[ALL];
		uint64_t want_hash, got_hash;
		char *want = run(changes[i], false, want_nll, &want_hash);
		char *got = run(changes[i], true, got_nll, &got_hash);

		assert_string_equal(got, want);
		assert_memory_equal(got_nll, want_nll, sizeof want_nll);
		assert_true(got_hash == want_hash);
		free(want);
		free(got);
	}
}

static void
join_stream(struct reply_options *o)
{
	o->join = true;
}

/* An answer that joins the stream is the same, and comes behind the records that did not wait for it. */
static void
test_joined_answers_come_behind(void **state)
{
	double nll[ALL], unasked[ALL];
	struct worker_counters want, got;
	uint64_t hashes[2];
	char *answers[2];

	(void)state;
	free(run(NULL, false, unasked, &hashes[0]));
	answers[0] = run(join_stream, false, nll, &hashes[0]);
	worker_get_counters(worker, &want);
	answers[1] = run(join_stream, true, nll, &hashes[1]);
	worker_get_counters(worker, &got);
	assert_string_equal(answers[0], answers[1]);
	assert_memory_equal(nll, unasked, sizeof nll);
	assert_int_equal(got.position, want.position);
	assert_true(hashes[0] != hashes[1]);
	free(answers[0]);
	free(answers[1]);
}

/* A short request does not wait for an answer, and a cancelled answer does not go on. */
static void
test_a_hash_waits_for_a_part_of_an_answer_only(void **state)
{
	struct request *q[2], *hash = request_new(REQUEST_HASH);
	struct result r;

	(void)state;
	submit(0);
	collect_records(0, 1);
	for (int i = 0; i < 2; i++)
		q[i] = ask(NULL);
	settle();
	assert_true(worker_request(worker, hash));
	for (r = collect(true); r.type == RESULT_LINE || r.request == q[0]; r = collect(true))
		result_drop(&r);
	assert_ptr_equal(r.request, hash);
	request_free(hash);
	atomic_store(&q[1]->cancelled, true);
	free(collect_answer(q[1]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_records_wait_for_a_part_of_an_answer_only, start, stop),
		cmocka_unit_test_setup_teardown(test_answers_and_records_do_not_change_each_other, start, stop),
		cmocka_unit_test_setup_teardown(test_joined_answers_come_behind, start, stop),
		cmocka_unit_test_setup_teardown(test_a_hash_waits_for_a_part_of_an_answer_only, start, stop),
	};

	return cmocka_run_group_tests_name("answers", tests, NULL, NULL);
}
