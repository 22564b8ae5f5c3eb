/* The weight types: dequantisation against the reference vectors, bit for bit; halves both ways. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/cpu/kernels.h"
#include "engine/quant.h"
#include "engine/quant_decode.h"

static const uint32_t types[] = { QUANT_F16, QUANT_BF16, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0,
	QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K };

static size_t
read_golden(const char *type, const char *kind, void *buf, size_t size)
{
	const char *src = getenv("SRC");
	char path[4096];
	FILE *f;
	size_t n;

	snprintf(path, sizeof path, "%s/tests/golden/dequant/%s.%s", src != NULL ? src : ".", type, kind);
	f = fopen(path, "rb");
	if (f == NULL)
		fail_msg("%s is missing", path);
	n = fread(buf, 1, size, f);
	fclose(f);
	return n;
}

static void
test_every_type_is_bit_exact(void **state)
{
	static char blocks[1 << 16];
	static float want[1 << 14], got[1 << 14];

	(void)state;
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		const struct quant_info *info = quant_get_info(types[i]);
		size_t bytes = read_golden(info->name, "blocks", blocks, sizeof blocks);
		size_t n = bytes / (size_t)info->bytes * (size_t)info->block;

		assert_true(n > 0 && n <= sizeof want / sizeof want[0]);
		assert_int_equal(read_golden(info->name, "f32", want, sizeof want), n * sizeof(float));
		quant_dequantize(types[i], blocks, (int64_t)n, got);
		assert_memory_equal(want, got, n * sizeof(float));
		/* the vectorised builds of the same lines */
		memset(got, 0, sizeof got);
		kernels_generic.decode(types[i], blocks, (int64_t)n, got);
		assert_memory_equal(want, got, n * sizeof(float));
	}
}

static void
test_halves_survive_both_ways(void **state)
{
	(void)state;
	for (uint32_t h = 0; h < 65536; h++) {
		float x = decode_half((uint16_t)h);

		if (isnan(x))
			assert_true(isnan(decode_half(encode_half(x))));
		else
			assert_int_equal(encode_half(x), h);
	}
}

/* Rounding to nearest even, against the definition: no other half is nearer. */
static void
test_halves_are_rounded_to_the_nearest(void **state)
{
	uint32_t seed = 7;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		uint32_t bits;
		uint16_t h;
		float x;
		double error;

		seed = seed * 1664525 + 1013904223;
		bits = 0x32000000 + (seed >> 3) % (0x477fe000 - 0x32000000);
		memcpy(&x, &bits, sizeof x);
		h = encode_half(x);
		error = fabs((double)decode_half(h) - x);
		assert_true(error <= fabs((double)decode_half((uint16_t)(h + 1)) - x));
		if (h > 0)
			assert_true(error <= fabs((double)decode_half((uint16_t)(h - 1)) - x));
	}
}

static void
test_names(void **state)
{
	(void)state;
	assert_null(quant_get_info(16));
	assert_string_equal(quant_get_name(16), "IQ2_XXS");
	assert_null(quant_get_name(4000));
	assert_null(quant_get_info(4000));
	assert_string_equal(quant_get_name(QUANT_Q6_K), "Q6_K");
	assert_int_equal(quant_row_size(QUANT_Q6_K, 512), 420);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_type_is_bit_exact),
		cmocka_unit_test(test_halves_survive_both_ways),
		cmocka_unit_test(test_halves_are_rounded_to_the_nearest),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
