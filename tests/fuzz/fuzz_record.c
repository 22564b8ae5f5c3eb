/*
 * Fuzz target: any bytes as input of sinkd. The first byte chooses the format,
 * the second one the options; the rest is split into lines, read, and written
 * as output, which must be one JSON object a line, with the event's own bytes
 * at its start, and the same however many bytes come at a time.
 */
#include <assert.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "stream/annotate.h"
#include "stream/lines.h"
#include "stream/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_LINE = 4096 };

/* Could jansson read the event as it came? */
static bool
was_json(const struct record *rec)
{
	struct buf line = {0};
	json_t *j;

	buf_add(&line, rec->raw, rec->raw_len);
	buf_add(&line, "}", 1);
	assert(!line.failed);
	j = json_loadb(line.data, line.len, JSON_ALLOW_NUL, NULL);
	json_decref(j);
	buf_fini(&line);
	return j != NULL;
}

static void
check_output(const struct buf *out, const struct record *rec)
{
	json_error_t e;
	const json_t *member, *type;
	json_t *j;

	assert(!out->failed && out->len > 0 && out->data[out->len - 1] == '\n');
	assert(memchr(out->data, '\n', out->len - 1) == NULL);
	assert(utf8_is_valid(out->data, out->len));
	if (rec->type == RECORD_EVENT && !rec->wrap)
		assert(memcmp(out->data, rec->raw, rec->raw_len) == 0);
	j = json_loadb(out->data, out->len, JSON_ALLOW_NUL, &e);
	/* An event may hold what jansson cannot, see json_line.c; our own lines may not. */
	assert(j != NULL || (rec->type == RECORD_EVENT && !rec->wrap && !was_json(rec)));
	if (j == NULL)
		return;
	member = json_object_get(j, "sinkd");
	type = json_object_get(member, "type");
	assert(strcmp(json_string_value(type), rec->type == RECORD_EVENT ? "event" : "error") == 0);
	json_decref(j);
}

static void
check_record(struct record *rec, struct buf *out, struct buf *all)
{
	char *memory = malloc(record_get_size(rec) + 1);

	assert(memory != NULL && utf8_is_valid(rec->text, rec->text_len));
	record_keep(rec, memory);
	rec->seq = 1;
	if (rec->text_len > 0)
		rec->score = (struct score){.tokens = 2, .scored = 1, .nll = 1.5};
	buf_clear(out);
	annotate_write(out, rec, "\"sinkd\"");
	check_output(out, rec);
	buf_add(all, out->data, out->len);
	if (rec->type == RECORD_EVENT) {
		record_fail(rec, "no memory");
		buf_clear(out);
		annotate_write(out, rec, "\"sinkd\"");
		check_output(out, rec);
	}
	free(memory);
}

/* Read all of it, so many bytes at a time; the output goes to all. */
static void
run(const uint8_t *data, size_t size, size_t piece, enum reader_format format, const struct reader_options *options,
    struct buf *all)
{
	struct lines *lines = lines_new(MAX_LINE);
	struct reader *reader = reader_new(options);
	struct buf out = {0};
	struct record rec;
	struct err e;
	const struct line *line;

	while (!lines_have_ended(lines)) {
		size_t room;
		char *p = lines_reserve(lines, &room);
		size_t n = size < room ? size : room;

		n = n < piece ? n : piece;
		memcpy(p, data, n);
		lines_commit(lines, n);
		data += n;
		size -= n;
		if (size == 0)
			lines_end(lines);
		while ((line = lines_peek(lines)) != NULL) {
			if (reader_read(reader, &format, line, &rec, &e) > 0) {
				assert(record_get_size(&rec) <= READER_GROWTH(line->len));
				check_record(&rec, &out, all);
			}
			lines_pop(lines);
		}
	}
	buf_fini(&out);
	reader_free(reader);
	lines_free(lines);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader_options options = {.key = "sinkd", .max_line = MAX_LINE};
	struct buf whole = {0}, pieces = {0};
	enum reader_format format;

	if (size < 2)
		return 0;
	format = (enum reader_format)(data[0] % (READER_PLAIN + 1));
	options.text_field = (data[1] & 1) != 0 ? "text" : NULL;
	options.source_field = (data[1] & 2) != 0 ? "_COMM" : NULL;
	run(data + 2, size - 2, SIZE_MAX, format, &options, &whole);
	run(data + 2, size - 2, (size_t)(data[1] >> 2) + 1, format, &options, &pieces);
	assert(whole.len == pieces.len && (whole.len == 0 || memcmp(whole.data, pieces.data, whole.len) == 0));
	buf_fini(&whole);
	buf_fini(&pieces);
	return 0;
}
