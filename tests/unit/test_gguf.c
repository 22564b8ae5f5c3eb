/* The GGUF reader: what it gives back, and that each fault of a file is refused by name. */
#include "engine/gguf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/quant.h"
#include "gguf_build.h"

static struct build b;

static void
build_scalars(void)
{
	int64_t big = INT64_MIN;
	double f64 = -2.5;

	put_header(&b, 0, 15);
	put_key(&b, "u8", GGUF_U8);
	put_u8(&b, 255);
	put_key(&b, "i8", GGUF_I8);
	put_u8(&b, 255);
	put_key(&b, "u16", GGUF_U16);
	put(&b, "\xff\xff", 2);
	put_key(&b, "i16", GGUF_I16);
	put(&b, "\xff\xff", 2);
	put_key(&b, "u32", GGUF_U32);
	put_u32(&b, UINT32_MAX);
	put_key(&b, "i32", GGUF_I32);
	put_u32(&b, UINT32_MAX);
	put_key(&b, "u64", GGUF_U64);
	put_u64(&b, INT64_MAX);
	put_key(&b, "u64 too large", GGUF_U64);
	put_u64(&b, UINT64_C(1) << 63);
	put_key(&b, "i64", GGUF_I64);
	put(&b, &big, sizeof big);
	put_key(&b, "f32", GGUF_F32);
	put_f32(&b, 1.5f);
	put_key(&b, "f64", GGUF_F64);
	put(&b, &f64, sizeof f64);
	put_key(&b, "no", GGUF_BOOL);
	put_u8(&b, 0);
	put_key(&b, "yes", GGUF_BOOL);
	put_u8(&b, 1);
	put_string_key(&b, "string", "text");
	put_string_key(&b, "empty", "");
}

static struct gguf *
must_open(void **copy)
{
	struct err e = { 0 };
	struct gguf *g = open_build(&b, b.n, copy, &e);

	if (g == NULL)
		fail_msg("%s", e.text);
	return g;
}

static void
scalars_are_read_by_kind(void **state)
{
	static const struct { const char *key; int64_t value; } ints[] = {
		{ "u8", 255 }, { "i8", -1 }, { "u16", 65535 }, { "i16", -1 }, { "u32", UINT32_MAX }, { "i32", -1 },
		{ "u64", INT64_MAX }, { "i64", INT64_MIN },
	};
	static const char *const no_ints[] = { "u64 too large", "f32", "yes", "string", "absent", "" };
	struct gguf_string s;
	double f;
	bool yes;
	int64_t i;
	void *copy;
	struct gguf *g;

	(void)state;
	build_scalars();
	g = must_open(&copy);
	for (size_t k = 0; k < sizeof ints / sizeof ints[0]; k++) {
		assert_true(gguf_get_int(g, ints[k].key, &i));
		assert_true(i == ints[k].value);
	}
	i = 42;
	for (size_t k = 0; k < sizeof no_ints / sizeof no_ints[0]; k++)
		assert_false(gguf_get_int(g, no_ints[k], &i));
	assert_int_equal(i, 42);
	assert_true(gguf_get_float(g, "f32", &f) && f == 1.5);
	assert_true(gguf_get_float(g, "f64", &f) && f == -2.5);
	assert_false(gguf_get_float(g, "u8", &f) || gguf_get_float(g, "string", &f));
	assert_true(gguf_get_bool(g, "yes", &yes) && yes);
	assert_true(gguf_get_bool(g, "no", &yes) && !yes);
	assert_false(gguf_get_bool(g, "u8", &yes));
	assert_true(gguf_get_string(g, "string", &s) && s.len == 4 && memcmp(s.data, "text", 4) == 0);
	assert_true(gguf_get_string(g, "empty", &s) && s.len == 0);
	assert_false(gguf_get_string(g, "u8", &s));
	assert_true(gguf_has_key(g, "u8"));
	assert_false(gguf_has_key(g, "u"));
	assert_string_equal(gguf_get_path(g), "test");
	assert_int_equal(gguf_get_size(g), b.n);
	gguf_close(g);
	free(copy);
}

static void
arrays_are_read_by_element(void **state)
{
	enum gguf_value_type type;
	struct gguf_string s;
	double f;
	int64_t i = 42;
	void *copy;
	struct gguf *g;

	(void)state;
	put_header(&b, 0, 5);
	put_array(&b, "ints", GGUF_I16, 2);
	put(&b, "\x01\x00\xff\xff", 4);
	put_array(&b, "floats", GGUF_F32, 1);
	put_f32(&b, 0.25f);
	put_array(&b, "bools", GGUF_BOOL, 2);
	put(&b, "\x00\x01", 2);
	put_array(&b, "strings", GGUF_STRING, 2);
	put_string(&b, "");
	put_string(&b, "two");
	put_array(&b, "none", GGUF_STRING, 0);
	g = must_open(&copy);
	assert_int_equal(gguf_get_array(g, "ints", &type), 2);
	assert_int_equal(type, GGUF_I16);
	assert_true(gguf_get_array_int(g, "ints", 1, &i) && i == -1);
	assert_false(gguf_get_array_int(g, "ints", 2, &i) || gguf_get_array_int(g, "ints", -1, &i));
	assert_false(gguf_get_array_float(g, "ints", 0, &f) || gguf_get_array_string(g, "ints", 0, &s));
	assert_true(gguf_get_array_float(g, "floats", 0, &f) && f == 0.25);
	assert_true(gguf_get_array_int(g, "bools", 1, &i) && i == 1);
	assert_true(gguf_get_array_string(g, "strings", 1, &s) && s.len == 3 && memcmp(s.data, "two", 3) == 0);
	assert_false(gguf_get_array_int(g, "strings", 1, &i) || gguf_get_array_string(g, "strings", 2, &s));
	assert_int_equal(gguf_get_array(g, "none", &type), 0);
	assert_int_equal(gguf_get_array(g, "absent", &type), -1);
	assert_false(gguf_get_int(g, "ints", &i) || gguf_get_string(g, "strings", &s));
	gguf_close(g);
	free(copy);
}

static void
tensors_are_found_in_place(void **state)
{
	const struct gguf_tensor *t;
	void *copy;
	struct gguf *g;

	(void)state;
	put_header(&b, 3, 0);
	put_tensor(&b, "z", 4, 2, QUANT_F32, 0);
	put_tensor(&b, "a", 32, 3, QUANT_Q8_0, 32);
	put_tensor(&b, "m", 1, 1, QUANT_F16, 160);
	put_data(&b, 32, 32 + 128 + 2);
	b.bytes[b.n - 1] = 7;
	g = must_open(&copy);
	assert_int_equal(gguf_count_tensors(g), 3);
	assert_string_equal(gguf_get_tensor(g, 0)->name, "z");
	t = gguf_find_tensor(g, "a");
	assert_ptr_equal(t, gguf_get_tensor(g, 1));
	assert_int_equal(t->n_dims, 2);
	assert_int_equal(t->ne[0], 32);
	assert_int_equal(t->ne[1], 3);
	assert_int_equal(t->ne[2], 1);
	assert_int_equal(t->ne[3], 1);
	assert_int_equal(t->type, QUANT_Q8_0);
	assert_int_equal(t->size, 3 * 34);
	assert_int_equal((const char *)t->data - (const char *)gguf_get_tensor(g, 0)->data, 32);
	assert_int_equal(((const char *)gguf_find_tensor(g, "m")->data)[1], 7);
	assert_null(gguf_find_tensor(g, "b"));
	assert_null(gguf_find_tensor(g, ""));
	gguf_close(g);
	free(copy);
}

static void
version_2_is_read_too(void **state)
{
	void *copy;
	struct gguf *g;

	(void)state;
	build_scalars();
	b.bytes[4] = 2;
	g = must_open(&copy);
	assert_true(gguf_has_key(g, "empty"));
	gguf_close(g);
	free(copy);
}

/* What a row of weights needs: F32 four bytes, halves and blocks of halves two. */
static void
a_smaller_alignment_is_honoured(void **state)
{
	void *copy;
	struct gguf *g;

	(void)state;
	put_header(&b, 2, 1);
	put_key(&b, "general.alignment", GGUF_U32);
	put_u32(&b, 4);
	put_tensor(&b, "a", 1, 1, QUANT_F32, 0);
	put_tensor(&b, "b", 3, 1, QUANT_F16, 4);
	put_data(&b, 4, 10);
	g = must_open(&copy);
	assert_int_equal((const char *)gguf_get_tensor(g, 1)->data - (const char *)copy, b.n - 6);
	gguf_close(g);
	free(copy);
}

/* ---- faults: each function makes a file with one of them ---- */

static void
fault_magic(void)
{
	put_header(&b, 0, 0);
	b.bytes[0] = 'X';
}

static void
fault_version(void)
{
	put_header(&b, 0, 0);
	b.bytes[4] = 1;
}

static void
fault_big_endian(void)
{
	put_header(&b, 0, 0);
	memcpy(b.bytes + 4, "\0\0\0\3", 4);
}

static void
fault_big_endian_magic(void)
{
	put_header(&b, 0, 0);
	memcpy(b.bytes, "FUGG\0\0\0\3", 8);
}

static void
fault_key_count(void)
{
	put_header(&b, 0, UINT64_MAX);
}

static void
fault_key_count_beyond_file(void)
{
	put_header(&b, 0, 3);
	put_data(&b, 1, 3 * 14 - 1);
}

static void
fault_key_length(void)
{
	put_header(&b, 0, 1);
	put_u64(&b, UINT64_MAX);
	put_data(&b, 1, 100);
}

static void
fault_key_empty(void)
{
	put_header(&b, 0, 1);
	put_key(&b, "", GGUF_U64);
	put_u64(&b, 0);
}

static void
fault_key_nul(void)
{
	put_header(&b, 0, 1);
	put_key(&b, "ab", GGUF_U64);
	put_u64(&b, 0);
	b.bytes[24 + 8 + 1] = '\0';
}

static void
fault_key_twice(void)
{
	put_header(&b, 0, 3);
	put_string_key(&b, "same", "");
	put_string_key(&b, "other", "");
	put_string_key(&b, "same", "");
}

static void
fault_value_type(void)
{
	put_header(&b, 0, 1);
	put_key(&b, "key", GGUF_F64 + 1);
	put_u64(&b, 0);
}

static void
fault_bool(void)
{
	put_header(&b, 0, 1);
	put_key(&b, "key", GGUF_BOOL);
	put_u8(&b, 2);
}

static void
fault_array_bool(void)
{
	put_header(&b, 0, 1);
	put_array(&b, "key", GGUF_BOOL, 3);
	put(&b, "\1\0\3", 3);
}

static void
fault_array_type(void)
{
	put_header(&b, 0, 1);
	put_array(&b, "key", 99, 0);
}

static void
fault_array_nested(void)
{
	put_header(&b, 0, 1);
	put_array(&b, "key", GGUF_ARRAY, 1);
	put_u32(&b, GGUF_U8);
	put_u64(&b, 0);
}

static void
fault_array_count(void)
{
	put_header(&b, 0, 1);
	put_array(&b, "key", GGUF_U64, UINT64_MAX / 8 + 2);
	put_u64(&b, 0);
}

static void
fault_array_huge(void)
{
	put_header(&b, 0, 1);
	put_array(&b, "key", GGUF_U8, UINT64_MAX);
	put_u64(&b, 0);
}

static void
fault_array_strings(void)
{
	put_header(&b, 0, 1);
	put_array(&b, "key", GGUF_STRING, UINT64_C(1) << 40);
	put_string(&b, "a");
}

static void
fault_array_string_length(void)
{
	put_header(&b, 0, 1);
	put_array(&b, "key", GGUF_STRING, 2);
	put_string(&b, "a");
	put_u64(&b, 1);
}

static void
put_alignment(uint32_t a)
{
	put_header(&b, 0, 1);
	put_key(&b, "general.alignment", GGUF_U32);
	put_u32(&b, a);
}

static void
fault_alignment_zero(void)
{
	put_alignment(0);
}

static void
fault_alignment_odd(void)
{
	put_alignment(48);
}

static void
fault_alignment_huge(void)
{
	put_alignment(UINT32_C(1) << 31);
}

static void
fault_alignment_kind(void)
{
	put_header(&b, 0, 1);
	put_string_key(&b, "general.alignment", "32");
}

static void
fault_tensor_count(void)
{
	put_header(&b, UINT64_MAX, 0);
}

static void
fault_tensor_count_beyond_file(void)
{
	put_header(&b, 2, 0);
	put_data(&b, 1, 2 * 33 - 1);
}

/* One tensor, and room for its data. */
static void
put_file(const char *name, uint64_t cols, uint64_t rows, uint32_t type, uint64_t offset)
{
	put_header(&b, 1, 0);
	put_tensor(&b, name, cols, rows, type, offset);
	put_data(&b, 32, 1024);
}

static void
fault_tensor_name_empty(void)
{
	put_file("", 1, 1, QUANT_F32, 0);
}

static void
fault_tensor_name_long(void)
{
	char name[257];

	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	put_file(name, 1, 1, QUANT_F32, 0);
}

static void
fault_tensor_twice(void)
{
	put_header(&b, 3, 0);
	put_tensor(&b, "w", 1, 1, QUANT_F32, 0);
	put_tensor(&b, "v", 1, 1, QUANT_F32, 0);
	put_tensor(&b, "w", 1, 1, QUANT_F32, 0);
	put_data(&b, 32, 32);
}

static void
fault_dimensions_none(void)
{
	put_file("w", 1, 1, QUANT_F32, 0);
	b.bytes[24 + 8 + 1] = 0;
}

static void
fault_dimensions_many(void)
{
	put_file("w", 1, 1, QUANT_F32, 0);
	b.bytes[24 + 8 + 1] = 5;
}

static void
fault_dimension_zero(void)
{
	put_file("w", 4, 0, QUANT_F32, 0);
}

static void
fault_dimension_negative(void)
{
	put_file("w", 1, UINT64_MAX, QUANT_F32, 0);
}

static void
fault_dimensions_overflow(void)
{
	put_file("w", UINT64_C(1) << 32, UINT64_C(1) << 32, QUANT_F32, 0);
}

static void
fault_type_unknown(void)
{
	put_file("w", 1, 1, 12345, 0);
}

static void
fault_type_unsupported(void)
{
	put_file("w", 256, 1, 16, 0);
}

static void
fault_block(void)
{
	put_file("w", 33, 1, QUANT_Q4_1, 0);
}

static void
fault_data_size(void)
{
	put_file("w", 1024 / 4 + 1, 1, QUANT_F32, 0);
}

static void
fault_data_size_huge(void)
{
	put_file("w", INT64_MAX, 1, QUANT_F16, 0);
}

static void
fault_data_offset(void)
{
	put_file("w", 1, 1, QUANT_F32, 1024);
}

static void
fault_data_offset_huge(void)
{
	put_file("w", 1, 1, QUANT_F32, UINT64_MAX - 31);
}

static void
fault_data_absent(void)
{
	put_file("w", 1, 1, QUANT_F32, 0);
	b.n -= 1024 + 1;
}

static void
fault_data_alignment(void)
{
	put_file("w", 1, 1, QUANT_F32, 16);
}

static void
put_unaligned(uint32_t type, uint32_t alignment, const char *name)
{
	put_header(&b, 1, 1);
	put_key(&b, "general.alignment", GGUF_U32);
	put_u32(&b, alignment);
	put_tensor(&b, name, 1, 1, type, alignment);
	put_data(&b, alignment, 64);
}

/* The descriptions end at an even, then at an odd place. */
static void
fault_f32_alignment(void)
{
	put_unaligned(QUANT_F32, 2, "wxyz");
	if (((b.n - 64) & 2) != 0)
		put_unaligned(QUANT_F32, 2, "wxyzuv");
}

static void
fault_f16_alignment(void)
{
	put_unaligned(QUANT_F16, 1, "w");
	if (((b.n - 64) & 1) != 0)
		put_unaligned(QUANT_F16, 1, "wx");
}

static const struct fault {
	void (*build)(void);
	const char *text; /* of the complaint, after the file's name */
} faults[] = {
	{ fault_magic, "not a GGUF file" },
	{ fault_version, "GGUF version 1 is not supported; 2 and 3 are" },
	{ fault_big_endian, "a big-endian GGUF file; only little-endian ones are supported" },
	{ fault_big_endian_magic, "a big-endian GGUF file; only little-endian ones are supported" },
	{ fault_key_count, "impossible number of metadata keys (18446744073709551615)" },
	{ fault_key_count_beyond_file, "impossible number of metadata keys (3)" },
	{ fault_key_length, "the file ends inside metadata key 0" },
	{ fault_key_empty, "metadata key 0 has an impossible name" },
	{ fault_key_nul, "metadata key 0 has an impossible name" },
	{ fault_key_twice, "metadata key 'same' occurs twice" },
	{ fault_value_type, "metadata key 'key': unknown value type 13" },
	{ fault_bool, "metadata key 'key': 2 is not a truth value" },
	{ fault_array_bool, "metadata key 'key': 3 is not a truth value" },
	{ fault_array_type, "metadata key 'key': unknown value type 99" },
	{ fault_array_nested, "metadata key 'key': arrays of arrays are not supported" },
	{ fault_array_count, "metadata key 'key': the file ends inside its value" },
	{ fault_array_huge, "metadata key 'key': impossible array length" },
	{ fault_array_strings, "metadata key 'key': the file ends inside its array of 1099511627776 strings" },
	{ fault_array_string_length, "metadata key 'key': the file ends inside string 1" },
	{ fault_alignment_zero, "general.alignment is 0; a power of two up to 1048576 is needed" },
	{ fault_alignment_odd, "general.alignment is 48; a power of two up to 1048576 is needed" },
	{ fault_alignment_huge, "general.alignment is 2147483648; a power of two up to 1048576 is needed" },
	{ fault_alignment_kind, "general.alignment is not an integer" },
	{ fault_tensor_count, "impossible number of tensors (18446744073709551615)" },
	{ fault_tensor_count_beyond_file, "impossible number of tensors (2)" },
	{ fault_tensor_name_empty, "tensor 0 has an impossible name" },
	{ fault_tensor_name_long, "tensor 0 has an impossible name" },
	{ fault_tensor_twice, "tensor 'w' occurs twice" },
	{ fault_dimensions_none, "tensor 'w' has 0 dimensions; 1 to 4 are supported" },
	{ fault_dimensions_many, "tensor 'w' has 5 dimensions; 1 to 4 are supported" },
	{ fault_dimension_zero, "tensor 'w' has impossible dimensions" },
	{ fault_dimension_negative, "tensor 'w' has impossible dimensions" },
	{ fault_dimensions_overflow, "tensor 'w' has impossible dimensions" },
	{ fault_type_unknown, "tensor 'w' has unknown type 12345" },
	{ fault_type_unsupported, "tensor 'w' has type IQ2_XXS, which is not supported" },
	{ fault_block, "tensor 'w' has rows of 33 weights, not a multiple of Q4_1's 32" },
	{ fault_data_size, "the data of tensor 'w' is not inside the file" },
	{ fault_data_size_huge, "the data of tensor 'w' is not inside the file" },
	{ fault_data_offset, "the data of tensor 'w' is not inside the file" },
	{ fault_data_offset_huge, "the data of tensor 'w' is not inside the file" },
	{ fault_data_absent, "the data of tensor 'w' is not inside the file" },
	{ fault_data_alignment, "the data of tensor 'w' is not aligned" },
	{ fault_f32_alignment, "is not aligned" },
	{ fault_f16_alignment, "is not aligned" },
};

static void
each_fault_is_refused_by_name(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
		struct err e = { 0 };
		void *copy;

		faults[i].build();
		if (open_build(&b, b.n, &copy, &e) != NULL)
			fail_msg("accepted, instead of: %s", faults[i].text);
		assert_int_equal(e.code, EX_DATAERR);
		assert_memory_equal(e.text, "test: ", 6);
		if (strstr(e.text, faults[i].text) == NULL)
			fail_msg("'%s' instead of '%s'", e.text, faults[i].text);
		free(copy);
	}
}

static void
a_file_cut_off_anywhere_is_refused(void **state)
{
	(void)state;
	build_scalars();
	b.bytes[8] = 1;
	put_array(&b, "strings", GGUF_STRING, 1);
	put_string(&b, "one");
	b.bytes[16]++;
	put_tensor(&b, "w", 32, 1, QUANT_Q4_0, 0);
	put_data(&b, 32, 18);
	for (size_t n = 0; n <= b.n; n++) {
		struct err e = { 0 };
		void *copy;
		struct gguf *g = open_build(&b, n, &copy, &e);

		if (n == b.n) {
			assert_non_null(g);
			gguf_close(g);
		} else {
			assert_null(g);
			assert_int_equal(e.code, EX_DATAERR);
		}
		free(copy);
	}
}

static void
names_are_harmless_in_complaints(void **state)
{
	char name[200];
	struct err e = { 0 };
	void *copy;

	(void)state;
	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	memcpy(name, "\x1b[2J\xc2\x9b\n", 7);
	put_file(name, 1, 1, 12345, 0);
	assert_null(open_build(&b, b.n, &copy, &e));
	assert_memory_equal(e.text, "test: tensor '?[2J???nnn", 24);
	assert_non_null(strstr(e.text, "nnn...' has unknown type"));
	free(copy);
}

static void
what_is_no_file_is_refused(void **state)
{
	char dir[] = "/tmp/test_gguf.XXXXXX", path[64];
	struct err e = { 0 };
	struct gguf *g;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_null(gguf_open(dir, &e));
	assert_int_equal(e.code, EX_NOINPUT);
	snprintf(path, sizeof path, "%s/file", dir);
	assert_null(gguf_open(path, &e));
	assert_int_equal(e.code, EX_NOINPUT);
	assert_non_null(strstr(e.text, strerror(ENOENT)));
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_null(gguf_open(path, &e));
	assert_int_equal(e.code, EX_NOINPUT);
	assert_int_equal(unlink(path), 0);
	f = fopen(path, "w");
	assert_null(gguf_open(path, &e));
	assert_int_equal(e.code, EX_DATAERR);
	build_scalars();
	assert_int_equal(fwrite(b.bytes, 1, b.n, f), b.n);
	assert_int_equal(fclose(f), 0);
	g = gguf_open(path, &e);
	assert_non_null(g);
	assert_true(gguf_has_key(g, "u8"));
	assert_string_equal(gguf_get_path(g), path);
	gguf_close(g);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scalars_are_read_by_kind),
		cmocka_unit_test(arrays_are_read_by_element),
		cmocka_unit_test(tensors_are_found_in_place),
		cmocka_unit_test(version_2_is_read_too),
		cmocka_unit_test(a_smaller_alignment_is_honoured),
		cmocka_unit_test(each_fault_is_refused_by_name),
		cmocka_unit_test(a_file_cut_off_anywhere_is_refused),
		cmocka_unit_test(names_are_harmless_in_complaints),
		cmocka_unit_test(what_is_no_file_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
