/* Bytes become lines, however they are cut into reads. */
#include "stream/lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char out[4096];

static void
drain(struct lines *l)
{
	const struct line *line;

	while ((line = lines_peek(l)) != NULL) {
		size_t used = strlen(out);

		assert_ptr_equal(lines_peek(l), line);
		snprintf(out + used, sizeof out - used, "%lld%s[%.*s]", (long long)line->number, line->cut ? "!" : "",
		    (int)line->len, line->data);
		lines_pop(l);
	}
}

/* Split text, fed in pieces of n bytes, into out: "1[first]2[second]", "!" for a line cut short. */
static const char *
split(const char *text, size_t n, size_t max)
{
	struct lines *l = lines_new(max);
	size_t len = strlen(text);

	out[0] = '\0';
	for (size_t i = 0; i < len; i += n) {
		size_t room, k = len - i < n ? len - i : n;
		char *p = lines_reserve(l, &room);

		assert_true(room >= k);
		memcpy(p, text + i, k);
		lines_commit(l, k);
		drain(l);
	}
	lines_end(l);
	drain(l);
	lines_free(l);
	return out;
}

static void
splits(const char *text, size_t max, const char *expected)
{
	for (size_t n = 1; n <= strlen(text); n++)
		assert_string_equal(split(text, n, max), expected);
}

static void
test_lines_and_their_ends(void **state)
{
	(void)state;
	splits("one\ntwo\n\nfour", 10, "1[one]2[two]3[]4[four]");
	splits("\n", 10, "1[]");
	splits("a\r\n", 10, "1[a\r]");
	splits("1234567890\n12345678901\nx\n", 10, "1[1234567890]2![1234567890]3[x]");
	splits("x\n12345678901234567890", 10, "1[x]2![1234567890]");
	splits("12345678901\n\n1", 10, "1![1234567890]2[]3[1]");
	assert_string_equal(split("", 1, 10), "");
}

static void
test_an_endless_line_takes_constant_memory(void **state)
{
	struct lines *l = lines_new(1000);
	size_t room, reported = 0, largest = 0;

	(void)state;
	for (int i = 0; i < 2000; i++) {
		char *p = lines_reserve(l, &room);
		const struct line *line;

		memset(p, 'x', room);
		lines_commit(l, room);
		largest = room > largest ? room : largest;
		for (; (line = lines_peek(l)) != NULL; reported++) {
			assert_true(line->cut);
			assert_int_equal(line->len, 1000);
			lines_pop(l);
		}
	}
	assert_int_equal(reported, 1);
	assert_true(largest <= 1 << 17);
	lines_free(l);
}

/* A line that was read again from where the one before it said reading should go on is the same line. */
static void
test_places(void **state)
{
	static const char text[] = "one\ntwo\r\nthe third is too long\n\nfive\nsix";
	struct place places[8] = {{0}};
	char lines[8][32];
	int n = 0;

	(void)state;
	for (int from = -1; from < 6; from++) {
		const struct place *start = from < 0 ? &places[0] : &places[from];
		struct lines *l = lines_new(12);
		const struct line *line;
		int i = from < 0 ? 0 : from;

		lines_start_at(l, start);
		assert_true(lines_add(l, text + start->offset, strlen(text) - (size_t)start->offset));
		lines_end(l);
		for (; (line = lines_peek(l)) != NULL; i++) {
			char got[32];

			snprintf(got, sizeof got, "%lld%s%.*s", (long long)line->number, line->cut ? "!" : ":",
			    (int)line->len, line->data);
			if (from < 0) {
				snprintf(lines[i], sizeof lines[i], "%s", got);
				places[i + 1] = line->after;
				n = i + 1;
			} else
				assert_string_equal(got, lines[i]);
			lines_pop(l);
		}
		assert_int_equal(i, n);
		lines_free(l);
	}
	assert_int_equal(n, 6);
	assert_int_equal(places[6].offset, strlen(text));
}

/* The rest of a line that was reported as too long while it lasted is passed over after a restart as well. */
static void
test_place_within_a_line(void **state)
{
	struct lines *l = lines_new(4);
	struct place p;

	(void)state;
	assert_true(lines_add(l, "longer", 6));
	assert_true(lines_peek(l)->cut);
	p = lines_peek(l)->after;
	lines_free(l);
	assert_true(p.within);
	assert_int_equal(p.offset, 6);
	l = lines_new(4);
	lines_start_at(l, &p);
	assert_true(lines_add(l, " still\nok\n", 10));
	out[0] = '\0';
	drain(l);
	assert_string_equal(out, "2[ok]");
	lines_free(l);
}

static void
test_a_line_cut_short_on_demand(void **state)
{
	struct lines *l = lines_new(100);

	(void)state;
	out[0] = '\0';
	assert_true(lines_add(l, "half a line", 11));
	drain(l);
	assert_int_equal(lines_trim(l), 11);
	lines_cut(l);
	drain(l);
	assert_int_equal(lines_trim(l), 0);
	assert_true(lines_add(l, " and its end\nnext\n", 18));
	drain(l);
	assert_string_equal(out, "1![half a line]2[next]");
	lines_free(l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_and_their_ends),
		cmocka_unit_test(test_an_endless_line_takes_constant_memory),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_place_within_a_line),
		cmocka_unit_test(test_a_line_cut_short_on_demand),
	};

	return cmocka_run_group_tests_name("lines", tests, NULL, NULL);
}
