/* Rotary angles in fixed point: exact differences at any position, and the scalings against their formulas. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/rope.h"

enum { N_ROT = 64 };

static struct rope_params
plain_params(void)
{
	return (struct rope_params){ .style = ROPE_HALVES, .n_rot = N_ROT, .base = 10000, .factor = 1,
	    .attn_factor = 1 };
}

/* The angle of pair i at a position in long double, the straightforward way. */
static void
check(const struct rope *r, int i, int64_t position, long double frequency, double scale, double tolerance)
{
	float c, s;

	rope_angle(r, i, position, &c, &s);
	assert_float_equal(c, cosl(position * frequency) * scale, tolerance);
	assert_float_equal(s, sinl(position * frequency) * scale, tolerance);
}

static void
test_angles_follow_the_definition(void **state)
{
	struct rope_params p = plain_params();
	struct rope r;
	struct err e;

	(void)state;
	assert_int_equal(rope_init(&r, &p, &e), 0);
	for (int i = 0; i < N_ROT / 2; i++)
		for (int64_t position = 0; position < 100000; position += 997)
			check(&r, i, position, powl(10000, -2.0L * i / N_ROT), 1, 2e-7);
	rope_fini(&r);
}

/* cos(a - b) between two far positions is that of their difference: the score of a query and a key. */
static void
test_differences_are_exact_at_any_position(void **state)
{
	static const int64_t bases[] = { 1, 1000003, INT64_C(10000000000), INT64_C(1) << 40, INT64_C(1) << 62 };
	struct rope_params p = plain_params();
	struct rope r;
	struct err e;

	(void)state;
	assert_int_equal(rope_init(&r, &p, &e), 0);
	for (size_t b = 0; b < sizeof bases / sizeof bases[0]; b++)
		for (int i = 0; i < N_ROT / 2; i++)
			for (int64_t d = 0; d < 1020; d += 101) {
				float c0, s0, c1, s1, c, s;

				rope_angle(&r, i, bases[b], &c0, &s0);
				rope_angle(&r, i, bases[b] + d, &c1, &s1);
				rope_angle(&r, i, d, &c, &s);
				assert_float_equal((double)c0 * c1 + (double)s0 * s1, c, 3e-7);
				assert_float_equal((double)c0 * s1 - (double)s0 * c1, s, 3e-7);
			}
	rope_fini(&r);
}

static void
test_linear_scaling_and_divisors(void **state)
{
	struct rope_params p = plain_params();
	float divisors[N_ROT / 2];
	struct rope r;
	struct err e;

	(void)state;
	for (int i = 0; i < N_ROT / 2; i++)
		divisors[i] = 1 + (float)i / 8;
	p.factor = 4;
	p.divisors = divisors;
	p.attn_factor = 1.25;
	assert_int_equal(rope_init(&r, &p, &e), 0);
	for (int i = 0; i < N_ROT / 2; i++)
		check(&r, i, 777, powl(10000, -2.0L * i / N_ROT) / divisors[i] / 4, 1.25, 4e-7);
	rope_fini(&r);
}

/* YaRN: the fastest pairs keep their frequency, the slowest are interpolated, the length grows with the factor. */
static void
test_yarn(void **state)
{
	struct rope_params p = plain_params();
	double scale = 1 + 0.1 * log(8.0);
	struct rope r;
	struct err e;

	(void)state;
	p.factor = 8;
	p.yarn = true;
	p.yarn_original = 4096;
	p.yarn_fast = 32;
	p.yarn_slow = 1;
	assert_int_equal(rope_init(&r, &p, &e), 0);
	check(&r, 0, 1234, 1, scale, 1e-6);
	check(&r, N_ROT / 2 - 1, 100000, powl(10000, -2.0L * (N_ROT / 2 - 1) / N_ROT) / 8, scale, 1e-6);
	for (int i = 1; i < N_ROT / 2; i++)
		assert_true(r.turn[i] < r.turn[i - 1]);
	rope_fini(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_angles_follow_the_definition),
		cmocka_unit_test(test_differences_are_exact_at_any_position),
		cmocka_unit_test(test_linear_scaling_and_divisors),
		cmocka_unit_test(test_yarn),
	};

	return cmocka_run_group_tests_name("rope", tests, NULL, NULL);
}
