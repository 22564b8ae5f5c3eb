/*
 * Fuzz target: a checkpoint's JSON, a NUL, and what a file holds, to follow
 * (first byte even) or to read (odd). The lines that come are those behind the
 * place that the checkpoint names, and going on from what is saved then brings
 * none again.
 */
#include <assert.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/utf8.h"
#include "daemon/input/files.h"
#include "daemon/input/follow.h"

enum { MAX_LINE = 64, LINES = 2048, TURNS = 64, HEAD = 256 };

static char dir[] = "/tmp/fuzz_follow.XXXXXX", path[64];
static struct event_base *base;

/* What a feed gave, and what it should have given. */
struct seen {
	const char *bytes;   /* the whole file */
	size_t size;
	struct { const char *data; size_t len; int64_t number; bool cut; } want[LINES];
	int n_want, n;
	bool told;           /* want is known */
	bool ended;
};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
clean(void)
{
	event_base_free(base);
	unlink(path);
	rmdir(dir);
}

/* Messages must be whole lines. */
static void
on_message(void *arg, const char *line, size_t len)
{
	(void)arg;
	assert(len > 0 && line[len - 1] == '\n' && utf8_is_valid(line, len));
}

static void
on_event_log(int severity, const char *text)
{
	(void)text;
	assert(severity != EVENT_LOG_ERR);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	assert(mkdtemp(dir) != NULL);
	snprintf(path, sizeof path, "%s/log", dir);
	base = event_base_new();
	assert(base != NULL);
	log_set_writer(on_message, NULL);
	event_set_log_callback(on_event_log); /* of files that epoll refuses, which files.c expects */
	atexit(clean);
	return 0;
}

/* Nothing here changes the file while it is followed, and the kernel takes milliseconds to release the real thing. */
int
inotify_init1(int flags)
{
	(void)flags;
	return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

int
inotify_add_watch(int fd, const char *name, uint32_t mask)
{
	(void)fd;
	(void)name;
	(void)mask;
	return 1;
}

int
inotify_rm_watch(int fd, int watch)
{
	(void)fd;
	(void)watch;
	return 0;
}

/* ---- the state ------------------------------------------------------ */

/* The hash of the file's first bytes, of those before offset. */
static void
hash_head(char hex[17], const char *bytes, size_t size, json_int_t offset)
{
	size_t n = offset < 0 ? 0 : offset < HEAD ? (size_t)offset : HEAD;

	n = n < size ? n : size;
	snprintf(hex, 17, "%016" PRIx64, n > 0 ? XXH3_64bits(bytes, n) : 0);
}

/* What the fuzzer cannot know: the file's name, its number, and the hash of its start. */
static void
complete(json_t *state, const char *bytes, size_t size)
{
	json_t *follow = json_object_get(state, "follow"), *files = json_object_get(state, "files");
	struct stat st;
	char hex[17];

	assert(stat(path, &st) == 0);
	if (json_is_string(json_object_get(follow, "path")))
		json_object_set_new(follow, "path", json_string(path));
	if (json_is_true(json_object_get(follow, "inode")))
		json_object_set_new(follow, "inode", json_integer((json_int_t)st.st_ino));
	if (json_is_true(json_object_get(follow, "head"))) {
		hash_head(hex, bytes, size, json_integer_value(json_object_get(follow, "offset")));
		json_object_set_new(follow, "head", json_string(hex));
	}
	if (json_is_true(json_object_get(files, "names")))
		json_object_set_new(files, "names", json_pack("[s]", path));
}

/* The lines behind a place, split the plain way. whole: the last one counts without a newline, too. */
static void
expect(struct seen *s, const struct place *p, bool whole)
{
	size_t at = (size_t)p->offset;
	int64_t number = p->line;
	bool within = p->within;

	s->told = true;
	while (at < s->size) {
		const char *newline = memchr(s->bytes + at, '\n', s->size - at);
		size_t len = newline == NULL ? s->size - at : (size_t)(newline - s->bytes) - at;

		if (newline == NULL && !whole && len <= MAX_LINE)
			break;
		if (!within) {
			assert(s->n_want < LINES);
			s->want[s->n_want].data = s->bytes + at;
			s->want[s->n_want].len = len > MAX_LINE ? MAX_LINE : len;
			s->want[s->n_want].cut = len > MAX_LINE;
			s->want[s->n_want++].number = ++number;
		}
		within = false;
		at += len + 1;
	}
}

/* Is it a place in this file, as it stands? Then what must come is known. */
static void
expect_from(struct seen *s, const json_t *state, bool follow)
{
	const json_t *o = json_object_get(state, follow ? "follow" : "files");
	json_int_t inode = json_integer_value(json_object_get(o, "inode"));
	enum reader_format format;
	const char *head = json_string_value(json_object_get(o, "head"));
	struct place p = {0};
	struct stat st;
	char hex[17];

	if (o == NULL || !feed_load_place(o, &p, &format)) {
		if (state == NULL || o == NULL)
			expect(s, &p, !follow);
		return;
	}
	if ((uint64_t)p.offset > s->size)
		return;
	assert(stat(path, &st) == 0);
	hash_head(hex, s->bytes, s->size, p.offset);
	if (!follow || (inode == (json_int_t)st.st_ino && head != NULL && strcmp(head, hex) == 0))
		expect(s, &p, !follow);
}

/* ---- a feed --------------------------------------------------------- */

static bool
on_line(void *arg, struct origin *from, const struct line *line)
{
	struct seen *s = arg;

	assert(!s->ended && from->name != NULL && line->len <= MAX_LINE && memchr(line->data, '\n', line->len) == NULL);
	assert(line->after.offset >= 0 && line->after.line == line->number);
	if (s->told) {
		assert(s->n < s->n_want && line->len == s->want[s->n].len && line->cut == s->want[s->n].cut);
		assert(memcmp(line->data, s->want[s->n].data, line->len) == 0 && line->number == s->want[s->n].number);
	} else
		assert(line->len == 0 || memmem(s->bytes, s->size, line->data, line->len) != NULL);
	s->n++;
	return true;
}

static void
on_end(void *arg, const struct err *e)
{
	struct seen *s = arg;

	assert(!s->ended && (e->code == 0 || e->text[0] != '\0'));
	s->ended = true;
}

static void
check_refusal(const struct err *e)
{
	assert(e->code == EX_CONFIG && utf8_is_valid(e->text, strlen(e->text)));
}

/* Read all there is. Returns what was saved at the end, or NULL if the state was refused. */
static json_t *
run(struct seen *s, const json_t *state, bool follow)
{
	static const struct feed_callbacks callbacks = {on_line, on_end};
	char *names[] = {path, NULL};
	const struct follow_options fo = {.path = path, .max_line = MAX_LINE, .state = state};
	const struct files_options o = {.names = names, .n = 1, .max_line = MAX_LINE, .state = state};
	const struct feed_ops *ops = follow ? &follow_ops : &files_ops;
	struct err e = {0};
	void *feed = follow ? (void *)follow_new(base, &fo, &callbacks, s, &e) :
	    (void *)files_new(base, &o, &callbacks, s, &e);
	json_t *saved;

	if (feed == NULL) {
		check_refusal(&e);
		return NULL;
	}
	ops->resume(feed);
	/* A turn of the loop that does nothing is the end, for a file that grows. */
	for (int i = 0, before = -1; !s->ended && (i < TURNS || s->n != before); i++) {
		before = s->n;
		event_base_loop(base, EVLOOP_NONBLOCK);
		if (follow && i > 3 && s->n == before)
			break;
	}
	assert(follow || s->ended);
	saved = json_object();
	ops->save(feed, saved);
	ops->stop(feed);
	ops->free(feed);
	return saved;
}

/* Nothing seen, nothing told. */
static void
begin(struct seen *s, const char *bytes, size_t size)
{
	s->bytes = bytes;
	s->size = size;
	s->n_want = s->n = 0;
	s->told = s->ended = false;
}

static void
check(const char *bytes, size_t size, const json_t *state, bool follow)
{
	static struct seen first, second;
	json_t *saved;

	begin(&first, bytes, size);
	begin(&second, bytes, size);
	second.told = true;
	expect_from(&first, state, follow);
	saved = run(&first, state, follow);
	if (saved == NULL)
		return;
	assert(!first.told || first.n == first.n_want);
	json_decref(run(&second, saved, follow));
	json_decref(saved);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1, *nul = size > 1 ? memchr(text, '\0', size - 1) : NULL;
	size_t len = nul == NULL ? 0 : (size_t)(nul - text), left = nul == NULL ? 0 : size - 2 - len;
	json_t *state;
	int fd;

	if (nul == NULL || left > LINES / 2)
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert(fd >= 0 && write(fd, nul + 1, left) == (ssize_t)left);
	close(fd);
	state = json_loadb(text, len, 0, NULL);
	complete(state, nul + 1, left);
	check(nul + 1, left, state, data[0] % 2 == 0);
	json_decref(state);
	return 0;
}
