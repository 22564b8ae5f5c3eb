/* UTF-8: checking against every short sequence there is, decoding, and repairing a stream. */
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static size_t
encode(int32_t c, unsigned char *to)
{
	if (c < 0x80) {
		to[0] = (unsigned char)c;
		return 1;
	}
	if (c < 0x800) {
		to[0] = (unsigned char)(0xc0 + c / 64);
		to[1] = (unsigned char)(0x80 + c % 64);
		return 2;
	}
	if (c < 0x10000) {
		to[0] = (unsigned char)(0xe0 + c / 4096);
		to[1] = (unsigned char)(0x80 + c / 64 % 64);
		to[2] = (unsigned char)(0x80 + c % 64);
		return 3;
	}
	to[0] = (unsigned char)(0xf0 + c / 262144);
	to[1] = (unsigned char)(0x80 + c / 4096 % 64);
	to[2] = (unsigned char)(0x80 + c / 64 % 64);
	to[3] = (unsigned char)(0x80 + c % 64);
	return 4;
}

static bool
is_scalar(int32_t c)
{
	return c < 0xd800 || c > 0xdfff;
}

static bool
valid(const unsigned char *s, size_t len)
{
	return utf8_is_valid((const char *)s, len);
}

static void
every_character_is_valid_and_decodes(void **state)
{
	unsigned char s[4];
	int32_t c, got;

	(void)state;
	for (c = 0; c <= 0x10ffff; c++) {
		size_t n = encode(c, s);

		if (is_scalar(c)) {
			if (!valid(s, n) || utf8_decode((char *)s, n, &got) != n || got != c)
				fail_msg("U+%04X", (unsigned)c);
			if (n > 1 && (valid(s, n - 1) || utf8_decode((char *)s, n - 1, &got) != n - 1 || got != -1))
				fail_msg("U+%04X cut off", (unsigned)c);
		} else if (valid(s, n)) {
			fail_msg("surrogate U+%04X", (unsigned)c);
		}
	}
	assert_false(utf8_is_valid("\xf4\x90\x80\x80", 4));
	assert_true(utf8_is_valid("", 0));
}

/* All sequences of up to three bytes are valid just if they are made of the encodings of characters. */
static void
every_short_sequence_is_judged(void **state)
{
	static bool is2[1 << 16];
	bool *is3 = calloc(1 << 24, sizeof *is3);
	unsigned char s[4];

	(void)state;
	assert_non_null(is3);
	for (int32_t c = 0x80; c < 0x10000; c++) {
		encode(c, s);
		if (c < 0x800)
			is2[s[0] << 8 | s[1]] = true;
		else if (is_scalar(c))
			is3[s[0] << 16 | s[1] << 8 | s[2]] = true;
	}
	for (int i = 0; i < 1 << 24; i++) {
		bool a, b, c;

		s[0] = (unsigned char)(i >> 16);
		s[1] = (unsigned char)(i >> 8);
		s[2] = (unsigned char)i;
		a = s[0] < 0x80;
		b = s[1] < 0x80;
		c = s[2] < 0x80;
		if (valid(s, 3) != ((a && b && c) || (is2[i >> 8] && c) || (a && is2[i & 0xffff]) || is3[i]))
			fail_msg("%06x", (unsigned)i);
		if (s[2] == 0 && (valid(s, 2) != ((a && b) || is2[i >> 8])))
			fail_msg("%04x", (unsigned)i >> 8);
	}
	free(is3);
	for (int i = 0; i < 256; i++) {
		s[0] = (unsigned char)i;
		assert_int_equal(valid(s, 1), i < 0x80);
	}
}

static void
every_start_of_four_bytes_is_judged(void **state)
{
	static bool is4[1 << 16];
	unsigned char s[4];

	(void)state;
	for (int32_t c = 0x10000; c <= 0x10ffff; c++) {
		encode(c, s);
		is4[s[0] << 8 | s[1]] = true;
	}
	for (int i = 0xf000; i < 1 << 16; i++) {
		s[0] = (unsigned char)(i >> 8);
		s[1] = (unsigned char)i;
		s[2] = s[3] = 0x80;
		if (valid(s, 4) != is4[i])
			fail_msg("%04x8080", (unsigned)i);
	}
}

/* Longer than the eight bytes that are looked at together, the fault in every place. */
static void
a_bad_byte_is_found_anywhere(void **state)
{
	char s[40];

	(void)state;
	for (size_t len = 1; len <= sizeof s; len++)
		for (size_t i = 0; i < len; i++) {
			memset(s, 'a', sizeof s);
			assert_true(utf8_is_valid(s, len));
			s[i] = '\x80';
			assert_false(utf8_is_valid(s, len));
			memcpy(s + i, "\xc3\xa9", i + 1 < sizeof s ? 2 : 1);
			assert_int_equal(utf8_is_valid(s, len), i + 1 < len);
		}
}

static size_t
repair(const char *in, size_t len, size_t chunk, char *out)
{
	struct utf8 u;
	size_t n = 0;

	utf8_init(&u);
	for (size_t i = 0; i < len; i += chunk) {
		size_t k = chunk < len - i ? chunk : len - i, got = utf8_feed(&u, in + i, k, out + n);

		assert_true(got <= 3 * (k + 1));
		n += got;
	}
	return n + utf8_flush(&u, out + n);
}

#define R "\xef\xbf\xbd"

static void
invalid_bytes_are_replaced_by_maximal_subparts(void **state)
{
	/* The first four: The Unicode Standard, tables 3-8 to 3-11. */
	static const struct { const char *in, *out; } rows[] = {
		{ "\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", R R R R R R R R "\x41" },
		{ "\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", R R R R R R R R "\x41" },
		{ "\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", R R R R R "\x41" R R "\x42" },
		{ "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", R R R R "\x41" },
		{ "\xf0\x9f\x98", R },
		{ "\xf0\x9f\x98\xff", R R },
		{ "\xe2\x82\xe2\x82\xac", R "\xe2\x82\xac" },
		{ "plain", "plain" },
		{ "", "" },
	};
	char out[256];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		for (size_t chunk = 1; chunk < 10; chunk++) {
			size_t n = repair(rows[i].in, strlen(rows[i].in), chunk, out);

			assert_int_equal(n, strlen(rows[i].out));
			assert_memory_equal(out, rows[i].out, n);
		}
}

static void
a_whole_character_comes_out_with_its_last_byte(void **state)
{
	struct utf8 u;
	char out[16];

	(void)state;
	utf8_init(&u);
	assert_int_equal(utf8_feed(&u, "a\xf0\x9f", 3, out), 1);
	assert_int_equal(utf8_feed(&u, "\x98", 1, out), 0);
	assert_int_equal(utf8_feed(&u, "\x80", 1, out), 4);
	assert_memory_equal(out, "\xf0\x9f\x98\x80", 4);
	assert_int_equal(utf8_flush(&u, out), 0);
	assert_int_equal(utf8_feed(&u, "\xe2", 1, out), 0);
	assert_int_equal(utf8_flush(&u, out), 3);
	assert_int_equal(utf8_flush(&u, out), 0);
}

/* Random bytes: the same for every split, always valid, and what utf8_decode sees. */
static void
a_stream_does_not_depend_on_its_pieces(void **state)
{
	static const char alphabet[] = "a\x80\xbf\xc3\xe0\xa0\xed\x9f\xef\xf0\x90\xf4\x8f\xff";
	char in[24], whole[128], out[128], want[128];
	uint32_t seed = 1;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		size_t n, m = 0;
		int32_t c;

		for (size_t i = 0; i < sizeof in; i++) {
			seed = seed * 1664525 + 1013904223;
			in[i] = alphabet[(seed >> 16) % (sizeof alphabet - 1)];
		}
		n = repair(in, sizeof in, sizeof in, whole);
		assert_true(utf8_is_valid(whole, n));
		for (size_t i = 0, k; i < sizeof in; i += k) {
			k = utf8_decode(in + i, sizeof in - i, &c);
			memcpy(want + m, c < 0 ? R : in + i, c < 0 ? 3 : k);
			m += c < 0 ? 3 : k;
		}
		assert_int_equal(n, m);
		assert_memory_equal(whole, want, n);
		for (size_t chunk = 1; chunk < 6; chunk++) {
			assert_int_equal(repair(in, sizeof in, chunk, out), n);
			assert_memory_equal(out, whole, n);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_character_is_valid_and_decodes),
		cmocka_unit_test(every_short_sequence_is_judged),
		cmocka_unit_test(every_start_of_four_bytes_is_judged),
		cmocka_unit_test(a_bad_byte_is_found_anywhere),
		cmocka_unit_test(invalid_bytes_are_replaced_by_maximal_subparts),
		cmocka_unit_test(a_whole_character_comes_out_with_its_last_byte),
		cmocka_unit_test(a_stream_does_not_depend_on_its_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
