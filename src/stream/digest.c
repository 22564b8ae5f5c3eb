/* Digests; see digest.h. */
#include "stream/digest.h"

#include <inttypes.h>
#include <string.h>

#include "stream/json_write.h"

static const char question[] = "Summarize the lines above in a few sentences. Say nothing that they do not say.";

static const int64_t small_model = 1000000000; /* parameters */

const char *const digest_style_names[] = {"auto", "extract", "write", NULL};

bool
digest_is_small(const struct model_info *m)
{
	return m->n_params < small_model;
}

void
digest_describe_small(const struct model_info *m, char *text, size_t size)
{
	snprintf(text, size, "this model has %.0f million parameters: it can score events and choose which ones to "
	    "quote, but what it writes is mostly wrong; for answers and summaries load an instruct model with a "
	    "billion parameters or more by --model", 1e-6 * (double)m->n_params);
}

/* ---- which events --------------------------------------------------- */

static bool
is_covered(const struct memory_event *v, const struct digest_options *o)
{
	return o->scheduled || (v->seq >= o->since_seq && v->time >= o->since_time);
}

/* The events from .. end-1 of the memory, and what they are together. */
static void
find_events(const struct memory *m, const struct digest_options *o, struct digest *d, int64_t *from)
{
	int64_t first = memory_get_first(m), begin = o->scheduled && m->digested > first ? m->digested : first;

	if (o->scheduled && first > m->digested)
		d->forgotten = first - m->digested;
	while (begin < m->count && !is_covered(memory_get(m, begin), o))
		begin++;
	*from = begin;
	for (int64_t i = begin; i < m->count; i++) {
		const struct memory_event *v = memory_get(m, i);

		if (d->events++ == 0)
			d->from = v->seq;
		d->to = v->seq;
		d->tokens += v->tokens;
		d->scored += v->scored;
		d->nll += v->nll;
	}
}

/* ---- making --------------------------------------------------------- */

static enum digest_style
choose_style(const struct stream *s, const struct digest_options *o)
{
	if (o->reply.schema != NULL)
		return DIGEST_WRITE;
	if (o->style != DIGEST_AUTO)
		return o->style;
	return digest_is_small(model_get_info(s->model)) ? DIGEST_EXTRACT : DIGEST_WRITE;
}

int
digest_begin(struct stream *s, const struct digest_options *o, struct digest *d, struct err *e)
{
	int lines = o->lines > 0 ? o->lines : DIGEST_LINES;
	int64_t from;

	memset(d, 0, sizeof *d);
	d->style = choose_style(s, o);
	d->json = o->reply.schema != NULL;
	find_events(s->memory, o, d, &from);
	if (o->scheduled && d->events > 0) {
		d->number = ++s->memory->digests;
		s->memory->digested = s->memory->count;
	}
	if (d->events == 0 || d->style == DIGEST_WRITE)
		return 0;
	d->n_lines = extract_choose(s, from, s->memory->count, lines < EXTRACT_LINES ? lines : EXTRACT_LINES, d->lines,
	    &d->shapes, e);
	return d->n_lines < 0 ? -1 : 0;
}

bool
digest_is_written(const struct digest *d)
{
	return d->events > 0 && d->style == DIGEST_WRITE;
}

static struct reply_options
get_reply_options(const struct digest_options *o, const struct digest *d)
{
	struct reply_options reply = o->reply;

	reply.join = false;
	reply.sample.seed += (uint64_t)d->number;
	return reply;
}

struct answer *
digest_begin_text(struct stream *s, const struct digest_options *o, const struct digest *d,
    const struct reply_hooks *hooks, struct err *e)
{
	struct reply_options reply = get_reply_options(o, d);

	return reply_begin(s, question, strlen(question), &reply, hooks, e);
}

int
digest_make(struct stream *s, const struct digest_options *o, const struct reply_hooks *hooks, struct digest *d,
    struct err *e)
{
	struct reply_options reply;

	if (digest_begin(s, o, d, e) < 0)
		return -1;
	if (!digest_is_written(d))
		return 0;
	reply = get_reply_options(o, d);
	return reply_make(s, question, strlen(question), &reply, hooks, &d->reply, e);
}

void
digest_fini(struct digest *d)
{
	buf_fini(&d->reply.text);
}

int
digest_pin(struct stream *s, const struct digest *d, struct err *e)
{
	struct buf text = {0};
	int rc;

	buf_add_text(&text, "Earlier:\n");
	if (d->style == DIGEST_WRITE) {
		buf_add(&text, d->reply.text.data, d->reply.text.len);
		buf_add_text(&text, "\n");
	}
	for (int i = 0; i < d->n_lines; i++) {
		const struct memory_event *v = memory_get(s->memory, d->lines[i].number);

		buf_add(&text, v->text, (size_t)v->len);
		if (d->lines[i].count > 1)
			buf_printf(&text, " (%" PRId64 " times)", d->lines[i].count);
		buf_add_text(&text, "\n");
	}
	if (text.failed)
		rc = err_set(e, EX_OSERR, "out of memory for a digest");
	else
		rc = stream_pin(s, text.data, text.len, e);
	buf_fini(&text);
	return rc;
}

/* ---- the line ------------------------------------------------------- */

static void
add_line(struct buf *out, const struct memory_event *v, const struct extract_line *l)
{
	buf_add(out, "{", 1);
	json_write_int(out, "seq", v->seq);
	json_write_int(out, "count", l->count);
	if (l->count > 1) {
		json_write_int(out, "first", l->first);
		json_write_int(out, "last", l->last);
	}
	if (v->scored > 0)
		json_write_number(out, "surprise", l->surprise);
	json_write_string(out, "text", v->text, (size_t)v->len);
	buf_add_text(out, v->cut ? ",\"cut\":true}" : "}");
}

static void
add_content(struct buf *out, const struct stream *s, const struct digest *d)
{
	if (d->style == DIGEST_EXTRACT) {
		json_write_int(out, "shapes", d->shapes);
		json_write_raw(out, "lines", "[", 1);
		for (int i = 0; i < d->n_lines; i++) {
			buf_add_text(out, i == 0 ? "" : ",");
			add_line(out, memory_get(s->memory, d->lines[i].number), &d->lines[i]);
		}
		buf_add_text(out, "]");
	} else if (d->events > 0) {
		json_write_string(out, "text", d->reply.text.data, d->reply.text.len);
		if (d->json)
			json_write_raw(out, "json", d->reply.text.data, d->reply.text.len);
		json_write_string(out, "end", reply_end_names[d->reply.end], strlen(reply_end_names[d->reply.end]));
	}
}

void
digest_write(struct buf *out, const struct stream *s, const struct digest *d)
{
	const char *style = digest_style_names[d->style];

	json_write_string(out, "style", style, strlen(style));
	if (d->number > 0)
		json_write_int(out, "number", d->number);
	if (d->events > 0) {
		json_write_int(out, "from", d->from);
		json_write_int(out, "to", d->to);
	}
	json_write_int(out, "events", d->events);
	if (d->forgotten > 0)
		json_write_int(out, "forgotten", d->forgotten);
	json_write_int(out, "tokens", d->tokens);
	if (d->scored > 0)
		json_write_number(out, "surprise", score_get_surprise(d->nll, d->scored));
	add_content(out, s, d);
	envelope_end(out);
}
