/*
 * Fuzz target: entries of a journal. Each item is a length (one byte) and so
 * many bytes: first a checkpoint's JSON, then fields; length 0 ends an entry.
 * Each entry becomes one line, an object with the entry's fields, and a record.
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/log.h"
#include "base/utf8.h"
#include "daemon/input/journal.h"
#include "stream/annotate.h"

enum { MAX_LINE = 2048, FIELDS = 512, ENTRIES = 64 };

static struct entry {
	int first, end; /* fields */
} entries[ENTRIES];
static struct field {
	const char *data;
	size_t len;
} fields[FIELDS];
static int n_entries, n_fields;

static struct event_base *base;
static struct reader *reader;
static int n_lines;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a journal that holds the entries ------------------------------- */

struct sd_journal {
	int at;    /* entry; -1: before the first one */
	int field; /* to be enumerated next */
	int fd;
};

int
sd_journal_open(sd_journal **j, int flags)
{
	(void)flags;
	*j = calloc(1, sizeof **j);
	assert(*j != NULL);
	(*j)->at = -1;
	(*j)->fd = eventfd(0, EFD_CLOEXEC);
	return 0;
}

int
sd_journal_open_directory(sd_journal **j, const char *path, int flags)
{
	(void)path;
	return sd_journal_open(j, flags);
}

void
sd_journal_close(sd_journal *j)
{
	close(j->fd);
	free(j);
}

int
sd_journal_has_runtime_files(sd_journal *j)
{
	(void)j;
	return 1;
}

int
sd_journal_set_data_threshold(sd_journal *j, size_t size)
{
	(void)j;
	(void)size;
	return 0;
}

int
sd_journal_get_fd(sd_journal *j)
{
	return j->fd;
}

int
sd_journal_get_timeout(sd_journal *j, uint64_t *until)
{
	(void)j;
	*until = UINT64_MAX;
	return 0;
}

int
sd_journal_next(sd_journal *j)
{
	if (j->at + 1 >= n_entries)
		return 0;
	j->at++;
	return 1;
}

int
sd_journal_seek_head(sd_journal *j)
{
	j->at = -1;
	return 0;
}

int
sd_journal_seek_cursor(sd_journal *j, const char *cursor)
{
	int at;

	if (sscanf(cursor, "i=%d", &at) != 1)
		return -EINVAL;
	/* As the library does: next then stands on it, or on the first one after it. */
	j->at = (at < 0 ? 0 : at > n_entries ? n_entries : at) - 1;
	return 0;
}

int
sd_journal_get_cursor(sd_journal *j, char **cursor)
{
	return asprintf(cursor, "i=%d", j->at) < 0 ? -ENOMEM : 0;
}

int
sd_journal_test_cursor(sd_journal *j, const char *cursor)
{
	int at;

	return sscanf(cursor, "i=%d", &at) == 1 && at == j->at;
}

int
sd_journal_get_realtime_usec(sd_journal *j, uint64_t *usec)
{
	*usec = (uint64_t)j->at + 1;
	return 0;
}

int
sd_journal_get_monotonic_usec(sd_journal *j, uint64_t *usec, sd_id128_t *boot)
{
	*usec = (uint64_t)j->at;
	*boot = (sd_id128_t){.bytes = {1}};
	return 0;
}

void
sd_journal_restart_data(sd_journal *j)
{
	j->field = entries[j->at].first;
}

int
sd_journal_enumerate_available_data(sd_journal *j, const void **data, size_t *len)
{
	if (j->field == entries[j->at].end)
		return 0;
	*data = fields[j->field].data;
	*len = fields[j->field++].len;
	return 1;
}

/* ---- what must come ------------------------------------------------- */

static bool
is_text(const char *s, size_t len)
{
	return utf8_is_valid(s, len) && memchr(s, '\0', len) == NULL;
}

static bool
is_value(const json_t *v, const char *bytes, size_t len)
{
	if (is_text(bytes, len))
		return json_is_string(v) && json_string_length(v) == len &&
		    memcmp(json_string_value(v), bytes, len) == 0;
	if (json_array_size(v) != len)
		return false;
	for (size_t i = 0; i < len; i++)
		if (json_integer_value(json_array_get(v, i)) != (unsigned char)bytes[i])
			return false;
	return true;
}

/* The length of a field's name, 0 if it is none that the line has to show. */
static size_t
name_length(const struct field *f)
{
	const char *equals = memchr(f->data, '=', f->len);
	size_t n = equals == NULL ? 0 : (size_t)(equals - f->data);

	/* The journal itself lets nobody log a name that begins with "__"; the boot's is one of the address. */
	if (n == 0 || n > 127 || !is_text(f->data, n) || memcmp(f->data, "__", n < 2 ? n : 2) == 0 ||
	    (n == 8 && memcmp(f->data, "_BOOT_ID", n) == 0))
		return 0;
	return n;
}

/* Each value of the name that field i has, in order. */
static void
check_field(const json_t *o, const struct entry *e, int i)
{
	size_t n = name_length(&fields[i]), count = 0, k = 0;
	char name[128] = "";
	const json_t *v;

	if (n == 0)
		return;
	memcpy(name, fields[i].data, n);
	v = json_object_get(o, name);
	for (int f = e->first; f < e->end; f++)
		count += name_length(&fields[f]) == n && memcmp(fields[f].data, name, n) == 0;
	for (int f = e->first; f < e->end; f++)
		if (name_length(&fields[f]) == n && memcmp(fields[f].data, name, n) == 0)
			assert(is_value(count == 1 ? v : json_array_get(v, k++), fields[f].data + n + 1,
			    fields[f].len - n - 1));
	assert(count == 1 || json_array_size(v) == count);
}

static void
check_line(const struct line *line, const struct entry *e)
{
	json_t *o;

	if (line->cut)
		return;
	o = json_loadb(line->data, line->len, JSON_REJECT_DUPLICATES, NULL);
	assert(json_is_object(o) && json_is_string(json_object_get(o, "__CURSOR")));
	assert(json_is_string(json_object_get(o, "_BOOT_ID")));
	for (int i = e->first; i < e->end; i++)
		check_field(o, e, i);
	json_decref(o);
}

/* The line is read as any of the format is, and annotated. */
static void
check_record(const struct line *line, enum reader_format *format)
{
	struct record rec;
	struct buf out = {0};
	struct err e;
	json_t *j;

	assert(reader_read(reader, format, line, &rec, &e) == 1);
	/* An event that has our member, or that is cut, is refused. */
	assert(rec.type != RECORD_ERROR || line->cut || memmem(line->data, line->len, "\"sinkd\":", 8) != NULL);
	assert(rec.type == RECORD_ERROR || !line->cut);
	assert(utf8_is_valid(rec.text, rec.text_len));
	assert(rec.type == RECORD_ERROR || (rec.raw_len < line->len && memcmp(rec.raw, line->data, rec.raw_len) == 0));
	rec.seq = 1;
	annotate_write(&out, &rec, "\"sinkd\"");
	j = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
	assert(!out.failed && j != NULL);
	json_decref(j);
	buf_fini(&out);
}

static bool
on_line(void *arg, struct origin *from, const struct line *line)
{
	int *at = arg;

	if (*at < 0)
		*at = (int)from->time - 1; /* the first one: the fake gives its place as the time */
	assert(*at < n_entries && from->time == *at + 1);
	check_line(line, &entries[*at]);
	check_record(line, &from->format);
	++*at;
	n_lines++;
	return true;
}

static void
on_end(void *arg, const struct err *e)
{
	(void)arg;
	(void)e;
	assert(false);
}

/* Read all there is. Returns what was saved, or NULL. */
static json_t *
run(const json_t *state)
{
	static const struct feed_callbacks callbacks = {on_line, on_end};
	struct journal_options o = {.max_line = MAX_LINE, .state = state};
	struct err e = {0};
	int at = -1, before;
	struct journal *j = journal_new(base, &o, &callbacks, &at, &e);
	json_t *saved;

	n_lines = 0;
	if (j == NULL) {
		assert(e.code != 0 && utf8_is_valid(e.text, strlen(e.text)));
		return NULL;
	}
	journal_ops.resume(j);
	do {
		before = n_lines;
		event_base_loop(base, EVLOOP_NONBLOCK);
		event_base_loop(base, EVLOOP_NONBLOCK);
	} while (n_lines > before);
	assert(at < 0 || at == n_entries);
	saved = json_object();
	journal_ops.save(j, saved);
	journal_ops.stop(j);
	journal_ops.free(j);
	return saved;
}

/* ---- the target ----------------------------------------------------- */

static void
on_message(void *arg, const char *line, size_t len)
{
	(void)arg;
	assert(len > 0 && utf8_is_valid(line, len));
}

static void
clean(void)
{
	event_base_free(base);
	reader_free(reader);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const struct reader_options options = {.key = "sinkd", .max_line = MAX_LINE};

	(void)argc;
	(void)argv;
	base = event_base_new();
	reader = reader_new(&options);
	assert(base != NULL && reader != NULL);
	log_set_writer(on_message, NULL);
	atexit(clean);
	return 0;
}

/* Take the next item. Returns false at the end. */
static bool
take(const char **data, size_t *size, struct field *item)
{
	if (*size == 0)
		return false;
	item->len = (unsigned char)**data;
	++*data;
	--*size;
	item->len = item->len < *size ? item->len : *size;
	item->data = *data;
	*data += item->len;
	*size -= item->len;
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	const char *data = (const char *)bytes;
	struct field item;
	json_t *state, *saved;

	if (!take(&data, &size, &item))
		return 0;
	state = json_loadb(item.data, item.len, 0, NULL);
	n_entries = n_fields = 0;
	entries[0].first = 0;
	while (n_entries + 1 < ENTRIES && n_fields < FIELDS && take(&data, &size, &item)) {
		if (item.len > 0)
			fields[n_fields++] = item;
		else {
			entries[n_entries++].end = n_fields;
			entries[n_entries].first = n_fields;
		}
	}
	saved = run(state);
	if (saved != NULL) {
		json_decref(run(saved));
		assert(n_lines == 0);
	}
	json_decref(saved);
	json_decref(state);
	return 0;
}
