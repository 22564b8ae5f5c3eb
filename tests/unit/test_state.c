/* Checkpoints: what was written comes back, and nothing else is taken for one. */
#include "stream/state.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>

static struct stream_options options;
static char dir[64], model[4096], other[4096], checkpoint[128], old[128], tmp[128];
static struct state_folder *folder;
static struct stream *stream;
static struct err err;

static struct stream *
make_stream(void)
{
	struct stream *s = stream_open(&options, &err);

	if (s == NULL)
		fail_msg("%s", err.text);
	return s;
}

static void
read_text(struct stream *s, const char *text)
{
	struct tokens t = {0};

	assert_int_equal(stream_encode(s, text, strlen(text), 0, &t, &err), 0);
	assert_int_equal(context_feed(s->context, t.ids, t.n, NULL, &err), 0);
	tokens_fini(&t);
}

static uint64_t
hash(struct stream *s)
{
	uint64_t h;

	assert_int_equal(state_hash(s, &h, &err), 0);
	return h;
}

static void
save(const char *blob, const char *places)
{
	int64_t bytes;

	if (state_write(folder, stream, blob, strlen(blob), &bytes, &err) < 0 ||
	    state_finish(folder, places, strlen(places), &err) < 0)
		fail_msg("%s", err.text);
}

static void
assert_places(const struct state *s, const char *want)
{
	size_t len;
	const char *places = state_get_places(s, &len);

	assert_int_equal(len, strlen(want));
	assert_memory_equal(places, want, len);
	assert_int_equal(state_get_output_size(s), -1);
}

static int
setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/test_state.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", dir);
	snprintf(old, sizeof old, "%s/checkpoint.old", dir);
	snprintf(tmp, sizeof tmp, "%s/checkpoint.tmp", dir);
	assert_non_null(folder = state_folder_open(dir, &err));
	snprintf(model, sizeof model, "%s/tests/golden/llama-gqa/model.gguf", getenv("SRC"));
	snprintf(other, sizeof other, "%s/tests/golden/llama-tied/model.gguf", getenv("SRC"));
	options.model = model;
	context_options_init(&options.context);
	options.context.device = "cpu";
	options.context.window = 12;
	options.context.fork_tokens = 64;
	options.context.threads = 1;
	stream = make_stream();
	read_text(stream, "the first lines of a stream\nand more of them\n");
	return 0;
}

static int
teardown(void **state)
{
	char command[160];

	(void)state;
	stream_close(stream);
	state_folder_close(folder);
	snprintf(command, sizeof command, "rm -r %s", dir);
	return system(command);
}

static void
test_what_was_written_comes_back(void **state)
{
	struct state *s;
	struct stream *again;
	const char *blob;
	size_t len;

	(void)state;
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	assert_null(s);
	save("{\"cursor\":1}", "{\"output\":4711}");
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	assert_non_null(s);
	blob = state_get_blob(s, &len);
	assert_int_equal(len, 12);
	assert_memory_equal(blob, "{\"cursor\":1}", len);
	assert_places(s, "{\"output\":4711}");
	assert_null(state_get_warning(s));
	again = make_stream();
	assert_true(hash(again) != hash(stream));
	assert_int_equal(state_restore(s, again, &err), 0);
	assert_true(hash(again) == hash(stream));
	state_close(s);
	read_text(stream, "one more");
	read_text(again, "one more");
	assert_true(hash(again) == hash(stream));
	stream_close(again);
}

static void
flip(int fd, off_t at, char bit)
{
	char c;

	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= bit;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
}

/* Is anything taken for a checkpoint here? */
static bool
is_accepted(void)
{
	struct state *s;
	int rc = state_open(folder, model, &s, &err);

	if (rc < 0)
		assert_int_equal(err.code, EX_DATAERR);
	assert_true(rc == 0 ? s != NULL : s == NULL);
	state_close(s);
	return rc == 0;
}

static void
test_every_damage_is_noticed(void **state)
{
	struct stat st;
	int fd;

	(void)state;
	save("the blob", "the places");
	unlink(old);
	assert_true(is_accepted());
	fd = open(checkpoint, O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t i = 0; i < st.st_size; i++) {
		char bit = (char)(1 << i % 8);

		flip(fd, i, bit);
		assert_false(is_accepted());
		flip(fd, i, bit);
	}
	assert_true(is_accepted());
	assert_int_equal(ftruncate(fd, st.st_size + 1), 0);
	assert_false(is_accepted());
	for (off_t size = st.st_size - 1; size >= 0; size -= 1 + size / 500) {
		assert_int_equal(ftruncate(fd, size), 0);
		assert_false(is_accepted());
	}
	close(fd);
}

static void
test_the_one_before_is_used(void **state)
{
	struct state *s;
	int fd;

	(void)state;
	save("one", "1");
	save("two", "2");
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	assert_places(s, "2");
	state_close(s);
	fd = open(checkpoint, O_RDWR);
	flip(fd, 100, 1);
	close(fd);
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	assert_places(s, "1");
	assert_non_null(state_get_warning(s));
	state_close(s);
	unlink(checkpoint); /* as if it had ended between the two renames */
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	assert_places(s, "1");
	assert_null(state_get_warning(s));
	state_close(s);
}

static void
test_foreign_states_are_refused(void **state)
{
	struct stream_options mine = options;
	struct stream *again;
	struct state *s;

	(void)state;
	save("", "");
	unlink(old);
	assert_int_equal(state_open(folder, other, &s, &err), -1);
	assert_non_null(strstr(err.text, "another model"));
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	options.context.window = 13;
	again = make_stream();
	options = mine;
	assert_int_equal(state_restore(s, again, &err), -1);
	assert_int_equal(err.code, EX_CONFIG);
	stream_close(again);
	state_close(s);
}

/* A copy of the model, with its last byte changed or not: earlier versions looked at 4 KiB of every MiB only. */
static const char *
copy_model(const char *name, int change)
{
	static char path[160];
	char command[4400];
	FILE *f;
	int last;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	snprintf(command, sizeof command, "cp %s %s", model, path);
	assert_int_equal(system(command), 0);
	assert_non_null(f = fopen(path, "r+"));
	assert_int_equal(fseek(f, -1, SEEK_END), 0);
	assert_int_not_equal(last = fgetc(f), EOF);
	assert_int_equal(fseek(f, -1, SEEK_END), 0);
	fputc(last ^ change, f);
	fclose(f);
	return path;
}

static void
test_every_byte_of_the_model_counts(void **state)
{
	struct state *s;

	(void)state;
	save("", "");
	assert_int_equal(state_open(folder, copy_model("same", 0), &s, &err), 0);
	state_close(s);
	assert_int_equal(state_open(folder, copy_model("changed", 1), &s, &err), -1);
	assert_non_null(strstr(err.text, "another model"));
}

/* The number of an unchanged file is taken from the folder; one that is damaged, or of another file, is not. */
static void
test_an_unchanged_model_is_read_once(void **state)
{
	char kept[160];
	uint64_t bytes[10];
	struct state *s;
	FILE *f;

	(void)state;
	save("", "");
	snprintf(kept, sizeof kept, "%s/model", dir);
	assert_int_equal(access(kept, F_OK), 0);
	assert_non_null(f = fopen(kept, "r"));
	assert_int_equal(fread(bytes, 1, sizeof bytes, f), sizeof bytes);
	assert_int_equal(fgetc(f), EOF);
	fclose(f);
	bytes[8] ^= 1;
	for (int good = 0; good < 2; good++) {
		if (good)
			bytes[9] = XXH3_64bits(bytes, 72);
		assert_non_null(f = fopen(kept, "w"));
		assert_int_equal(fwrite(bytes, 1, sizeof bytes, f), sizeof bytes);
		fclose(f);
		assert_int_equal(state_open(folder, model, &s, &err), good ? -1 : 0);
		state_close(s);
	}
	assert_non_null(strstr(err.text, "another model"));
	assert_int_equal(state_open(folder, copy_model("same", 0), &s, &err), 0);
	state_close(s);
}

static void
test_unfinished_ones_do_not_count(void **state)
{
	struct state *s;
	int64_t bytes;

	(void)state;
	save("done", "1");
	assert_int_equal(state_write(folder, stream, "begun", 5, &bytes, &err), 0);
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	assert_places(s, "1");
	state_close(s);
	unlink(tmp);
	assert_int_equal(mkdir(tmp, 0700), 0);
	assert_int_equal(state_write(folder, stream, "", 0, &bytes, &err), -1);
	assert_int_equal(err.code, EX_IOERR);
	assert_non_null(strstr(err.text, "checkpoint.tmp"));
	assert_null(state_folder_open("/nowhere/state", &err));
	assert_int_equal(err.code, EX_CANTCREAT);
}

/* Damage in the last one, a start with the one before it, and an end between the next two renames. */
static void
test_a_damaged_one_never_replaces_a_whole_one(void **state)
{
	struct state *s;
	int64_t bytes;
	int fd;

	(void)state;
	save("one", "1");
	save("two", "2");
	fd = open(checkpoint, O_RDWR);
	flip(fd, 100, 1);
	close(fd);
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	assert_places(s, "1");
	state_close(s);
	assert_int_equal(state_write(folder, stream, "three", 5, &bytes, &err), 0);
	assert_int_equal(state_finish(folder, "3", 1, &err), 0);
	unlink(checkpoint);
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	assert_non_null(s);
	assert_places(s, "1");
	state_close(s);
}

static void
test_a_whole_unnamed_one_is_found(void **state)
{
	struct state *s;

	(void)state;
	save("one", "1");
	assert_int_equal(rename(checkpoint, tmp), 0);
	for (int i = 0; i < 2; i++) { /* found, and then there under its name */
		assert_int_equal(state_open(folder, model, &s, &err), 0);
		assert_non_null(s);
		assert_places(s, "1");
		state_close(s);
		assert_int_equal(access(tmp, F_OK), -1);
		assert_int_equal(access(checkpoint, F_OK), 0);
	}
}

static void
test_links_are_not_followed(void **state)
{
	char target[128];
	struct state *s;
	struct stat st;
	int64_t bytes;
	int fd;

	(void)state;
	snprintf(target, sizeof target, "%s/target", dir);
	assert_true((fd = open(target, O_WRONLY | O_CREAT, 0600)) >= 0);
	close(fd);
	assert_int_equal(symlink(target, tmp), 0);
	assert_int_equal(state_write(folder, stream, "", 0, &bytes, &err), 0);
	assert_int_equal(stat(target, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(lstat(tmp, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	save("one", "1");
	assert_int_equal(rename(checkpoint, target), 0);
	assert_int_equal(symlink(target, checkpoint), 0);
	assert_int_equal(state_open(folder, model, &s, &err), -1);
}

static void
test_folders_of_others_are_refused(void **state)
{
	char shared[96];

	(void)state;
	snprintf(shared, sizeof shared, "%s/shared", dir);
	assert_int_equal(mkdir(shared, 0700), 0);
	assert_int_equal(chmod(shared, 0777), 0);
	assert_null(state_folder_open(shared, &err));
	assert_int_equal(err.code, EX_NOPERM);
	assert_int_equal(chmod(shared, 0700), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(shared, 12345, 12345), 0);
		assert_null(state_folder_open(shared, &err));
		assert_int_equal(err.code, EX_NOPERM);
	}
}

/* What earlier versions wrote of the model's file. */
static uint64_t
number_of_earlier_versions(void)
{
	XXH3_state_t *x = XXH3_createState();
	char bytes[4096];
	struct stat st;
	uint64_t id;
	FILE *f;

	assert_non_null(f = fopen(model, "r"));
	assert_int_equal(fstat(fileno(f), &st), 0);
	assert_true(st.st_size < 1 << 20);
	assert_int_equal(fread(bytes, 1, sizeof bytes, f), sizeof bytes);
	fclose(f);
	XXH3_64bits_reset(x);
	XXH3_64bits_update(x, &st.st_size, sizeof st.st_size);
	XXH3_64bits_update(x, bytes, sizeof bytes);
	id = XXH3_64bits_digest(x);
	XXH3_freeState(x);
	return id;
}

/* The fixture is a checkpoint of format 2, after three events. Its stream's bytes begin behind its progress. */
static char *
read_old(size_t *size)
{
	char path[4200], *bytes;
	FILE *f;

	snprintf(path, sizeof path, "%s/tests/unit/checkpoint.format2", getenv("SRC"));
	assert_non_null(f = fopen(path, "r"));
	assert_int_equal(fseek(f, 0, SEEK_END), 0);
	*size = (size_t)ftell(f);
	rewind(f);
	assert_non_null(bytes = malloc(*size));
	assert_int_equal(fread(bytes, 1, *size, f), *size);
	fclose(f);
	return bytes;
}

/* All that was saved is loaded: the stream's number is the sum of the old file's bytes. */
static void
assert_old_is_restored(const char *bytes, size_t size, size_t places_len)
{
	struct stream *again = make_stream();
	struct state *s;
	uint64_t progress_len;
	size_t begin;
	FILE *f;

	memcpy(&progress_len, bytes + 24, sizeof progress_len);
	begin = 32 + (size_t)progress_len;
	assert_non_null(f = fopen(checkpoint, "w"));
	assert_int_equal(fwrite(bytes, 1, size, f), size);
	fclose(f);
	if (state_open(folder, model, &s, &err) < 0 || state_restore(s, again, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(hash(again) == XXH3_64bits(bytes + begin, size - begin - 8 - places_len - 32));
	assert_int_equal(again->memory->count, 3);
	stream_close(again);
	state_close(s);
}

static void
test_format_2_is_read(void **state)
{
	size_t size, len;
	char *bytes = read_old(&size);
	uint64_t places_len;
	struct state *s;

	(void)state;
	memcpy(&places_len, bytes + size - 16, sizeof places_len);
	assert_old_is_restored(bytes, size, (size_t)places_len);
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	assert_non_null(state_get_places(s, &len));
	assert_int_equal(len, places_len);
	assert_int_equal(state_get_output_size(s), -1);
	state_close(s);
	for (size_t i = 0; i < size; i++) { /* and its damage is noticed as before */
		FILE *f = fopen(checkpoint, "r+");

		assert_non_null(f);
		flip(fileno(f), (off_t)i, (char)(1 << i % 8));
		assert_false(is_accepted());
		flip(fileno(f), (off_t)i, (char)(1 << i % 8));
		fclose(f);
	}
	free(bytes);
}

/* Format 1 had no places, the number of 4 KiB of every MiB of the model, and the size of the output's file. */
static void
test_format_1_is_read(void **state)
{
	size_t size, len;
	char *bytes = read_old(&size);
	uint64_t tail[4], places_len, model_number = number_of_earlier_versions();
	struct state *s;

	(void)state;
	memcpy(&places_len, bytes + size - 16, sizeof places_len);
	size -= (size_t)places_len;
	bytes[8] = 1;
	memcpy(bytes + 16, &model_number, sizeof model_number);
	tail[1] = XXH3_64bits(bytes, size - 40);
	memcpy(bytes + size - 40, &tail[1], 8);
	memcpy(tail, "sinkdend", 8);
	tail[2] = 4711;
	tail[3] = XXH3_64bits(tail, 24);
	memcpy(bytes + size - 32, tail, 32);
	assert_old_is_restored(bytes, size, 0);
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	assert_null(state_get_places(s, &len));
	assert_int_equal(state_get_output_size(s), 4711);
	state_close(s);
	free(bytes);
}

/* ---- sections ------------------------------------------------------- */

static int
save_number(void *object, const struct bytes_out *to, struct err *e)
{
	return bytes_write(to, object, sizeof(int64_t), e);
}

static int
load_number(void *object, uint32_t version, const struct bytes_in *from, struct err *e)
{
	assert_int_equal(version, 2);
	return bytes_read(from, object, sizeof(int64_t), e);
}

/* Load what the last checkpoint has into a new stream, to which the section is added unless it is NULL. */
static int
restore_with(const struct section *section)
{
	struct stream *again = make_stream();
	struct state *s;
	int rc;

	if (section != NULL)
		stream_add_section(again, section);
	assert_int_equal(state_open(folder, model, &s, &err), 0);
	assert_non_null(s);
	rc = state_restore(s, again, &err);
	state_close(s);
	stream_close(again);
	return rc;
}

static void
test_a_stage_has_a_section_of_its_own(void **state)
{
	int64_t number = 4711;
	struct section mine = {"stage/counter", 2, 0, save_number, load_number, &number}, other_one;

	(void)state;
	save("", "");
	assert_int_equal(restore_with(&mine), -1); /* it was saved without */
	assert_int_equal(err.code, EX_CONFIG);
	assert_non_null(strstr(err.text, "no section stage/counter"));
	mine.flags = SECTION_OPTIONAL;
	assert_int_equal(restore_with(&mine), 0);
	assert_int_equal(number, 4711);
	mine.flags = 0;
	stream_add_section(stream, &mine);
	save("", "");
	number = 0;
	assert_int_equal(restore_with(&mine), 0);
	assert_int_equal(number, 4711);
	other_one = mine;
	other_one.version = 1;
	assert_int_equal(restore_with(&other_one), -1);
	assert_non_null(strstr(err.text, "stage/counter"));
	assert_non_null(strstr(err.text, "later version"));
}

static void
test_unknown_sections_are_refused_unless_optional(void **state)
{
	int64_t number = 4711;
	const struct section mine = {"stage/counter", 2, 0, save_number, load_number, &number};

	(void)state;
	stream_add_section(stream, &mine);
	save("", "");
	assert_int_equal(restore_with(NULL), -1);
	assert_int_equal(err.code, EX_CONFIG);
	assert_non_null(strstr(err.text, "stage/counter"));
	stream->sections[stream->n_sections - 1].flags = SECTION_OPTIONAL;
	save("", "");
	assert_int_equal(restore_with(NULL), 0);
}

static void
test_only_one_process_has_the_folder(void **state)
{
	int status;
	pid_t child;
	char number[32];

	(void)state;
	snprintf(number, sizeof number, "process %ld", (long)getpid());
	if ((child = fork()) == 0)
		_exit(state_folder_open(dir, &err) == NULL && err.code == ERR_IN_USE &&
		    strstr(err.text, number) != NULL ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	state_folder_close(folder);
	folder = NULL;
	if ((child = fork()) == 0)
		_exit(state_folder_open(dir, &err) == NULL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_was_written_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_damage_is_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_one_before_is_used, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_states_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_byte_of_the_model_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_unchanged_model_is_read_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unfinished_ones_do_not_count, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_damaged_one_never_replaces_a_whole_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_whole_unnamed_one_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_are_not_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_folders_of_others_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_format_2_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_format_1_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_stage_has_a_section_of_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown_sections_are_refused_unless_optional, setup, teardown),
		cmocka_unit_test_setup_teardown(test_only_one_process_has_the_folder, setup, teardown),
	};

	return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
