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

#include <cmocka.h>

static struct stream_options options;
static char dir[64], model[4096], other[4096], checkpoint[128], old[128];
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
save(const char *blob, int64_t output)
{
	int64_t bytes;

	if (state_write(dir, stream, blob, strlen(blob), &bytes, &err) < 0 || state_finish(dir, output, &err) < 0)
		fail_msg("%s", err.text);
}

static int
setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/test_state.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", dir);
	snprintf(old, sizeof old, "%s/checkpoint.old", dir);
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
	assert_int_equal(state_open(dir, model, &s, &err), 0);
	assert_null(s);
	save("{\"cursor\":1}", 4711);
	assert_int_equal(state_open(dir, model, &s, &err), 0);
	assert_non_null(s);
	blob = state_get_blob(s, &len);
	assert_int_equal(len, 12);
	assert_memory_equal(blob, "{\"cursor\":1}", len);
	assert_int_equal(state_get_output(s), 4711);
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
	int rc = state_open(dir, model, &s, &err);

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
	save("the blob", 7);
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
	save("one", 1);
	save("two", 2);
	assert_int_equal(state_open(dir, model, &s, &err), 0);
	assert_int_equal(state_get_output(s), 2);
	state_close(s);
	fd = open(checkpoint, O_RDWR);
	flip(fd, 100, 1);
	close(fd);
	assert_int_equal(state_open(dir, model, &s, &err), 0);
	assert_int_equal(state_get_output(s), 1);
	assert_non_null(state_get_warning(s));
	state_close(s);
	unlink(checkpoint); /* as if it had ended between the two renames */
	assert_int_equal(state_open(dir, model, &s, &err), 0);
	assert_int_equal(state_get_output(s), 1);
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
	save("", 0);
	unlink(old);
	assert_int_equal(state_open(dir, other, &s, &err), -1);
	assert_non_null(strstr(err.text, "another model"));
	assert_int_equal(state_open(dir, model, &s, &err), 0);
	options.context.window = 13;
	again = make_stream();
	options = mine;
	assert_int_equal(state_restore(s, again, &err), -1);
	assert_int_equal(err.code, EX_DATAERR);
	stream_close(again);
	state_close(s);
}

static void
test_unfinished_ones_do_not_count(void **state)
{
	struct state *s;
	int64_t bytes;

	(void)state;
	save("done", 1);
	assert_int_equal(state_write(dir, stream, "begun", 5, &bytes, &err), 0);
	assert_int_equal(state_open(dir, model, &s, &err), 0);
	assert_int_equal(state_get_output(s), 1);
	state_close(s);
	assert_int_equal(state_write("/nowhere", stream, "", 0, &bytes, &err), -1);
	assert_int_equal(err.code, EX_CANTCREAT);
}

static void
test_only_one_process_has_the_folder(void **state)
{
	int fd = state_lock(dir, &err), status;
	pid_t child;
	char number[32];

	(void)state;
	assert_true(fd >= 0);
	snprintf(number, sizeof number, "process %ld", (long)getpid());
	if ((child = fork()) == 0)
		_exit(state_lock(dir, &err) < 0 && err.code == EX_TEMPFAIL && strstr(err.text, number) != NULL ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(fd);
	if ((child = fork()) == 0)
		_exit(state_lock(dir, &err) < 0);
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
		cmocka_unit_test_setup_teardown(test_unfinished_ones_do_not_count, setup, teardown),
		cmocka_unit_test_setup_teardown(test_only_one_process_has_the_folder, setup, teardown),
	};

	return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
