/* Lines become records: forms, traps of the journal, bad lines, odd but valid JSON. */
#include "stream/reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"

static struct reader_options options = {.key = "sinkd", .max_line = 1 << 20};
static struct reader *reader;
static enum reader_format input_format;
static struct record rec;
static struct err err;

static void
start(enum reader_format format)
{
	reader_free(reader);
	input_format = format;
	reader = reader_new(&options);
	assert_non_null(reader);
}

static int
read_bytes(const char *data, size_t len)
{
	struct line line = {.data = data, .len = len, .number = 7};
	int rc = reader_read(reader, &input_format, &line, &rec, &err);

	assert_true(rc >= 0);
	if (rc > 0) {
		assert_int_equal(rec.line, 7);
		assert_true(utf8_is_valid(rec.text, rec.text_len));
		assert_true(utf8_is_valid(rec.reason, strlen(rec.reason)));
	}
	return rc;
}

static int
read_line(const char *line)
{
	return read_bytes(line, strlen(line));
}

/* The line is an event of which the model reads text. */
static void
reads(const char *line, const char *text)
{
	assert_int_equal(read_line(line), 1);
	if (rec.type != RECORD_EVENT)
		fail_msg("%s: %s", line, rec.reason);
	assert_int_equal(rec.text_len, strlen(text));
	assert_memory_equal(rec.text, text, rec.text_len);
	assert_memory_equal(rec.raw, line, rec.raw_len);
}

/* The line is an event without text, for this reason. */
static void
reads_nothing(const char *line, const char *reason)
{
	assert_int_equal(read_line(line), 1);
	assert_int_equal(rec.type, RECORD_EVENT);
	assert_int_equal(rec.text_len, 0);
	assert_string_equal(rec.reason, reason);
}

static void
refuses(const char *line, size_t len, const char *reason)
{
	assert_int_equal(read_bytes(line, len), 1);
	assert_int_equal(rec.type, RECORD_ERROR);
	if (strstr(rec.reason, reason) == NULL)
		fail_msg("'%s' does not hold '%s'", rec.reason, reason);
	assert_true(utf8_is_valid(rec.raw, rec.raw_len));
}

static void
test_journal(void **state)
{
	(void)state;
	start(READER_AUTO);
	reads("{\"MESSAGE\":\"hello\",\"SYSLOG_IDENTIFIER\":\"sshd\",\"_SYSTEMD_UNIT\":\"ssh.service\"}",
	    "sshd: hello\n");
	reads("{\"_COMM\":\"cron\",\"_SYSTEMD_UNIT\":\"x\",\"MESSAGE\":\"a\\u0007b\\n\"}", "cron: a\ab\n");
	reads("{\"_SYSTEMD_UNIT\":\"x.service\",\"MESSAGE\":\"a\"}", "x.service: a\n");
	reads("{\"MESSAGE\":[\"one\",\"two\"],\"SYSLOG_IDENTIFIER\":[\"a\",\"b\"]}", "a: one\ntwo\n");
	reads("{\"MESSAGE\":[104,105,255,10]}", "hi\xef\xbf\xbd\n");
	reads("{\"MESSAGE\":[\"one\",[194,162],null,\"\",\"two\"]}", "one\n\xc2\xa2\ntwo\n");
	reads("{\"SYSLOG_IDENTIFIER\":[98,255],\"MESSAGE\":\"x\"}", "b\xef\xbf\xbd: x\n");
	reads_nothing("{\"MESSAGE\":null,\"__CURSOR\":\"s=1\"}", "MESSAGE is null");
	reads_nothing("{\"MESSAGE\":\"\"}", "MESSAGE is empty");
	reads_nothing("{\"MESSAGE\":\" \\n\"}", "the text is white space");
	reads_nothing("{\"MESSAGE\":[]}", "MESSAGE is not text");
	reads_nothing("{\"MESSAGE\":[1,2,256]}", "MESSAGE is not text");
	reads_nothing("{\"MESSAGE\":[1,-99999999999999999999]}", "MESSAGE is not text");
	reads_nothing("{\"MESSAGE\":{\"text\":\"x\"}}", "MESSAGE is not text");
	reads_nothing("{\"__REALTIME_TIMESTAMP\":\"1\",\"text\":\"x\"}", "there is no member MESSAGE");
}

static void
test_other_forms(void **state)
{
	(void)state;
	start(READER_AUTO);
	reads("{\"log\":\"GET /\\r\\n\",\"stream\":\"stdout\",\"time\":\"t\"}", "stdout: GET /\n");
	reads("{\"log\":\"GET /\",\"container_name\":\"/web\",\"stream\":\"stdout\"}", "/web: GET /\n");
	reads("{\"ts\":\"t\",\"from\":\"Grad A\",\"text\":\"Hey ,\"}", "Grad A: Hey ,\n");
	reads("{\"role\":\"user\",\"content\":\"hi\"}", "user: hi\n");
	reads("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"},{\"type\":\"image\"}]}",
	    "user: hi\n");
	reads_nothing("{\"role\":\"assistant\",\"content\":null}", "content is null");
	reads("{\"msg\":\"m\"}", "m\n");
	reads("{\"text\":null,\"message\":\"m\",\"logger\":\"l\",\"log\":\"no\"}", "l: m\n");
	reads(" {\"text\" : \"m\" } \r", "m\n");
	assert_int_equal(rec.raw_len, strlen(" {\"text\" : \"m\" "));
	reads_nothing("{\"text\":5}", "text is not text");
	reads_nothing("{}", "there is no member text, message or msg");
	assert_true(rec.bare);

	start(READER_CHAT);
	reads_nothing("{\"log\":\"x\",\"stream\":\"stdout\"}", "there is no member text or content");
	start(READER_JOURNAL);
	reads_nothing("{\"text\":\"x\"}", "there is no member MESSAGE");
}

static void
test_named_fields(void **state)
{
	(void)state;
	options.text_field = "body";
	options.source_field = "who";
	start(READER_AUTO);
	reads("{\"MESSAGE\":\"no\",\"body\":\"yes\",\"who\":\"me\"}", "me: yes\n");
	reads_nothing("{\"MESSAGE\":\"no\"}", "there is no member body");
	options.source_field = NULL;
	start(READER_AUTO);
	reads("{\"MESSAGE\":\"no\",\"body\":\"yes\",\"_COMM\":\"me\"}", "me: yes\n");
	options.text_field = NULL;
}

static void
test_plain(void **state)
{
	(void)state;
	start(READER_AUTO);
	assert_int_equal(read_line("  \t"), 0);
	reads("Jan  1 kernel: up\r", "Jan  1 kernel: up\n");
	assert_true(rec.wrap);
	assert_int_equal(rec.raw_len, strlen("Jan  1 kernel: up"));
	reads("{\"text\":\"still plain\"}", "{\"text\":\"still plain\"}\n");
	reads_nothing("", "the line is blank");
	refuses("a\0b", 3, "NUL at byte 2");
	refuses("ab\xff", 3, "not valid UTF-8 at byte 3");
	start(READER_PLAIN);
	reads_nothing(" \r", "the line is blank");
	options.key = "text";
	start(READER_PLAIN);
	refuses("x", 1, "already has a member text, choose another name by --key");
	options.key = "sinkd";
}

static void
test_format_is_decided_once(void **state)
{
	(void)state;
	start(READER_AUTO);
	assert_int_equal(read_line(""), 0);
	reads(" {\"text\":\"x\"}", "x\n");
	refuses("plain now", 9, "not JSON");
	assert_int_equal(read_line(" \r"), 0);
	reads("{\"text\":\"x\"}", "x\n");
	start(READER_JSON);
	refuses("plain", 5, "not JSON");
}

static void
test_byte_order_mark_belongs_to_no_line(void **state)
{
	struct line line = {.data = "\xef\xbb\xbf{\"msg\":\"x\"}", .len = 14, .number = 1};

	(void)state;
	start(READER_AUTO);
	assert_int_equal(reader_read(reader, &input_format, &line, &rec, &err), 1);
	assert_int_equal(rec.type, RECORD_EVENT);
	assert_int_equal(rec.raw[0], '{');
}

static void
test_bad_lines(void **state)
{
	static char deep[9000];
	struct line cut = {.data = "abc", .len = 3, .number = 7, .cut = true};

	(void)state;
	start(READER_JSON);
	refuses("[1]", 3, "not an object");
	refuses("{\"a\":1", 6, "not JSON near byte 6");
	refuses("{\"a\":1} x", 9, "not JSON near byte 9");
	refuses("{\"a\":\"\xc3\x28\"}", 10, "not valid UTF-8 at byte 7");
	refuses("{\"a\":\"x\0\"}", 10, "unescaped NUL at byte 8");
	refuses("{\"a\":\"\t\"}", 9, "not JSON");
	refuses("{\"sinkd\":1}", 11, "already has a member sinkd, choose another name by --key");
	refuses("{\"sin\\u006bd\":1}", 16, "--key");
	refuses("{\"a\":01}", 8, "not JSON");
	refuses("{\"a\":-1e999x}", 13, "not JSON");
	refuses("{\"a\":01e999}", 12, "not JSON");
	refuses("{\"a\":1.e999}", 12, "not JSON");
	refuses("{\"a\":\"\\ud80\"}", 13, "not JSON");
	memset(deep, '[', sizeof deep);
	memcpy(deep, "{\"a\":", 5);
	refuses(deep, sizeof deep, "nested too deep");
	assert_int_equal(rec.raw_len, 64);
	assert_int_equal(reader_read(reader, &input_format, &cut, &rec, &err), 1);
	assert_int_equal(rec.type, RECORD_ERROR);
	assert_non_null(strstr(rec.reason, "longer than 1048576 bytes"));
	assert_memory_equal(rec.raw, "abc", 3);
}

static void
test_start_of_a_bad_line_keeps_whole_characters(void **state)
{
	char line[80];

	(void)state;
	start(READER_JSON);
	memset(line, 'a', sizeof line);
	memcpy(line + 63, "\xc3\xa9", 2);
	refuses(line, sizeof line, "not JSON");
	assert_int_equal(rec.raw_len, 63);
	line[0] = '\xff';
	refuses(line, sizeof line, "not valid UTF-8 at byte 1");
	assert_memory_equal(rec.raw, "\xef\xbf\xbd", 3);
}

static void
test_valid_json_that_jansson_cannot_hold(void **state)
{
	(void)state;
	start(READER_AUTO);
	reads("{\"n\":1e9999,\"text\":\"x\"}", "x\n");
	reads("{\"n\":[-123456789012345678901234567890,1.5E+999,-0e99999],\"text\":\"1e9999\"}", "1e9999\n");
	reads("{\"n\":1e9999,\"text\":\"a\\\\\\\" 1e9999\"}", "a\\\" 1e9999\n");
	reads("{\"text\":\"\\ud800x\\udc00\"}", "\xef\xbf\xbdx\xef\xbf\xbd\n");
	reads("{\"text\":\"\\uD83D\\uDE00 \\ud83d\\ud83d\\ude00\"}", "\xf0\x9f\x98\x80 \xef\xbf\xbd\xf0\x9f\x98\x80\n");
	reads("{\"\\u0000\":1,\"text\":\"x\"}", "x\n");
}

static void
test_escaped_nul_is_text(void **state)
{
	(void)state;
	start(READER_AUTO);
	assert_int_equal(read_line("{\"text\":\"a\\u0000b\"}"), 1);
	assert_int_equal(rec.type, RECORD_EVENT);
	assert_int_equal(rec.text_len, 4);
	assert_memory_equal(rec.text, "a\0b\n", 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_journal),
		cmocka_unit_test(test_other_forms),
		cmocka_unit_test(test_named_fields),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_format_is_decided_once),
		cmocka_unit_test(test_byte_order_mark_belongs_to_no_line),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_start_of_a_bad_line_keeps_whole_characters),
		cmocka_unit_test(test_valid_json_that_jansson_cannot_hold),
		cmocka_unit_test(test_escaped_nul_is_text),
	};
	int failed = cmocka_run_group_tests_name("reader", tests, NULL, NULL);

	reader_free(reader);
	return failed;
}
