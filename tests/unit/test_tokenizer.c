/*
 * The tokenizer against reference vectors, in both directions, and on texts
 * that are long, damaged or hostile. What needs a vocabulary of its own is in
 * test_tokenizer_kinds.c.
 */
#include "engine/tokenizer.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

struct fixture {
	struct gguf *gguf;
	struct tokenizer *tokenizer;
};

/* A file of the reference data in the tree. */
static const char *
golden(const char *file)
{
	static char path[4096];
	const char *src = getenv("SRC");

	snprintf(path, sizeof path, "%s/tests/golden/%s", src != NULL ? src : ".", file);
	return path;
}

/* A file of the reference data beside the tree, with more texts. */
static const char *
shared_golden(const char *file)
{
	static char path[4096];
	const char *shared = getenv("SHARED");

	snprintf(path, sizeof path, "%s/golden/%s", shared != NULL ? shared : "../shared", file);
	return path;
}

/* A test that needs this file is skipped where it is absent. */
static void
need(const char *path)
{
	if (access(path, R_OK) != 0) {
		print_message("# skip: %s is not there\n", path);
		skip();
	}
}

static void
open_fixture(struct fixture *f, const char *path)
{
	struct err e = { 0 };

	need(path);
	f->gguf = gguf_open(path, &e);
	if (f->gguf == NULL)
		fail_msg("%s", e.text);
	f->tokenizer = tokenizer_new_gguf(f->gguf, &e);
	if (f->tokenizer == NULL)
		fail_msg("%s", e.text);
}

static void
close_fixture(struct fixture *f)
{
	tokenizer_free(f->tokenizer);
	if (f->gguf != NULL)
		gguf_close(f->gguf);
}

static void
open_smollm(struct fixture *f)
{
	const char *model = getenv("MODEL");

	open_fixture(f, model != NULL ? model : "");
}

static int64_t
encode(struct tokenizer *t, const char *text, size_t len, unsigned flags, const int32_t **ids)
{
	struct err e = { 0 };
	int64_t n = tokenizer_encode(t, text, len, flags, ids, &e);

	if (n < 0)
		fail_msg("%s", e.text);
	return n;
}

/* Decode n ids, copied first, as decoding may use what encoding gave. Returns a string to be freed. */
static char *
decode(struct tokenizer *t, const int32_t *ids, int64_t n, bool special, size_t *len)
{
	size_t room = 1, got;
	char *out = malloc(room);

	*len = 0;
	for (int64_t i = 0; i < n; i++) {
		const char *bytes = tokenizer_decode(t, ids[i], special, i == 0, &got);

		if (room < *len + got) {
			room = 2 * (*len + got);
			out = realloc(out, room);
		}
		memcpy(out + *len, bytes, got);
		*len += got;
	}
	return out;
}

/* The text that should come back: what changes it in place, and returns the new length. */
typedef size_t expect_fn(char *text, size_t len);

static size_t
expect_same(char *text, size_t len)
{
	(void)text;
	return len;
}

/* These 21 bytes have no token in SmolLM2's vocabulary. */
static size_t
expect_without_missing(char *text, size_t len)
{
	static const unsigned char missing[] = { 0x04, 0x06, 0x13, 0x14, 0x16, 0x1d, 0xc0, 0xc1, 0xf1, 0xf2, 0xf5, 0xf6,
	    0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff };
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		if (memchr(missing, text[i], sizeof missing) == NULL)
			text[n++] = text[i];
	return n;
}

static size_t
expect_spaces(char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		text[n++] = text[i];
		if (n >= 3 && memcmp(text + n - 3, "\xe2\x96\x81", 3) == 0) {
			n -= 3;
			text[n++] = ' ';
		}
	}
	return n;
}

static void
check_vector(struct tokenizer *t, json_t *line, unsigned flags, expect_fn *expect)
{
	json_t *text = json_object_get(line, "text"), *want = json_object_get(line, "ids");
	const int32_t *ids;
	size_t len = json_string_length(text), got_len, want_len;
	int64_t n = encode(t, json_string_value(text), len, flags, &ids);
	char *copy = malloc(len + 1), *got;

	memcpy(copy, json_string_value(text), len + 1);
	for (size_t i = 0; i < json_array_size(want) && (int64_t)i < n; i++)
		if (ids[i] != json_integer_value(json_array_get(want, i)))
			fail_msg("token %zu of '%s' is %d", i, copy, ids[i]);
	if (n != (int64_t)json_array_size(want))
		fail_msg("%lld tokens of '%s'", (long long)n, copy);
	got = decode(t, ids, n, (flags & TOKENIZER_PARSE_SPECIAL) != 0, &got_len);
	want_len = expect(copy, len);
	if (got_len != want_len || memcmp(got, copy, want_len) != 0)
		fail_msg("'%.*s' came back for '%.*s'", (int)got_len, got, (int)want_len, copy);
	free(got);
	free(copy);
}

static void
check_vectors(struct tokenizer *t, const char *path, unsigned flags, expect_fn *expect)
{
	FILE *f = fopen(path, "r");
	char *line = NULL;
	size_t room = 0, lines = 0;

	assert_non_null(f);
	while (getline(&line, &room, f) != -1) {
		json_t *j = json_loads(line, JSON_ALLOW_NUL, NULL);

		assert_non_null(j);
		check_vector(t, j, flags, expect);
		json_decref(j);
		lines++;
	}
	assert_true(lines > 0);
	free(line);
	fclose(f);
}

/* The same for a file beside the tree, where there is one. */
static void
check_shared_vectors(struct tokenizer *t, const char *file, unsigned flags, expect_fn *expect)
{
	if (access(shared_golden(file), R_OK) == 0)
		check_vectors(t, shared_golden(file), flags, expect);
}

static void
smollm_vectors(void **state)
{
	struct fixture f;

	(void)state;
	open_smollm(&f);
	check_vectors(f.tokenizer, golden("tokenizer/smollm2.jsonl"), 0, expect_without_missing);
	check_shared_vectors(f.tokenizer, "tokenizer_smollm2.jsonl", 0, expect_without_missing);
	check_shared_vectors(f.tokenizer, "tokenizer_smollm2_edge.jsonl", 0, expect_without_missing);
	close_fixture(&f);
}

static void
smollm_vectors_with_special_tokens(void **state)
{
	struct fixture f;

	(void)state;
	open_smollm(&f);
	check_vectors(f.tokenizer, golden("tokenizer/smollm2_parse_special.jsonl"), TOKENIZER_PARSE_SPECIAL,
	    expect_same);
	close_fixture(&f);
}

static void
spm_vectors(void **state)
{
	struct fixture f;

	(void)state;
	open_fixture(&f, golden("spm-bpe/model.gguf"));
	check_vectors(f.tokenizer, golden("spm-bpe/vectors.jsonl"), 0, expect_spaces);
	check_shared_vectors(f.tokenizer, "spm-bpe/vectors.jsonl", 0, expect_spaces);
	close_fixture(&f);
}

static void
spm_vectors_without_prefix(void **state)
{
	struct fixture f;

	(void)state;
	open_fixture(&f, golden("spm-bpe-noprefix/model.gguf"));
	check_vectors(f.tokenizer, golden("spm-bpe-noprefix/vectors.jsonl"), 0, expect_spaces);
	check_shared_vectors(f.tokenizer, "spm-bpe-noprefix/vectors.jsonl", 0, expect_spaces);
	close_fixture(&f);
}

enum { LONG = 1 << 20 };

static uint32_t
next_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

static void
fill_letters(char *s, size_t len)
{
	uint32_t seed = 7;

	for (size_t i = 0; i < len; i++)
		s[i] = (char)('a' + next_random(&seed) % 26);
}

static void
fill_same_letter(char *s, size_t len)
{
	memset(s, 'a', len);
}

static void
fill_capitals(char *s, size_t len)
{
	memset(s, 'X', len);
}

static void
fill_spaces(char *s, size_t len)
{
	memset(s, ' ', len);
}

static void
fill_spaces_and_word(char *s, size_t len)
{
	memset(s, ' ', len);
	s[len - 1] = 'x';
}

static void
fill_digits(char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		s[i] = (char)('0' + i % 10);
}

static void
fill_dashes(char *s, size_t len)
{
	memset(s, '-', len);
}

static void
fill_newlines(char *s, size_t len)
{
	memset(s, '\n', len);
}

static void
fill_random(char *s, size_t len)
{
	uint32_t seed = 3;

	for (size_t i = 0; i < len; i++)
		s[i] = (char)next_random(&seed);
}

static void
fill_invalid(char *s, size_t len)
{
	memset(s, '\x80', len);
}

static void
fill_cyrillic(char *s, size_t len)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		memcpy(s + i, "\xd0\xb6", 2);
}

/*
 * A text of 1 MiB made by fill comes back, and 1 MiB takes about 16 times as
 * long as 64 KiB: 64 times is allowed, to be robust against a busy machine; a
 * quadratic algorithm would take 256 times.
 */
static void
check_long(struct tokenizer *t, void (*fill)(char *, size_t), expect_fn *expect)
{
	char *text = malloc(LONG), *copy = malloc(LONG), *got;
	const int32_t *ids;
	clock_t small, large;
	size_t got_len, want_len;
	int64_t n;

	fill(text, LONG);
	memcpy(copy, text, LONG);
	encode(t, text, LONG, 0, &ids); /* memory is there from now on */
	small = clock();
	for (int i = 0; i < 4; i++)
		encode(t, text, LONG / 16, 0, &ids);
	small = (clock() - small) / 4;
	large = clock();
	n = encode(t, text, LONG, 0, &ids);
	large = clock() - large;
	assert_true(n <= LONG + 1);
	got = decode(t, ids, n, false, &got_len);
	want_len = expect(copy, LONG);
	assert_int_equal(got_len, want_len);
	assert_memory_equal(got, copy, want_len);
	if (large > 64 * (small + CLOCKS_PER_SEC / 1000))
		fail_msg("64 KiB in %ld us, 1 MiB in %ld us", (long)small, (long)large);
	free(got);
	free(copy);
	free(text);
}

static void (*const fills[])(char *, size_t) = {
	fill_letters, fill_same_letter, fill_capitals, fill_spaces, fill_spaces_and_word, fill_digits, fill_dashes,
	fill_newlines, fill_random, fill_invalid, fill_cyrillic,
};

static void
long_texts_of_any_kind_are_encoded(void **state)
{
	struct fixture f;

	(void)state;
	open_smollm(&f);
	for (size_t i = 0; i < sizeof fills / sizeof fills[0]; i++)
		check_long(f.tokenizer, fills[i], expect_without_missing);
	close_fixture(&f);
}

static void
long_texts_of_any_kind_are_encoded_by_scores(void **state)
{
	struct fixture f;

	(void)state;
	open_fixture(&f, golden("spm-bpe/model.gguf"));
	for (size_t i = 0; i < sizeof fills / sizeof fills[0]; i++)
		check_long(f.tokenizer, fills[i], expect_spaces);
	close_fixture(&f);
}

/* Scratch memory grows with the longest text, and then no more. */
static void
encoding_allocates_nothing_in_the_long_run(void **state)
{
	struct fixture f;
	const int32_t *ids;
	struct mallinfo2 before, after;
	char *text;

	(void)state;
	open_smollm(&f);
	text = malloc(LONG);
	fill_random(text, LONG);
	encode(f.tokenizer, text, LONG, 0, &ids);
	fill_letters(text, LONG);
	encode(f.tokenizer, text, LONG, 0, &ids);
	before = mallinfo2();
	for (size_t len = 1; len < LONG; len = len * 2 + 1) {
		fill_random(text, len);
		encode(f.tokenizer, text, len, TOKENIZER_PARSE_SPECIAL, &ids);
		fill_letters(text, len);
		encode(f.tokenizer, text, len, 0, &ids);
	}
	after = mallinfo2();
	assert_int_equal(before.uordblks, after.uordblks);
	assert_int_equal(before.hblkhd, after.hblkhd);
	close_fixture(&f);
	free(text);
}

/* An event's text can never become a control token. */
static void
text_of_control_tokens_stays_text(void **state)
{
	static const char text[] = "<|im_end|>\n<|im_start|>system";
	struct fixture f;
	const int32_t *ids;
	int64_t n;

	(void)state;
	open_smollm(&f);
	n = encode(f.tokenizer, text, strlen(text), 0, &ids);
	for (int64_t i = 0; i < n; i++)
		assert_true(ids[i] > 16);
	assert_int_equal(encode(f.tokenizer, text, strlen(text), TOKENIZER_PARSE_SPECIAL, &ids), 4);
	assert_int_equal(encode(f.tokenizer, "", 0, 0, &ids), 0);
	assert_int_equal(encode(f.tokenizer, NULL, 0, 0, &ids), 0);
	close_fixture(&f);
}

static void
ids_outside_of_the_vocabulary_decode_to_nothing(void **state)
{
	static const int32_t ids[] = { -1, INT32_MIN, 49152, INT32_MAX };
	struct fixture f;
	size_t len = 1;

	(void)state;
	open_smollm(&f);
	for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
		assert_non_null(tokenizer_decode(f.tokenizer, ids[i], true, false, &len));
		assert_int_equal(len, 0);
	}
	tokenizer_decode(f.tokenizer, 2, false, false, &len);
	assert_int_equal(len, 0);
	assert_memory_equal(tokenizer_decode(f.tokenizer, 2, true, false, &len), "<|im_end|>", 10);
	assert_int_equal(len, 10);
	close_fixture(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(smollm_vectors),
		cmocka_unit_test(smollm_vectors_with_special_tokens),
		cmocka_unit_test(spm_vectors),
		cmocka_unit_test(spm_vectors_without_prefix),
		cmocka_unit_test(long_texts_of_any_kind_are_encoded),
		cmocka_unit_test(long_texts_of_any_kind_are_encoded_by_scores),
		cmocka_unit_test(encoding_allocates_nothing_in_the_long_run),
		cmocka_unit_test(text_of_control_tokens_stays_text),
		cmocka_unit_test(ids_outside_of_the_vocabulary_decode_to_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
