/* Lines become records; see reader.h. Called on the loop thread. */
#include "stream/reader.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "stream/form.h"
#include "stream/json_line.h"
#include "stream/render.h"
#include "stream/text.h"

enum { SCRATCH = 1 << 16 }; /* bytes that a scratch buffer may keep between lines */

const char *const reader_format_names[] = {"auto", "journal", "container", "chat", "json", "plain", NULL};

struct reader {
	const struct reader_options *options;
	const struct form *form;   /* of the line in hand; NULL: to be found out */
	struct buf text, source;   /* of the event in hand */
	struct buf rendered, scratch;
};

struct reader *
reader_new(const struct reader_options *o)
{
	struct reader *r = calloc(1, sizeof *r);

	if (r == NULL)
		return NULL;
	r->options = o;
	return r;
}

void
reader_free(struct reader *r)
{
	if (r == NULL)
		return;
	buf_fini(&r->text);
	buf_fini(&r->source);
	buf_fini(&r->rendered);
	buf_fini(&r->scratch);
	free(r);
}

/* JSON's white space. */
static bool
is_json_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t
count_space(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && is_json_space(s[n]))
		n++;
	return n;
}

/* What the line before left, and the memory beyond SCRATCH if it was a long one. */
static void
forget(struct reader *r)
{
	struct buf *bufs[] = {&r->text, &r->source, &r->rendered, &r->scratch};

	for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) {
		buf_clear(bufs[i]);
		buf_trim(bufs[i], SCRATCH);
	}
}

static void
refuse_line(struct reader *r, const struct line *line, struct record *rec)
{
	rec->type = RECORD_ERROR;
	if (line->len > RECORD_START) {
		struct utf8 u;
		char *p = buf_reserve(&r->rendered, 3 * (RECORD_START + 1));

		/* What the cut leaves of a last character is not shown. */
		utf8_init(&u);
		r->rendered.len = p == NULL ? 0 : utf8_feed(&u, line->data, RECORD_START, p);
	} else
		text_add_clean(&r->rendered, line->data, line->len);
	rec->raw = r->rendered.data;
	rec->raw_len = r->rendered.len;
}

static void
note_key(const struct reader *r, struct record *rec)
{
	snprintf(rec->reason, sizeof rec->reason, "the object already has a member %s, choose another name by --key",
	    r->options->key);
}

/* ---- JSON ----------------------------------------------------------- */

static void
extract(struct reader *r, const json_t *object, struct record *rec)
{
	const struct form *form = r->form != NULL ? r->form : form_detect(object);
	const char *text_field[] = {r->options->text_field, NULL}, *source_field[] = {r->options->source_field, NULL};
	char ignored[sizeof rec->reason], *newline;

	form_add_text(&r->text, object, *text_field != NULL ? text_field : form->text, rec->reason, sizeof rec->reason);
	if (r->text.len > 0)
		form_add_text(&r->source, object, *source_field != NULL ? source_field : form->source, ignored,
		    sizeof ignored);
	/* A field that the journal repeats has several lines: the first will do. */
	if (r->source.len > 0 && (newline = memchr(r->source.data, '\n', r->source.len)) != NULL)
		r->source.len = (size_t)(newline - r->source.data);
	render_event(&r->rendered, r->source.data, r->source.len, r->text.data, r->text.len);
	if (r->rendered.len == 0 && r->text.len > 0)
		snprintf(rec->reason, sizeof rec->reason, "the text is white space");
	rec->text = r->rendered.data;
	rec->text_len = r->rendered.len;
	rec->source_len = rec->text_len == 0 ? 0 : r->source.len;
}

static void
read_json(struct reader *r, const struct line *line, struct record *rec)
{
	json_t *object = json_line_read(line->data, line->len, &r->scratch, rec->reason, sizeof rec->reason);
	size_t end = line->len;

	if (object == NULL) {
		refuse_line(r, line, rec);
		return;
	}
	if (json_object_get(object, r->options->key) != NULL) {
		note_key(r, rec);
		refuse_line(r, line, rec);
	} else {
		while (is_json_space(line->data[end - 1]))
			end--;
		assert(line->data[end - 1] == '}');
		rec->type = RECORD_EVENT;
		rec->bare = json_object_size(object) == 0;
		rec->raw = line->data;
		rec->raw_len = end - 1;
		extract(r, object, rec);
	}
	json_decref(object);
}

/* ---- plain ---------------------------------------------------------- */

static void
read_plain(struct reader *r, const struct line *line, struct record *rec)
{
	size_t len = line->len > 0 && line->data[line->len - 1] == '\r' ? line->len - 1 : line->len;

	if (strcmp(r->options->key, "text") == 0) {
		note_key(r, rec);
		refuse_line(r, line, rec);
		return;
	}
	if (!json_line_check_bytes(line->data, line->len, rec->reason, sizeof rec->reason)) {
		refuse_line(r, line, rec);
		return;
	}
	rec->type = RECORD_EVENT;
	rec->wrap = true;
	rec->raw = line->data;
	rec->raw_len = len;
	render_event(&r->rendered, NULL, 0, line->data, len);
	rec->text = r->rendered.data;
	rec->text_len = r->rendered.len;
	if (rec->text_len == 0)
		snprintf(rec->reason, sizeof rec->reason, "the line is blank");
}

/* ---- a line --------------------------------------------------------- */

static bool
out_of_memory(const struct reader *r)
{
	return r->text.failed || r->source.failed || r->rendered.failed || r->scratch.failed;
}

int
reader_read(struct reader *r, enum reader_format *format, const struct line *line, struct record *rec,
    struct err *e)
{
	struct line l = *line;
	size_t space;

	/* A byte order mark is no part of the first line. */
	if (l.number == 1 && l.len >= 3 && memcmp(l.data, "\xef\xbb\xbf", 3) == 0) {
		l.data += 3;
		l.len -= 3;
	}
	space = count_space(l.data, l.len);
	if (space == l.len && !l.cut && *format != READER_PLAIN)
		return 0;
	if (*format == READER_AUTO)
		*format = space < l.len && l.data[space] == '{' ? READER_JSON : READER_PLAIN;
	r->form = form_find(reader_format_names[*format]);

	forget(r);
	memset(rec, 0, sizeof *rec);
	rec->line = l.number;
	if (l.cut) {
		snprintf(rec->reason, sizeof rec->reason, "the line is longer than %zu bytes, see --max-line",
		    r->options->max_line);
		refuse_line(r, &l, rec);
	} else if (*format == READER_PLAIN)
		read_plain(r, &l, rec);
	else
		read_json(r, &l, rec);
	if (out_of_memory(r))
		return err_set(e, EX_OSERR, "out of memory for a line of %zu bytes", l.len);

	assert(record_get_size(rec) <= READER_GROWTH(l.len));
	return 1;
}
