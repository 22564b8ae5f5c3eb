/*
 * Fuzz target: bytes as sinkd's configuration file. What is taken gives the
 * same values once more when it is written out again, and when each value
 * stands on the command line.
 */
#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "daemon/settings.h"

enum { WORDS = 96 };

static char path[] = "/tmp/fuzz_options.XXXXXX";

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
clean(void)
{
	unlink(path);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	int fd = mkstemp(path);

	(void)argc;
	(void)argv;
	assert(fd >= 0);
	close(fd);
	atexit(clean);
	return 0;
}

static void
write_file(const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
	close(fd);
}

static int
parse(int argc, char **argv, struct settings *s, struct err *e)
{
	int operand;

	*s = (struct settings){0};
	return options_parse(&settings_options, argc, argv, s, &operand, e);
}

static int
parse_file(struct settings *s, struct err *e)
{
	char program[] = "sinkd", config[] = "--config";
	char *argv[] = {program, config, path, NULL};

	return parse(3, argv, s, e);
}

/* A row's value as it may be written, heap, or NULL: a string that was not given. */
static char *
write_value(const struct option_row *r, const struct settings *s)
{
	const char *m = (const char *)s + r->offset;
	struct buf b = {0};

	switch (r->type) {
	case OPTION_FLAG:
		buf_add_text(&b, *(const bool *)m ? "yes" : "no");
		break;
	case OPTION_INT:
	case OPTION_SIZE:
	case OPTION_DURATION:
		assert(*(const int64_t *)m >= r->min && *(const int64_t *)m <= r->max);
		buf_printf(&b, "%" PRId64, *(const int64_t *)m);
		break;
	case OPTION_CHOICE:
		buf_add_text(&b, r->choices[*(const int *)m]);
		break;
	case OPTION_STRING:
		if (*(char *const *)m == NULL || (r->flags & OPTION_CONFIG))
			return NULL;
		buf_add_text(&b, *(char *const *)m);
		break;
	}
	buf_add(&b, "", 1);
	assert(!b.failed);
	return b.data;
}

static void
count_change(void *arg, const char *name, bool live)
{
	(void)live;
	if (strcmp(name, "config") != 0)
		++*(int *)arg;
}

static void
assert_same(struct settings *a, const struct settings *b)
{
	int changes = 0;

	options_update(&settings_options, a, b, count_change, &changes);
	assert(changes == 0);
}

/* Write all that has a value as a file, and as arguments. */
static void
check_again(struct settings *s)
{
	char program[] = "sinkd", *argv[WORDS] = {program};
	struct settings again;
	struct buf file = {0};
	int argc = 1;

	for (const struct option_row *r = settings_options.rows; r->name != NULL; r++) {
		char *value = write_value(r, s);
		struct buf word = {0};

		if (value == NULL)
			continue;
		buf_printf(&file, "%s = %s\n", r->name, value);
		buf_printf(&word, "--%s=%s", r->name, value);
		buf_add(&word, "", 1);
		assert(argc + 1 < WORDS && !word.failed && !file.failed);
		argv[argc++] = word.data;
		free(value);
	}
	write_file(file.data, file.len);
	assert(parse_file(&again, NULL) == OPTIONS_RUN);
	assert_same(s, &again);
	options_fini(&settings_options, &again);
	assert(parse(argc, argv, &again, NULL) == OPTIONS_RUN);
	assert_same(s, &again);
	options_fini(&settings_options, &again);
	for (int i = 1; i < argc; i++)
		free(argv[i]);
	buf_fini(&file);
}

static void
check_sentence(const struct err *e)
{
	assert(e->code != 0 && e->text[0] != '\0' && utf8_is_valid(e->text, strlen(e->text)));
	for (const char *p = e->text; *p != '\0'; p++)
		assert((unsigned char)*p >= 0x20 && *p != 0x7f);
}

/* What is made of them. A schema would be read, from wherever the name leads: not here. */
static void
complete(struct settings *s)
{
	struct err e = {0};

	free(s->digest_schema);
	s->digest_schema = NULL;
	if (settings_complete(s, &e) < 0) {
		check_sentence(&e);
		return;
	}
	assert(s->worker.stream.context.window >= 0 && s->worker.stream.context.sinks >= 0 && s->mode <= 0777);
	settings_refresh(s);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings s;
	struct err e = {0};

	write_file(data, size);
	if (parse_file(&s, &e) == OPTIONS_RUN) {
		check_again(&s);
		complete(&s);
	} else {
		check_sentence(&e);
		assert(e.code == EX_CONFIG);
	}
	settings_fini(&s);
	return 0;
}
