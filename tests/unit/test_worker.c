/*
 * The engine thread: records in order, questions between them that leave no
 * trace, requests in the order of the stream, full queues, cancelling.
 */
#include "worker_rig.h"

#include <unistd.h>

static void
test_questions_leave_no_trace(void **state)
{
	double want[RECORDS];
	struct worker_counters c;

	(void)state;
	for (int i = 0; i < RECORDS; i++)
		submit(i);
	collect_records(0, RECORDS);
	for (int i = 0; i < RECORDS; i++)
		want[i] = records[i].score.nll;
	restart();
	for (int i = 0; i < RECORDS; i++) {
		struct request *q = make_question("what is new?", i % 9);

		q->reply.sample = (struct sample_options){.temperature = i % 3, .top_p = 0.9, .seed = (uint64_t)i};
		atomic_store(&q->cancelled, i % 7 == 0);
		if (i == 0)
			read_something();
		else
			submit(i);
		assert_true(worker_request(worker, q));
		json_decref(collect_line(q, true));
		collect_done(q, true);
		if (i > 0)
			collect_records(i, i + 1);
		assert_true(records[i].score.nll == want[i]);
	}
	worker_get_counters(worker, &c);
	assert_int_equal(c.replies, RECORDS);
	assert_true(c.evictions > 0 && c.evictions < c.position);
}

static void
test_pieces_make_the_answer(void **state)
{
	struct request *q = make_question("what happened?", 40);
	char text[4096] = "";
	json_t *line;
	int pieces = 0;

	(void)state;
	read_something();
	q->reply.stream = true;
	assert_true(worker_request(worker, q));
	while (strcmp(get_text(line = collect_line(q, true), "type"), "delta") == 0) {
		assert_string_equal(get_text(line, "id"), "a");
		strncat(text, get_text(line, "text"), sizeof text - strlen(text) - 1);
		pieces++;
		json_decref(line);
	}
	assert_string_equal(get_text(line, "type"), "reply");
	assert_string_equal(get_text(line, "text"), text);
	assert_true(pieces > 1);
	assert_int_equal(json_integer_value(json_object_get(line, "tokens")), 40);
	assert_string_equal(get_text(line, "end"), "length");
	json_decref(line);
	collect_done(q, true);
}

static void
test_long_question_is_refused(void **state)
{
	char text[2 * FORK];
	struct request *q;
	json_t *line;

	(void)state;
	read_something();
	memset(text, 'q', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	for (int i = 0; i < 2; i++) {
		q = make_question(i == 0 ? text : "short", 4);
		assert_true(worker_request(worker, q));
		line = collect_line(q, true);
		assert_string_equal(get_text(line, "type"), i == 0 ? "error" : "reply");
		if (i == 0)
			assert_string_equal(get_text(line, "fault"), "request");
		json_decref(line);
		collect_done(q, true);
	}
}

static void
test_answer_may_join_the_stream(void **state)
{
	struct worker_counters before, after;
	struct request *q = make_question("hello", 5);

	(void)state;
	q->reply.join = true;
	worker_get_counters(worker, &before);
	assert_true(worker_request(worker, q));
	json_decref(collect_line(q, true));
	collect_done(q, true);
	worker_get_counters(worker, &after);
	assert_true(after.position > before.position + 5);
}

static void
test_requests_in_order(void **state)
{
	struct request *q = make_question("now?", 3);

	(void)state;
	for (int i = 0; i < 20; i++)
		submit(i);
	assert_true(worker_submit_request(worker, q));
	for (int i = 20; i < 40; i++)
		submit(i);
	collect_records(0, 20);
	json_decref(collect_line(q, false));
	collect_done(q, false);
	collect_records(20, 40);
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
	assert_int_equal(q->failure.code, 0);
	hash = q->hash;
	request_free(q);
	return hash;
}

static void
test_hash_is_the_same_after_questions(void **state)
{
	uint64_t hash;

	(void)state;
	for (int i = 0; i < 20; i++)
		submit(i);
	collect_records(0, 20);
	hash = ask_hash();
	for (int i = 0; i < 50; i++) {
		struct request *q = make_question("and now?", 1 + i % 20);

		q->reply.sample = (struct sample_options){.temperature = i % 2, .top_p = 0.9, .seed = (uint64_t)i};
		q->reply.time_limit = i % 3;
		atomic_store(&q->cancelled, i % 7 == 0);
		assert_true(worker_request(worker, q));
		json_decref(collect_line(q, true));
		collect_done(q, true);
		assert_true(ask_hash() == hash);
	}
	submit(20);
	collect_records(20, 21);
	assert_true(ask_hash() != hash);
}

/* All records before a checkpoint are in it, and none after it. */
static void
test_checkpoint_in_order(void **state)
{
	char dir[] = "/tmp/test_worker.XXXXXX", command[64];
	struct request *q = request_new(REQUEST_CHECKPOINT);
	struct state_folder *folder;
	struct state *s = NULL;
	struct err e;
	double want[RECORDS];
	size_t len;

	(void)state;
	assert_non_null(mkdtemp(dir));
	stop(NULL);
	assert_non_null(folder = state_folder_open(dir, &e));
	options.folder = folder;
	start(NULL);
	q->blob = strdup("at 30");
	q->blob_len = 5;
	for (int i = 0; i < 30; i++)
		submit(i);
	assert_true(worker_submit_request(worker, q));
	for (int i = 30; i < RECORDS; i++)
		submit(i);
	collect_records(0, 30);
	collect_done(q, false);
	collect_records(30, RECORDS);
	for (int i = 30; i < RECORDS; i++)
		want[i] = records[i].score.nll;
	assert_int_equal(state_finish(folder, "{}", 2, &e), 0);
	assert_int_equal(state_open(folder, options.stream.model, &s, &e), 0);
	assert_memory_equal(state_get_blob(s, &len), "at 30", 5);
	options.state = s;
	restart();
	options.state = NULL;
	state_close(s);
	for (int i = 30; i < RECORDS; i++)
		submit(i);
	collect_records(30, RECORDS);
	for (int i = 30; i < RECORDS; i++)
		assert_true(records[i].score.nll == want[i]);
	snprintf(command, sizeof command, "rm -r %s", dir);
	assert_int_equal(system(command), 0);
	options.folder = NULL;
	restart();
	state_folder_close(folder);
}

static void
test_too_many_requests_are_refused(void **state)
{
	struct request *q = make_question("one too many", 1);
	struct err e = {0};
	int n = 0;

	/* Its thread has not started, so that nothing is served. */
	(void)state;
	stop(NULL);
	assert_non_null(worker = worker_new(&options, &e));
	while (worker_request(worker, q)) {
		q = make_question("one more", 1);
		assert_true(++n < 1000);
	}
	assert_int_equal(n, WORKER_REQUESTS);
	request_free(q);
}

/* As much as can be on its way, with a digest after every event, and nobody takes any of it. */
static void
test_questions_while_nobody_collects(void **state)
{
	struct request *q, *ordered[WORKER_REQUESTS];
	struct worker_counters c;

	(void)state;
	stop(NULL);
	options.digests.every = 1;
	start(NULL);
	for (int i = 0; i < RECORDS; i++)
		submit(i);
	for (int i = 0; i < WORKER_REQUESTS; i++) {
		ordered[i] = make_question("now?", 1);
		assert_true(worker_submit_request(worker, ordered[i]));
	}
	for (int tries = 0; worker_get_counters(worker, &c), c.waiting > 0; tries++) {
		assert_true(tries < 20000);
		usleep(1000);
	}
	q = make_question("what is new?", 5);
	assert_true(worker_request(worker, q));
	json_decref(collect_line(q, true));
	collect_done(q, true);
	for (int i = 0; i < RECORDS; i++) {
		collect_records(i, i + 1);
		json_decref(collect_line(NULL, false));
	}
	for (int i = 0; i < WORKER_REQUESTS; i++) {
		json_decref(collect_line(ordered[i], false));
		collect_done(ordered[i], false);
	}
	options.digests.every = 0;
}

/* The thread waits for the loop, and can be stopped while it does. */
static void
test_full_replies(void **state)
{
	struct request *q = NULL;

	(void)state;
	read_something();
	for (int i = 0; i < 10; i++) {
		q = make_question("go on", FORK - 20);
		q->reply.stream = true;
		assert_true(worker_request(worker, q));
	}
	for (int lines = 0; lines < 300; lines++) {
		struct result r = collect(true);

		result_drop(&r);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_questions_leave_no_trace, start, stop),
		cmocka_unit_test_setup_teardown(test_pieces_make_the_answer, start, stop),
		cmocka_unit_test_setup_teardown(test_long_question_is_refused, start, stop),
		cmocka_unit_test_setup_teardown(test_answer_may_join_the_stream, start, stop),
		cmocka_unit_test_setup_teardown(test_requests_in_order, start, stop),
		cmocka_unit_test_setup_teardown(test_hash_is_the_same_after_questions, start, stop),
		cmocka_unit_test_setup_teardown(test_checkpoint_in_order, start, stop),
		cmocka_unit_test_setup_teardown(test_too_many_requests_are_refused, start, stop),
		cmocka_unit_test_setup_teardown(test_questions_while_nobody_collects, start, stop),
		cmocka_unit_test_setup_teardown(test_full_replies, start, stop),
	};

	return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
