/* What is remembered of recent events; see memory.h. */
#include "stream/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "stream/stage.h"

#define COUNT_MAX (INT64_C(1) << 62) /* a count beyond this was never reached: it is damage */

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_word(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

/* Numbers, addresses and identifiers differ from line to line: a word with a digit counts as any other. */
static uint64_t
get_shape(const char *text, size_t len)
{
	char shape[MEMORY_TEXT];
	size_t n = 0;

	for (size_t i = 0; i < len;) {
		size_t end = i;
		bool digit = false;

		for (; end < len && is_word(text[end]); end++)
			digit |= is_digit(text[end]);
		if (digit)
			shape[n++] = '0';
		else if (end > i) {
			memcpy(shape + n, text + i, end - i);
			n += end - i;
		} else
			shape[n++] = text[end++];
		i = end;
	}
	return XXH3_64bits(shape, n);
}

void
memory_add(struct memory *m, const struct record *r)
{
	struct memory_event *e = &m->events[m->count++ % MEMORY_EVENTS];
	size_t len = r->text_len;

	memset(e, 0, sizeof *e);
	while (len > 0 && r->text[len - 1] == '\n')
		len--;
	if (len > MEMORY_TEXT) {
		for (len = MEMORY_TEXT; len > 0 && (r->text[len] & 0xc0) == 0x80; len--)
			;
		e->cut = 1;
	}
	e->seq = r->seq;
	e->time = r->time;
	e->nll = r->score.nll;
	e->tokens = (int32_t)r->score.tokens;
	e->scored = (int32_t)r->score.scored;
	e->len = (int32_t)len;
	memcpy(e->text, r->text, len);
	e->shape = get_shape(e->text, len);
}

int64_t
memory_get_first(const struct memory *m)
{
	return m->count > MEMORY_EVENTS ? m->count - MEMORY_EVENTS : 0;
}

const struct memory_event *
memory_get(const struct memory *m, int64_t number)
{
	return &m->events[number % MEMORY_EVENTS];
}

void
memory_get_view(const struct memory *m, int64_t tokens, struct memory_view *view)
{
	const struct memory_event *e;

	*view = (struct memory_view){0};
	for (int64_t i = m->count - 1; i >= memory_get_first(m); i--) {
		e = memory_get(m, i);
		if (view->events > 0 && e->tokens > tokens)
			return;
		tokens -= e->tokens;
		if (view->events++ == 0) {
			view->to = e->seq;
			view->to_time = e->time;
		}
		view->from = e->seq;
		view->from_time = e->time;
	}
}

double
memory_get_surprise(const struct memory_event *e)
{
	return score_get_surprise(e->nll, e->scored);
}

/* ---- the stage ------------------------------------------------------ */

static void *
new_memory(struct err *e)
{
	struct memory *m = calloc(1, sizeof *m);

	if (m == NULL)
		err_set(e, EX_OSERR, "out of memory for recent events");
	else
		memory_touch(m, sizeof *m);
	return m;
}

static void
remember_event(void *state, const struct stage_event *event)
{
	memory_add(state, event->record);
}

static int
save_memory(void *state, const struct bytes_out *to, struct err *e)
{
	const struct memory *m = state;
	const int64_t head[3] = {m->count, m->digested, m->digests};

	if (bytes_write(to, head, sizeof head, e) < 0)
		return -1;
	for (int64_t i = memory_get_first(m); i < m->count; i++)
		if (bytes_write(to, memory_get(m, i), sizeof *m->events, e) < 0)
			return -1;
	return 0;
}

/* Could memory_add have made this event? Digests quote it, so its text and numbers must fit into JSON. */
static bool
is_possible(const struct memory_event *v)
{
	return v->len >= 0 && v->len <= MEMORY_TEXT && utf8_is_valid(v->text, (size_t)v->len) && isfinite(v->nll) &&
	    v->tokens >= 0 && v->scored >= 0 && v->scored <= v->tokens;
}

static int
load_memory(void *state, uint32_t version, const struct bytes_in *from, struct err *e)
{
	struct memory *m = state;
	int64_t head[3];

	(void)version;
	if (bytes_read(from, head, sizeof head, e) < 0)
		return -1;
	if (head[0] < 0 || head[0] > COUNT_MAX || head[1] < 0 || head[1] > head[0] || head[2] < 0 ||
	    head[2] > COUNT_MAX)
		return err_set(e, EX_DATAERR, "the saved state is damaged");
	m->count = head[0];
	m->digested = head[1];
	m->digests = head[2];
	for (int64_t i = memory_get_first(m); i < m->count; i++) {
		struct memory_event *v = &m->events[i % MEMORY_EVENTS];

		if (bytes_read(from, v, sizeof *v, e) < 0)
			return -1;
		if (!is_possible(v))
			return err_set(e, EX_DATAERR, "the saved state is damaged");
	}
	return 0;
}

const struct stage memory_stage = {
	.new = new_memory,
	.free = free,
	.after = remember_event,
	.section = {.name = "memory", .version = 1, .save = save_memory, .load = load_memory},
};
