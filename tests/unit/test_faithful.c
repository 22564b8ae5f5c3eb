/*
 * Faithful text: which words may be said after a stream was read, and that a
 * model's answers hold no others, however they are sampled or cut off. The tiny
 * model's vocabulary is little more than single bytes: letters are ordinary words.
 */
#include "stream/faithful.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "stream/reply.h"

static const char text[] = "cron: Job cron.daily started at 12:30 on disk-7\n"
    "net: eth0 10.0.0.17 up, MTU 1500 (proc/sys/fs.automount)\n";

static struct stream *stream;
static struct err err;

static int
setup(void **state)
{
	static char path[4096];
	struct stream_options o = {.model = path};
	struct tokens t = {0};

	(void)state;
	snprintf(path, sizeof path, "%s/tests/golden/llama-gqa/model.gguf", getenv("SRC"));
	context_options_init(&o.context);
	o.context.device = "cpu";
	o.context.window = 300;
	o.context.fork_tokens = 300;
	o.context.threads = 1;
	if ((stream = stream_open(&o, &err)) == NULL)
		fail_msg("%s", err.text);
	assert_int_equal(stream_encode(stream, text, strlen(text), 0, &t, &err), 0);
	assert_int_equal(stream_feed(stream, t.ids, t.n, NULL, &err), 0);
	tokens_fini(&t);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	stream_close(stream);
	return 0;
}

static bool
may_say(const struct faithful *f, const char *said)
{
	struct faithful_state s;
	bool ok = true;

	faithful_begin(&s);
	for (; *said != '\0' && ok; said++)
		ok = faithful_feed(f, &s, *said) && faithful_may_go_on(f, &s);
	return ok && faithful_may_end(f, &s);
}

static void
test_words(void **state)
{
	static const char *const good[] = {
		"", "cron", "Cron", "CRON.daily", "Job cron.daily started.", "12:30", "10.0.0.17.", "eth0, eth0!",
		    "disk",
		"disk-7", "proc", "fs.automount", "sys/fs", "(1500)", "a b", "A b. C d", "a-b", "what", "net: up",
	};
	static const char *const bad[] = {
		"crond", "12", "30", "10.0", "0.17", "eth1", "7-disk", "150", "15000", "b A", "nginx", "12:31",
		    "eth0.daily",
		"a-eth0", "17", "cron2", "\xc3\xa9", "10.0.0.17:12",
	};
	struct faithful *f = faithful_new(stream, "so what", 7, &err);

	(void)state;
	assert_non_null(f);
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		if (!may_say(f, good[i]))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (may_say(f, bad[i]))
			fail_msg("accepted: %s", bad[i]);
	faithful_free(f);
}

/* Is it a token, with a space before it or without? */
static bool
is_token(const char *word, size_t n)
{
	for (int32_t id = 0; id < stream->n_vocab; id++) {
		size_t len;
		const char *bytes = tokenizer_decode(stream->tokenizer, id, false, false, &len);
		size_t space = len > 0 && bytes[0] == ' ';

		if (len - space == n && memcmp(bytes + space, word, n) == 0)
			return true;
	}
	return false;
}

/* Tokens of letters, with joints between them? */
static bool
is_ordinary(const char *word)
{
	for (size_t n; *word != '\0'; word += n + (word[n] != '\0')) {
		n = strcspn(word, ".:-/@");
		if (strspn(word, "abcdefghijklmnopqrstuvwxyz") != n || (n > 0 && !is_token(word, n)))
			return false;
	}
	return true;
}

/* Every word of it stands in the text, or is ordinary. */
static void
check_said(const char *said, size_t len)
{
	char small[sizeof text];

	for (size_t i = 0; i < sizeof text; i++)
		small[i] = (char)tolower((unsigned char)text[i]);
	for (size_t i = 0, end; i < len; i = end + 1) {
		char word[256] = "";
		size_t n = 0;

		for (end = i; end < len && faithful_is_inside(said[end]); end++)
			if (n < sizeof word - 1)
				word[n++] = (char)tolower((unsigned char)said[end]);
		while (n > 0 && strchr(".:-/@", word[n - 1]) != NULL)
			n--;
		word[n] = '\0';
		if (!is_ordinary(word) && strstr(small, word + strspn(word, ".:-/@")) == NULL)
			fail_msg("said '%s' in: %.*s", word, (int)len, said);
	}
}

static void
collect_piece(void *arg, const char *piece, size_t len)
{
	buf_add(arg, piece, len);
}

static bool
is_never(void *arg)
{
	(void)arg;
	return false;
}

static void
ignore(void *arg, size_t tokens)
{
	(void)arg;
	(void)tokens;
}

static void
test_answers(void **state)
{
	struct buf pieces = {0};
	struct reply_hooks hooks = {&pieces, collect_piece, is_never, ignore, NULL};
	struct reply r;

	(void)state;
	for (int i = 0; i < 60; i++) {
		struct reply_options o = {.max_tokens = 1 + 3 * i, .faithful = true,
			.sample = {.temperature = i % 5, .top_p = 1, .seed = (uint64_t)i}};

		buf_clear(&pieces);
		if (reply_make(stream, "?", 1, &o, &hooks, &r, &err) < 0)
			fail_msg("%s", err.text);
		check_said(r.text.data, r.text.len);
		assert_int_equal(pieces.len, r.text.len);
		assert_true(r.text.len == 0 || memcmp(pieces.data, r.text.data, r.text.len) == 0);
		buf_fini(&r.text);
	}
	buf_fini(&pieces);
}

/* Keys and the values of an enum are the asker's; strings and numbers are the stream's. */
static void
test_answers_by_schema(void **state)
{
	static const char schema[] = "{\"type\":\"object\",\"properties\":{\"Verdict\":{\"enum\":[\"Terrible\"]},"
	    "\"what9\":{\"type\":\"string\",\"maxLength\":40},\"n\":{\"type\":\"integer\"}}}";
	struct reply_hooks hooks = {NULL, NULL, is_never, ignore, NULL};
	json_t *j = json_loads(schema, 0, NULL);
	struct schema *s = schema_new(j, &err);
	struct reply r;

	(void)state;
	json_decref(j);
	for (int i = 0; i < 40; i++) {
		struct reply_options o = {.max_tokens = 4 * i + 1, .faithful = true, .schema = s,
			.sample = {.temperature = i % 5, .top_p = 1, .seed = (uint64_t)i}};
		const char *what;

		if (reply_make(stream, "?", 1, &o, &hooks, &r, &err) < 0)
			fail_msg("%s", err.text);
		j = json_loadb(r.text.data, r.text.len, 0, NULL);
		assert_non_null(j);
		assert_string_equal(json_string_value(json_object_get(j, "Verdict")), "Terrible");
		what = json_string_value(json_object_get(j, "what9"));
		check_said(what, strlen(what));
		json_decref(j);
		buf_fini(&r.text);
	}
	schema_free(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_words, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers_by_schema, setup, teardown),
	};

	return cmocka_run_group_tests_name("faithful", tests, NULL, NULL);
}
