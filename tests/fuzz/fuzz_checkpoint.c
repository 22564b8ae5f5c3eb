/*
 * Fuzz target: changes of a checkpoint, whose sums are put right afterwards.
 * The first byte chooses the stream. Each change is an offset (two bytes, from
 * the end if above 0x7fff), a length (one byte) and so many bytes; a length
 * above 0x7f cuts the file there. What is taken is a stream that can go on.
 */
#include <assert.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* Its structs say where the sums of the earlier formats are. */
#include "../../src/stream/state_old.c"
#include "base/utf8.h"
#include "stream/digest.h"
#include "stream/state.h"

/* OLD: a checkpoint of format 2, which state_write makes no more; its stream is as the first one's. */
enum { KINDS = 5, OLD = 4, EVENTS = 6 };

static const char model[] = FUZZ_MODEL, old_file[] = FUZZ_OLD_CHECKPOINT;
static const char blob[] = "{\"output\":\"events.jsonl\",\"seq\":6,\"follow\":{\"offset\":71,\"line\":6}}";

static const char places[] = "{\"output\":71}";

static struct state_folder *folder;
static char dir[] = "/tmp/fuzz_checkpoint.XXXXXX";
static struct stream *streams[KINDS];
static char *files[KINDS];
static size_t sizes[KINDS];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Nothing here has to outlive the machine. */
int
fsync(int fd)
{
	(void)fd;
	return 0;
}

/* ---- the checkpoints ------------------------------------------------ */

static struct stream *
open_stream(int kind)
{
	static const enum policy policies[KINDS] = {
	    POLICY_SINK, POLICY_SINK, POLICY_WINDOW, POLICY_RECOMPUTE, POLICY_SINK,
	};
	struct stream_options o = {.model = model};
	struct stream *s;

	context_options_init(&o.context);
	o.context.device = "cpu";
	o.context.threads = 1;
	o.context.policy = policies[kind];
	o.context.window = 12;
	o.context.fork_tokens = 128;
	o.context.block = kind == 1 ? 16 : 0;
	s = stream_open(&o, NULL);
	assert(s != NULL);
	return s;
}

/* A few events, remembered. */
static void
feed(struct stream *s)
{
	static const char *const texts[] = {"login failed\n", "disk 3 full\n", "disk 4 full\n"};

	for (int i = 0; i < EVENTS; i++) {
		const char *text = texts[i % 3];
		struct record r = {.seq = i + 1, .text = text, .text_len = strlen(text)};
		struct tokens t = {0};

		assert(stream_encode(s, text, r.text_len, 0, &t, NULL) == 0);
		assert(stream_feed(s, t.ids, t.n, NULL, NULL) == 0);
		r.score = (struct score){.tokens = (int64_t)t.n, .scored = (int64_t)t.n, .nll = 2.5 * (double)t.n};
		memory_add(s->memory, &r);
		tokens_fini(&t);
	}
}

static char *
read_file(const char *path, size_t *size)
{
	char *bytes;
	FILE *f = fopen(path, "re");
	long n;

	assert(f != NULL && fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) > 0);
	rewind(f);
	*size = (size_t)n;
	bytes = malloc(*size);
	assert(bytes != NULL && fread(bytes, 1, *size, f) == *size);
	fclose(f);
	return bytes;
}

static void
clean(void)
{
	static const char *const names[] = {"checkpoint", "checkpoint.tmp", "checkpoint.old", "lock"};
	char path[64];

	state_folder_close(folder);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
	for (int i = 0; i < KINDS; i++) {
		stream_close(streams[i]);
		free(files[i]);
	}
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char path[64];
	int64_t bytes;

	(void)argc;
	(void)argv;
	assert(mkdtemp(dir) != NULL);
	folder = state_folder_open(dir, NULL);
	assert(folder != NULL);
	snprintf(path, sizeof path, "%s/checkpoint", dir);
	for (int i = 0; i < KINDS; i++) {
		streams[i] = open_stream(i);
		feed(streams[i]);
		if (i == 1)
			assert(stream_pin(streams[i], "disks fill\n", 11, NULL) == 0);
		assert(state_write(folder, streams[i], blob, strlen(blob), &bytes, NULL) == 0);
		assert(state_finish(folder, places, strlen(places), NULL) == 0);
		files[i] = read_file(i == OLD ? old_file : path, &sizes[i]);
	}
	atexit(clean);
	return 0;
}

/* ---- a changed one -------------------------------------------------- */

/* Returns the size. */
static size_t
change(char *bytes, size_t size, const uint8_t *data, size_t n)
{
	while (n > 3) {
		size_t at = (size_t)(data[0] | data[1] << 8), len = data[2];

		at = at < 0x8000 ? at % size : size - 1 - (at - 0x8000) % size;
		data += 3;
		n -= 3;
		if (len >= 0x80 && at > 0) {
			size = at;
			continue;
		}
		len = len < n ? len : n;
		memcpy(bytes + at, data, len < size - at ? len : size - at);
		data += len;
		n -= len;
	}
	return size;
}

/* Put the sums of format 1 or 2 right. */
static void
sum_old(char *bytes, size_t size)
{
	struct head h;
	struct foot foot;
	size_t end = size - sizeof foot - sizeof foot.body_sum;

	if (size < sizeof h + sizeof foot.body_sum + sizeof foot)
		return;
	memcpy(&h, bytes, sizeof h);
	memcpy(&foot, bytes + size - sizeof foot, sizeof foot);
	if (h.file.format != STATE_OLD_SIZE) {
		if (foot.places_len < 0 || (uint64_t)foot.places_len > end - sizeof h)
			return;
		end -= (size_t)foot.places_len;
	}
	foot.body_sum = XXH3_64bits(bytes, end);
	memcpy(bytes + end, &foot.body_sum, sizeof foot.body_sum);
	foot.sum = sum_foot(h.file.format == STATE_OLD_SIZE ? NULL : bytes + end + sizeof foot.body_sum, &foot);
	memcpy(bytes + size - sizeof foot, &foot, sizeof foot);
}

/* Put the sums right, of each section and of the foot. */
static void
sum(char *bytes, size_t size)
{
	struct section_file f;
	struct section_file_head head;
	struct section_file_foot foot;

	if (!section_file_walk(&f, bytes, size))
		return;
	for (int i = 0; i < f.n; i++) {
		struct section_view *v = &f.sections[i];
		char *at = bytes + (v->bytes - bytes) - sizeof v->head;

		v->head.sum = XXH3_64bits(v->bytes, (size_t)v->head.len);
		memcpy(at, &v->head, sizeof v->head);
	}
	memcpy(&head, bytes, sizeof head);
	memcpy(&foot, bytes + size - sizeof foot, sizeof foot);
	foot.sum = section_file_sum(&head, f.sections, f.n, &foot);
	memcpy(bytes + size - sizeof foot, &foot, sizeof foot);
}

static void
check_sentence(const char *text)
{
	assert(text[0] != '\0' && utf8_is_valid(text, strlen(text)));
	for (; *text != '\0'; text++)
		assert((unsigned char)*text >= 0x20 && *text != 0x7f);
}

/* A digest of what is remembered is JSON. Returns false where none can be made. */
static bool
check_digest(struct stream *s)
{
	const struct digest_options o = {.style = DIGEST_EXTRACT, .lines = 3};
	const struct reply_hooks hooks = {0};
	struct digest d;
	struct buf out = {0};
	struct err e = {0};
	bool made = digest_make(s, &o, &hooks, &d, &e) == 0;
	json_t *j;

	if (made) {
		buf_add_text(&out, "{\"sinkd\":{\"type\":\"digest\"");
		digest_write(&out, s, &d);
		j = json_loadb(out.data, out.len, JSON_ALLOW_NUL, NULL);
		assert(!out.failed && j != NULL);
		json_decref(j);
	} else
		check_sentence(e.text);
	digest_fini(&d);
	buf_fini(&out);
	return made;
}

/*
 * What it is now is saved and comes back; and it goes on. Keys that are no
 * numbers are not looked for on loading: then it ends with a sentence.
 */
static void
check_stream(int kind)
{
	const int32_t ids[] = {1, 2, 3};
	struct stream *s = streams[kind];
	struct state *state;
	uint64_t before, after;
	int64_t bytes;
	struct err e = {0};

	assert(state_hash(s, &before, NULL) == 0);
	assert(state_write(folder, s, "{}", 2, &bytes, NULL) == 0 && state_finish(folder, "", 0, NULL) == 0);
	if (stream_feed(s, ids, 3, NULL, &e) < 0 || !check_digest(s)) {
		if (e.code != 0)
			check_sentence(e.text);
		stream_close(s);
		s = streams[kind] = open_stream(kind);
	}
	assert(state_open(folder, model, &state, NULL) == 0 && state != NULL);
	assert(state_restore(state, s, NULL) == 0 && state_hash(s, &after, NULL) == 0 && before == after);
	state_close(state);
}

static void
write_checkpoint(const char *bytes, size_t size)
{
	char path[64];
	int fd;

	snprintf(path, sizeof path, "%s/checkpoint.old", dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/checkpoint", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
	close(fd);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int kind = size > 0 ? data[0] % KINDS : 0;
	char *bytes = malloc(sizes[kind]);
	struct state *state = NULL;
	struct err e = {0};
	size_t n, len;

	assert(bytes != NULL);
	memcpy(bytes, files[kind], sizes[kind]);
	n = size == 0 ? sizes[kind] : change(bytes, sizes[kind], data + 1, size - 1);
	if (kind == OLD)
		sum_old(bytes, n);
	else
		sum(bytes, n);
	write_checkpoint(bytes, n);
	free(bytes);
	if (state_open(folder, model, &state, &e) == 0) {
		const char *text = state_get_blob(state, &len);
		json_t *j = json_loadb(text, len, 0, NULL);

		json_decref(j);
		text = state_get_places(state, &len);
		assert((text == NULL) == (state_get_output_size(state) >= 0));
		j = text == NULL ? NULL : json_loadb(text, len, 0, NULL);
		json_decref(j);
		if (state_restore(state, streams[kind], &e) == 0)
			check_stream(kind);
		else
			assert(e.code == EX_DATAERR || e.code == EX_CONFIG || e.code == EX_OSERR);
	} else
		assert(e.code == EX_DATAERR || e.code == EX_CONFIG);
	if (e.code != 0)
		check_sentence(e.text);
	state_close(state);
	return 0;
}
