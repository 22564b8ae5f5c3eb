/*
 * Digests: they quote what was read and nothing else, come after the same
 * events however these were grouped, go on after a restart, and roll.
 */
#include "worker_rig.h"

enum { EVERY = 16, MAX_LINES = 16 };

/* The digests of a stream, in order, with the records around them collected. */
static char *digests[MAX_LINES];
static int n_digests;

static void
forget_digests(void)
{
	while (n_digests > 0)
		free(digests[--n_digests]);
}

static int
start_digests(void **state)
{
	options.digests = (struct worker_digests){.every = EVERY};
	block_room = 0;
	return start(state);
}

static int
stop_digests(void **state)
{
	forget_digests();
	options.digests = (struct worker_digests){0};
	block_room = 0;
	return stop(state);
}

/* Collect until the record `to` - 1 is there, and a digest behind it if one is due. */
static void
collect_all(int from, int to)
{
	for (int i = from; i < to; i++) {
		collect_records(i, i + 1);
		if ((i + 1) % EVERY == 0) {
			struct result r = collect(false);

			assert_int_equal(r.type, RESULT_LINE);
			assert_null(r.request);
			assert_true(n_digests < MAX_LINES);
			digests[n_digests++] = strndup(r.line, r.len);
			free(r.line);
		}
	}
}

static json_t *
parse(const char *line)
{
	json_t *j = json_loads(line, 0, NULL), *inner;

	assert_non_null(j);
	inner = json_incref(json_object_get(j, "sinkd"));
	json_decref(j);
	assert_string_equal(get_text(inner, "type"), "digest");
	return inner;
}

static int64_t
get_int(const json_t *j, const char *name)
{
	assert_true(json_is_integer(json_object_get(j, name)));
	return json_integer_value(json_object_get(j, name));
}

static void
test_quotes_what_was_read(void **state)
{
	(void)state;
	for (int i = 0; i < RECORDS; i++)
		submit(i);
	collect_all(0, RECORDS);
	assert_int_equal(n_digests, RECORDS / EVERY);
	for (int n = 0; n < n_digests; n++) {
		json_t *d = parse(digests[n]), *lines = json_object_get(d, "lines");
		int64_t last = 0;

		assert_string_equal(get_text(d, "style"), "extract");
		assert_int_equal(get_int(d, "number"), n + 1);
		assert_int_equal(get_int(d, "from"), n * EVERY + 1);
		assert_int_equal(get_int(d, "to"), n * EVERY + EVERY);
		assert_int_equal(get_int(d, "events"), EVERY);
		assert_in_range(json_array_size(lines), 1, DIGEST_LINES);
		for (size_t i = 0; i < json_array_size(lines); i++) {
			json_t *l = json_array_get(lines, i);
			int64_t seq = get_int(l, "seq");
			char *text = strndup(texts[seq - 1], strlen(texts[seq - 1]) - 1);

			assert_in_range(seq, n * EVERY + 1, n * EVERY + EVERY);
			assert_true(seq > last);
			last = seq;
			assert_string_equal(get_text(l, "text"), text);
			assert_true(get_int(l, "count") >= 1);
			free(text);
		}
		json_decref(d);
	}
}

/* "unit 3: line 9 of the stream": words with digits do not make another shape. */
static void
test_counts_shapes(void **state)
{
	static const char odd[] = "something else entirely\n";
	json_t *d, *lines;

	(void)state;
	for (int i = 0; i < EVERY; i++) {
		if (i == 5) {
			records[i] = (struct record){.type = RECORD_EVENT, .seq = i + 1, .text = odd,
			    .text_len = sizeof odd - 1};
			worker_submit(worker, &records[i]);
		} else
			submit(i);
	}
	collect_all(0, EVERY);
	d = parse(digests[0]);
	lines = json_object_get(d, "lines");
	assert_int_equal(get_int(d, "shapes"), 2);
	assert_int_equal(json_array_size(lines), 2);
	for (size_t i = 0; i < 2; i++) {
		json_t *l = json_array_get(lines, i);

		assert_int_equal(get_int(l, "count"), get_int(l, "seq") == 6 ? 1 : EVERY - 1);
	}
	json_decref(d);
}

/* One by one, with questions between, or all at once. */
static void
test_same_digests_however_grouped(void **state)
{
	char *want[MAX_LINES];
	int n;

	(void)state;
	for (int rolling = 0; rolling < 2; rolling++) {
		options.digests.rolling = rolling;
		block_room = rolling ? 48 : 0;
		restart();
		for (int i = 0; i < RECORDS; i++)
			submit(i);
		collect_all(0, RECORDS);
		memcpy(want, digests, sizeof want);
		n = n_digests;
		n_digests = 0;
		restart();
		for (int i = 0; i < RECORDS; i++) {
			struct request *q = make_question("well?", 3);

			submit(i);
			collect_all(i, i + 1);
			assert_true(worker_request(worker, q));
			json_decref(collect_line(q, true));
			collect_done(q, true);
		}
		assert_int_equal(n_digests, n);
		for (int i = 0; i < n; i++) {
			assert_string_equal(digests[i], want[i]);
			free(want[i]);
		}
		forget_digests();
	}
}

static void
test_rolling_digest_joins_the_stream(void **state)
{
	double plain[RECORDS];

	(void)state;
	for (int i = 0; i < RECORDS; i++)
		submit(i);
	collect_all(0, RECORDS);
	for (int i = 0; i < RECORDS; i++)
		plain[i] = records[i].score.nll;
	options.digests.rolling = true;
	block_room = 48;
	restart();
	for (int i = 0; i < RECORDS; i++)
		submit(i);
	collect_all(0, RECORDS);
	for (int i = 0; i < EVERY; i++)
		assert_true(records[i].score.nll == plain[i]);
	assert_true(records[EVERY].score.nll != plain[EVERY]);
}

/* A checkpoint between two digests, and a process that begins with it. */
static void
test_digests_go_on_after_a_restart(void **state)
{
	char dir[] = "/tmp/test_digest.XXXXXX", command[64];
	enum { AT = EVERY + EVERY / 2 };
	struct state_folder *folder;
	struct request *q;
	struct state *s;
	struct err e;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_non_null(folder = state_folder_open(dir, &e));
	options.folder = folder;
	options.digests.rolling = true;
	block_room = 48;
	restart();
	for (int i = 0; i < AT; i++)
		submit(i);
	collect_all(0, AT);
	q = request_new(REQUEST_CHECKPOINT);
	assert_true(worker_submit_request(worker, q));
	collect_done(q, false);
	assert_int_equal(state_finish(folder, "{}", 2, &e), 0);
	for (int i = AT; i < RECORDS; i++)
		submit(i);
	collect_all(AT, RECORDS);
	assert_int_equal(n_digests, 4);
	assert_int_equal(state_open(folder, options.stream.model, &s, &e), 0);
	options.state = s;
	restart();
	options.state = NULL;
	state_close(s);
	for (int i = AT; i < RECORDS; i++)
		submit(i);
	collect_all(AT, RECORDS);
	assert_int_equal(n_digests, 7);
	for (int i = 4; i < 7; i++)
		assert_string_equal(digests[i], digests[i - 3]);
	snprintf(command, sizeof command, "rm -r %s", dir);
	assert_int_equal(system(command), 0);
	options.folder = NULL;
	restart();
	state_folder_close(folder);
}

static json_t *
ask_digest(const struct digest_options *o)
{
	struct request *q = request_new(REQUEST_DIGEST);
	json_t *line;

	q->digest = *o;
	assert_true(worker_request(worker, q));
	line = collect_line(q, true);
	assert_string_equal(get_text(line, "type"), "digest");
	collect_done(q, true);
	return line;
}

static void
test_digest_on_request(void **state)
{
	struct digest_options o = {.since_seq = 9, .lines = 2};
	json_t *d;

	(void)state;
	for (int i = 0; i < 20; i++)
		submit(i);
	collect_all(0, 20);
	d = ask_digest(&o);
	assert_int_equal(get_int(d, "from"), 9);
	assert_int_equal(get_int(d, "to"), 20);
	assert_int_equal(get_int(d, "events"), 12);
	assert_in_range(json_array_size(json_object_get(d, "lines")), 1, 2);
	assert_null(json_object_get(d, "number"));
	json_decref(d);
	o.since_seq = 0;
	o.since_time = 17500;
	d = ask_digest(&o);
	assert_int_equal(get_int(d, "from"), 19);
	json_decref(d);
	o.since_seq = 1000;
	d = ask_digest(&o);
	assert_int_equal(get_int(d, "events"), 0);
	assert_null(json_object_get(d, "from"));
	json_decref(d);
	o = (struct digest_options){.style = DIGEST_WRITE, .reply = {.max_tokens = 20}};
	d = ask_digest(&o);
	assert_string_equal(get_text(d, "style"), "write");
	assert_true(strlen(get_text(d, "text")) > 0);
	json_decref(d);
	for (int i = 20; i < 32; i++)
		submit(i);
	collect_all(20, 32); /* those on schedule do not care */
	d = parse(digests[1]);
	assert_int_equal(get_int(d, "from"), 17);
	json_decref(d);
}

/* What the loop submits at the end of the input, or after some time. */
static void
test_digest_in_order(void **state)
{
	struct request *q[2];
	struct result r;
	json_t *d;

	(void)state;
	for (int i = 0; i < 5; i++)
		submit(i);
	for (int i = 0; i < 2; i++) {
		q[i] = request_new(REQUEST_DIGEST);
		q[i]->digest.scheduled = true;
		assert_true(worker_submit_request(worker, q[i]));
	}
	collect_records(0, 5);
	r = collect(false);
	assert_int_equal(r.type, RESULT_LINE);
	assert_null(r.request);
	r.line[r.len - 1] = '\0';
	d = parse(r.line);
	assert_int_equal(get_int(d, "events"), 5);
	json_decref(d);
	free(r.line);
	collect_done(q[0], false);
	collect_done(q[1], false); /* nothing had come since */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_quotes_what_was_read, start_digests, stop_digests),
		cmocka_unit_test_setup_teardown(test_counts_shapes, start_digests, stop_digests),
		cmocka_unit_test_setup_teardown(test_same_digests_however_grouped, start_digests, stop_digests),
		cmocka_unit_test_setup_teardown(test_rolling_digest_joins_the_stream, start_digests, stop_digests),
		cmocka_unit_test_setup_teardown(test_digests_go_on_after_a_restart, start_digests, stop_digests),
		cmocka_unit_test_setup_teardown(test_digest_on_request, start_digests, stop_digests),
		cmocka_unit_test_setup_teardown(test_digest_in_order, start_digests, stop_digests),
	};

	return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
