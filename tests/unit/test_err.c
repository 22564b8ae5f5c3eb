/*
 * struct err: what a sentence looks like after err_set.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/err.h"

static void
test_sets_code_and_sentence(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_int_equal(err_set(&e, EX_DATAERR, "%s: %d tensors", "x.gguf", 3), -1);
	assert_int_equal(e.code, EX_DATAERR);
	assert_string_equal(e.text, "x.gguf: 3 tensors");
}

static void
test_accepts_no_err(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, EX_OSERR, "nobody listens"), -1);
}

static void
test_replaces_control_characters(void **state)
{
	struct err e = { 0 };

	(void)state;
	err_set(&e, EX_DATAERR, "%s", "a\033[2J\nb\177\tc");
	assert_string_equal(e.text, "a?[2J?b??c");
}

static void
test_replaces_what_is_not_utf8(void **state)
{
	struct err e = { 0 };

	(void)state;
	err_set(&e, EX_DATAERR, "%s", "caf\xc3\xa9 \xff \xe2\x82 \xc2\x9b");
	assert_string_equal(e.text, "caf\xc3\xa9 ? ?? ??");
}

static void
test_cuts_a_long_sentence(void **state)
{
	struct err e = { 0 };
	char name[2 * sizeof e.text];

	(void)state;
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	err_set(&e, EX_NOINPUT, "%s", name);
	assert_int_equal(strlen(e.text), sizeof e.text - 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sets_code_and_sentence),
		cmocka_unit_test(test_accepts_no_err),
		cmocka_unit_test(test_replaces_control_characters),
		cmocka_unit_test(test_replaces_what_is_not_utf8),
		cmocka_unit_test(test_cuts_a_long_sentence),
	};

	return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
