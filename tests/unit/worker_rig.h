/* An engine thread on a tiny golden model, for tests: records go in, results come out. */
#ifndef SINKD_TESTS_WORKER_RIG_H
#define SINKD_TESTS_WORKER_RIG_H

#include "daemon/worker.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

enum { RECORDS = 64, FORK = 200 };

static struct worker_options options;
static int32_t block_room; /* for the pinned block */
static struct worker *worker;
static struct record records[RECORDS];
static char texts[RECORDS][64];

static __attribute__((unused)) int
start(void **state)
{
	static char path[4096];
	struct err e = {0};

	(void)state;
	snprintf(path, sizeof path, "%s/tests/golden/llama-gqa/model.gguf", getenv("SRC"));
	context_options_init(&options.stream.context);
	options.stream.context.device = "cpu";
	options.stream.model = path;
	options.stream.context.window = 60;
	options.stream.context.fork_tokens = FORK;
	options.stream.context.threads = 1;
	options.stream.context.block = block_room;
	options.key = "\"sinkd\"";
	options.records = RECORDS;
	if ((worker = worker_new(&options, &e)) == NULL)
		fail_msg("%s", e.text);
	return worker_start(worker, &e);
}

static __attribute__((unused)) int
stop(void **state)
{
	(void)state;
	worker_free(worker);
	worker = NULL;
	return 0;
}

static __attribute__((unused)) void
restart(void)
{
	stop(NULL);
	start(NULL);
}

static __attribute__((unused)) void
submit(int i)
{
	int n = snprintf(texts[i], sizeof texts[i], "unit %d: line %d of the stream\n", i % 5, i * i);

	records[i] = (struct record){.type = RECORD_EVENT, .seq = i + 1, .time = 1000 * i, .text = texts[i],
		.text_len = (size_t)n};
	worker_submit(worker, &records[i]);
}

static __attribute__((unused)) void
wait_for(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (poll(&p, 1, 20000) != 1)
		fail_msg("nothing came within 20 seconds");
}

static __attribute__((unused)) struct result
collect(bool reply)
{
	struct result r;

	for (;;) {
		if (reply ? worker_collect_reply(worker, &r) : worker_collect(worker, &r))
			return r;
		wait_for(reply ? worker_get_reply_fd(worker) : worker_get_fd(worker));
		if (reply)
			worker_clear_replies(worker);
		else
			worker_clear(worker);
	}
}

static __attribute__((unused)) void
collect_records(int from, int to)
{
	for (int i = from; i < to; i++) {
		struct result r = collect(false);

		assert_int_equal(r.type, RESULT_RECORD);
		assert_ptr_equal(r.record, &records[i]);
	}
}

/* A stream that has read nothing refuses questions. */
static __attribute__((unused)) void
read_something(void)
{
	submit(0);
	collect_records(0, 1);
}

static __attribute__((unused)) struct request *
make_question(const char *text, int max_tokens)
{
	struct request *q = request_new(REQUEST_ASK);

	assert_non_null(q);
	q->id = strdup("\"a\"");
	q->text = strdup(text);
	q->text_len = strlen(text);
	q->reply.max_tokens = max_tokens;
	return q;
}

/* The object in the next line of the request. */
static __attribute__((unused)) json_t *
collect_line(const struct request *q, bool reply)
{
	struct result r = collect(reply);
	json_t *line, *inner;

	assert_int_equal(r.type, RESULT_LINE);
	assert_ptr_equal(r.request, q);
	assert_int_equal(r.line[r.len - 1], '\n');
	assert_null(memchr(r.line, '\n', r.len - 1));
	line = json_loadb(r.line, r.len, JSON_ALLOW_NUL, NULL);
	assert_non_null(line);
	free(r.line);
	inner = json_incref(json_object_get(line, "sinkd"));
	assert_non_null(inner);
	json_decref(line);
	return inner;
}

static __attribute__((unused)) void
collect_done(struct request *q, bool reply)
{
	struct result r = collect(reply);

	assert_int_equal(r.type, RESULT_DONE);
	assert_ptr_equal(r.request, q);
	request_free(q);
}

static __attribute__((unused)) const char *
get_text(const json_t *line, const char *name)
{
	const char *s = json_string_value(json_object_get(line, name));

	assert_non_null(s);
	return s;
}

#endif
