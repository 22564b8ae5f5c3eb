/*
 * Model files that are damaged, hostile or not supported: each is refused with
 * a sentence that names the object, or computed; nothing crashes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"

static char *file;
static size_t file_size;
static char scratch[4096];

static int
setup(void **state)
{
	const char *src = getenv("SRC"), *tmp = getenv("TMPDIR");
	char path[4096];
	FILE *f;

	(void)state;
	snprintf(path, sizeof path, "%s/tests/golden/llama-gqa/model.gguf", src != NULL ? src : ".");
	f = fopen(path, "rb");
	if (f == NULL)
		fail_msg("%s is missing", path);
	fseek(f, 0, SEEK_END);
	file_size = (size_t)ftell(f);
	rewind(f);
	file = malloc(file_size);
	assert_int_equal(fread(file, 1, file_size, f), file_size);
	fclose(f);
	snprintf(scratch, sizeof scratch, "%s/sinkd_test_model_%ld.gguf", tmp != NULL ? tmp : "/tmp", (long)getpid());
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	unlink(scratch);
	free(file);
	return 0;
}

/* The file with its first size bytes only. */
static void
write_scratch(size_t size)
{
	FILE *f = fopen(scratch, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(file, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
}

/* Open the scratch file and, where that works, compute a few tokens. Returns true if it was computed. */
static bool
try_scratch(struct err *e)
{
	static const int32_t ids[3] = { 1, 2, 3 };
	struct model *m = model_open(scratch, 0, e);
	struct context_options o;
	struct context *c;
	bool computed = false;

	if (m == NULL)
		return false;
	context_options_init(&o);
	o.device = "cpu";
	o.sinks = 1;
	o.window = 2;
	o.threads = 1;
	o.chunk = 4;
	c = context_new(m, &o, e);
	if (c != NULL)
		computed = context_feed(c, ids, 3, NULL, e) == 0;
	context_free(c);
	model_close(m);
	return computed;
}

/* Where a string lies in the file; it must be there. */
static char *
find(const char *text)
{
	char *p = memmem(file, file_size, text, strlen(text));

	assert_non_null(p);
	return p;
}

/* With `from` replaced by `to` (of the same length) the file is refused, and the sentence names `object`. */
static void
refuse(const char *from, const char *to, const char *object)
{
	struct err e = { 0 };
	char *p = find(from);

	memcpy(p, to, strlen(to));
	write_scratch(file_size);
	memcpy(p, from, strlen(from));
	assert_false(try_scratch(&e));
	assert_int_equal(e.code, EX_DATAERR);
	assert_non_null(strstr(e.text, scratch));
	if (strstr(e.text, object) == NULL)
		fail_msg("'%s' does not name '%s'", e.text, object);
}

static void
test_names_what_it_refuses(void **state)
{
	(void)state;
	refuse("blk.1.ffn_up.weight", "blk.1.ffn_xx.weight", "blk.1.ffn_up.weight");
	refuse("blk.0.attn_q.weight", "blk.0.attn_z.weight", "blk.0.attn_q.weight");
	refuse("output_norm.weight", "output_xorm.weight", "output_norm.weight");
	refuse("token_embd.weight", "token_emxx.weight", "token_embd.weight");
	refuse("llama.attention.head_count\x04", "llama.attention.xxxx_count\x04", "head_count");
	refuse("llama.block_count", "llama.block_xxxxx", "block_count");
	refuse("general.architecture", "general.architexxxxx", "general.architecture");
}

static void
test_refuses_another_architecture_by_name(void **state)
{
	struct err e = { 0 };
	char *p = find("general.architecture") + strlen("general.architecture") + 4 + 8;

	(void)state;
	assert_memory_equal(p, "llama", 5);
	memcpy(p, "bloom", 5);
	write_scratch(file_size);
	memcpy(p, "llama", 5);
	assert_false(try_scratch(&e));
	assert_int_equal(e.code, EX_DATAERR);
	assert_non_null(strstr(e.text, "'bloom'"));
}

/* A tensor that the architecture has no place for would be silently left out. */
static void
test_refuses_tensors_it_would_ignore(void **state)
{
	struct err e = { 0 };
	char *p = find("output.weight"); /* may be missing: then the embedding is used */

	(void)state;
	memcpy(p, "attn_sinks.we", strlen("output.weight"));
	write_scratch(file_size);
	memcpy(p, "output.weight", strlen("output.weight"));
	assert_false(try_scratch(&e));
	assert_non_null(strstr(e.text, "attn_sinks.we"));
}

/* The file with one more key of 32 bits, and another that keeps what follows aligned, in the scratch file. */
static void
write_with_key(const char *name, uint32_t value)
{
	static const uint32_t u32 = 4, string = 8;
	uint64_t len = strlen(name), n_keys, one = 1;
	uint64_t pad = 32 - (8 + len + 4 + 4 + 8 + 1 + 4 + 8) % 32;
	FILE *f = fopen(scratch, "wb");

	assert_non_null(f);
	memcpy(&n_keys, file + 16, 8);
	n_keys += 2;
	fwrite(file, 1, 16, f);
	fwrite(&n_keys, 8, 1, f);
	fwrite(&len, 8, 1, f);
	fwrite(name, 1, len, f);
	fwrite(&u32, 4, 1, f);
	fwrite(&value, 4, 1, f);
	fwrite(&one, 8, 1, f);
	fwrite("~", 1, 1, f);
	fwrite(&string, 4, 1, f);
	fwrite(&pad, 8, 1, f);
	fprintf(f, "%*s", (int)pad, "");
	fwrite(file + 24, 1, file_size - 24, f);
	assert_int_equal(fclose(f), 0);
}

static void
test_refuses_a_part_of_a_model(void **state)
{
	struct err e = { 0 };

	(void)state;
	write_with_key("split.count", 3);
	assert_false(try_scratch(&e));
	assert_int_equal(e.code, EX_DATAERR);
	assert_non_null(strstr(e.text, "a model in 3 files"));
	write_with_key("split.count", 1);
	assert_true(try_scratch(&e));
}

static void
test_refuses_keys_it_would_ignore(void **state)
{
	struct err e = { 0 };

	(void)state;
	write_with_key("llama.embedding_scale", 12);
	assert_false(try_scratch(&e));
	assert_int_equal(e.code, EX_DATAERR);
	assert_non_null(strstr(e.text, "llama.embedding_scale"));
	write_with_key("llama.embedding_scale", 1);
	assert_true(try_scratch(&e));
	write_with_key("other.embedding_scale", 12);
	assert_true(try_scratch(&e));
}

/* The tail of a download that was not finished is zeros. */
static void
test_refuses_a_file_with_a_hole(void **state)
{
	struct err e = { 0 };
	char *whole = file;

	(void)state;
	file = calloc(1, file_size);
	assert_non_null(file);
	memcpy(file, whole, file_size / 2);
	write_scratch(file_size);
	free(file);
	file = whole;
	assert_false(try_scratch(&e));
	assert_int_equal(e.code, EX_DATAERR);
	assert_non_null(strstr(e.text, "holds nothing but zeros"));
}

static void
test_refuses_what_is_not_there(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_null(model_open("/nonexistent/x.gguf", 0, &e));
	assert_int_equal(e.code, EX_NOINPUT);
	assert_non_null(strstr(e.text, "/nonexistent/x.gguf"));
}

static void
test_refuses_every_truncation(void **state)
{
	(void)state;
	for (size_t size = 0; size < file_size; size += size < 600 ? 1 : file_size / 97) {
		struct err e = { 0 };

		write_scratch(size);
		assert_false(try_scratch(&e));
		assert_int_equal(e.code, EX_DATAERR);
	}
}

/* Every single byte of the head changed in two ways; most of them hit metadata, tensor names and offsets. */
static void
test_survives_every_flipped_byte_of_the_first_4_kib(void **state)
{
	int computed = 0, refused = 0;

	(void)state;
	for (size_t i = 0; i < 4096; i++)
		for (int way = 0; way < 2; way++) {
			struct err e = { 0 };
			char old = file[i];

			file[i] = (char)(way == 0 ? ~old : old ^ 1 << i % 8);
			write_scratch(file_size);
			file[i] = old;
			if (try_scratch(&e)) {
				computed++;
			} else {
				assert_true(e.code != 0 && e.text[0] != '\0');
				refused++;
			}
		}
	assert_true(computed > 0 && refused > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_what_it_refuses),
		cmocka_unit_test(test_refuses_another_architecture_by_name),
		cmocka_unit_test(test_refuses_tensors_it_would_ignore),
		cmocka_unit_test(test_refuses_a_part_of_a_model),
		cmocka_unit_test(test_refuses_keys_it_would_ignore),
		cmocka_unit_test(test_refuses_a_file_with_a_hole),
		cmocka_unit_test(test_refuses_what_is_not_there),
		cmocka_unit_test(test_refuses_every_truncation),
		cmocka_unit_test(test_survives_every_flipped_byte_of_the_first_4_kib),
	};

	return cmocka_run_group_tests_name("model", tests, setup, teardown);
}
