/* Scores of events and the lines they become; the tokenizer is a table of this test's own. */
#include "stream/annotate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "stream/fault.h"

static const char *const pieces[] = {"err", "or", ":", " par", "ity", "\n", "\xc3", "\xa9", " ", "zz", ""};

/* Stands for the engine's: test_annotate is linked without it. */
const char *
tokenizer_decode(struct tokenizer *t, int32_t id, bool special, bool first, size_t *len)
{
	(void)t, (void)special, (void)first;
	*len = strlen(pieces[id]);
	return pieces[id];
}

static struct record rec;
static struct buf out;

static void
score(const char *text, const int32_t *ids, const float *nll, size_t n)
{
	score_compute(&rec.score, NULL, text, strlen(text), ids, nll, n);
}

static const char *
written(void)
{
	buf_clear(&out);
	annotate_write(&out, &rec, "\"sinkd\"");
	buf_add(&out, "", 1);
	assert_false(out.failed);
	return out.data;
}

static void
start(const char *raw)
{
	memset(&rec, 0, sizeof rec);
	rec.seq = 17;
	rec.line = 20;
	rec.raw = raw;
	rec.raw_len = strlen(raw);
}

static void
peak_is(const char *word)
{
	assert_int_equal(rec.score.peak_len, strlen(word));
	assert_memory_equal(rec.score.peak, word, rec.score.peak_len);
}

static void
test_sums_and_peak(void **state)
{
	(void)state;
	start("{\"text\":\"error: parity\"");
	score("error: parity\n", (int32_t[]){0, 1, 2, 3, 4, 5}, (float[]){1, 2, 0.5f, 4, 0.25f, 9}, 6);
	assert_string_equal(written(), "{\"text\":\"error: parity\",\"sinkd\":{\"type\":\"event\",\"seq\":17,"
	    "\"tokens\":6,\"nll\":16.75,\"surprise\":2.79167,\"peak\":{\"text\":\"parity\",\"nll\":4}}}\n");
}

static void
test_members_that_stages_add(void **state)
{
	(void)state;
	start("{\"text\":\"error\"");
	score("error", (int32_t[]){0, 1}, (float[]){1, 2}, 2);
	buf_add_text(&rec.members, ",\"template\":3");
	buf_add_text(&rec.members, ",\"count\":12");
	assert_string_equal(written(), "{\"text\":\"error\",\"sinkd\":{\"type\":\"event\",\"seq\":17,\"tokens\":2,"
	    "\"nll\":3,\"surprise\":1.5,\"peak\":{\"text\":\"error\",\"nll\":2},\"template\":3,\"count\":12}}\n");
	record_fini(&rec);
}

static void
test_first_token_of_a_stream_is_left_out(void **state)
{
	(void)state;
	start("{");
	rec.bare = true;
	score("error", (int32_t[]){0, 1}, (float[]){NAN, 2}, 2);
	assert_string_equal(written(), "{\"sinkd\":{\"type\":\"event\",\"seq\":17,\"tokens\":2,\"scored\":1,\"nll\":2,"
	    "\"surprise\":2,\"peak\":{\"text\":\"error\",\"nll\":2}}}\n");
	score("err", (int32_t[]){0}, (float[]){NAN}, 1);
	assert_string_equal(written(), "{\"sinkd\":{\"type\":\"event\",\"seq\":17,\"tokens\":1,\"scored\":0,"
	    "\"reason\":\"the first token of a stream has no score\"}}\n");
}

static void
test_no_text_and_no_tokens(void **state)
{
	(void)state;
	start("{\"MESSAGE\":null");
	strcpy(rec.reason, "MESSAGE is null");
	assert_string_equal(written(), "{\"MESSAGE\":null,\"sinkd\":{\"type\":\"event\",\"seq\":17,\"tokens\":0,"
	    "\"reason\":\"MESSAGE is null\"}}\n");
	rec.reason[0] = '\0';
	score("\x04\n", NULL, NULL, 0);
	assert_non_null(strstr(written(),
	    "\"tokens\":0,\"reason\":\"the model's vocabulary has no token for this text\""));
}

static void
test_peak_at_odd_tokens(void **state)
{
	(void)state;
	start("{");
	/* Half a character: the word around it is whole. */
	score("x caf\xc3\xa9! y\n", (int32_t[]){6, 7, 5}, (float[]){1, 3, 2}, 3);
	peak_is("caf\xc3\xa9!");
	/* Bytes without a token are skipped. */
	score("err\x04or: z\n", (int32_t[]){0, 1, 2}, (float[]){1, 3, 2}, 3);
	peak_is("err\x04or:");
	/* White space cannot be the peak; nor can a token that is not in the text, or stands for nothing. */
	score("err \n", (int32_t[]){0, 8, 9, 10, 5}, (float[]){1, 3, 8, 9, 7}, 5);
	peak_is("err");
	assert_true(rec.score.peak_nll == 1);
	score(" \n", (int32_t[]){8, 5}, (float[]){1, 3}, 2);
	peak_is("");
	/* Rounding below zero. */
	score("err\n", (int32_t[]){0}, (float[]){-1e-7f}, 1);
	assert_true(rec.score.nll == 0);
	peak_is("err");
}

static void
test_peak_of_a_long_word_is_cut_between_characters(void **state)
{
	char text[400] = "";

	(void)state;
	start("{");
	for (int i = 0; i < 90; i++)
		strcat(text, "\xc3\xa9");
	strcat(text, "err");
	for (int i = 0; i < 90; i++)
		strcat(text, "\xc3\xa9");
	score(text, (int32_t[]){0}, (float[]){1}, 1);
	assert_true(rec.score.peak_len <= SCORE_PEAK_MAX && rec.score.peak_len >= SCORE_PEAK_MAX - 2);
	assert_true((unsigned char)rec.score.peak[0] == 0xc3);
	assert_memory_equal(rec.score.peak + rec.score.peak_len - 3, "err", 3);
}

static void
test_plain_text_is_quoted(void **state)
{
	static const char text[] = "\"a\\b\"\t\x1b[31m\x7f\xc2\x9b\xc2\xa0\xe2\x82\xac";
	json_t *j;

	(void)state;
	start(text);
	rec.wrap = true;
	assert_non_null(strstr(written(),
	    "{\"text\":\"\\\"a\\\\b\\\"\\t\\u001b[31m\\u007f\\u009b\xc2\xa0\xe2\x82\xac\",\"sinkd\":{\"type\":"));
	j = json_loads(written(), 0, NULL);
	assert_string_equal(json_string_value(json_object_get(j, "text")), text);
	json_decref(j);
}

static void
test_errors(void **state)
{
	(void)state;
	start("\xef\xbf\xbd\"");
	rec.type = RECORD_ERROR;
	strcpy(rec.reason, "bad");
	assert_string_equal(written(), "{\"sinkd\":{\"type\":\"error\",\"seq\":17,\"line\":20,\"fault\":\"input\","
	    "\"reason\":\"bad\",\"start\":\"\xef\xbf\xbd\\\"\"}}\n");
	rec.input = "a\nb";
	rec.server_fault = true;
	assert_non_null(strstr(written(), "\"seq\":17,\"input\":\"a\\nb\",\"line\":20,\"fault\":\"server\""));
}

/* Codes that users are shown as one differ inside, and none of them leaves the program. */
static void
test_whose_fault_an_error_is(void **state)
{
	static const struct {
		int code;
		enum fault fault;
		int status;
	} errors[] = {
		{EX_DATAERR, FAULT_REQUEST, EX_DATAERR}, {EX_NOPERM, FAULT_REQUEST, EX_NOPERM},
		{EX_TEMPFAIL, FAULT_SERVER, EX_TEMPFAIL}, {ERR_BUSY, FAULT_SERVER, EX_TEMPFAIL},
		{ERR_IN_USE, FAULT_SERVER, EX_TEMPFAIL}, {ERR_STOPPED, FAULT_SERVER, EX_TEMPFAIL},
		{EX_OSERR, FAULT_SERVER, EX_OSERR}, {0, FAULT_SERVER, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		assert_int_equal(fault_of_request(&(struct err){.code = errors[i].code}), errors[i].fault);
		assert_int_equal(fault_get_status(errors[i].code), errors[i].status);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums_and_peak),
		cmocka_unit_test(test_members_that_stages_add),
		cmocka_unit_test(test_first_token_of_a_stream_is_left_out),
		cmocka_unit_test(test_no_text_and_no_tokens),
		cmocka_unit_test(test_peak_at_odd_tokens),
		cmocka_unit_test(test_peak_of_a_long_word_is_cut_between_characters),
		cmocka_unit_test(test_plain_text_is_quoted),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_whose_fault_an_error_is),
	};
	int failed = cmocka_run_group_tests_name("annotate", tests, NULL, NULL);

	buf_fini(&out);
	return failed;
}
