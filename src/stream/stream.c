/* A stream's beginning, and how its model takes turns; see stream.h. */
#include "stream/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "stream/stage.h"
#include "stream/words.h"

enum {
	PIN_MAX = 16 << 20,     /* bytes of a pinned text */
	DENSE_RECENT = 1 << 16, /* tokens remembered where all are in the window */
};

void
tokens_fini(struct tokens *t)
{
	free(t->ids);
	*t = (struct tokens){0};
}

int
tokens_add(struct tokens *t, const int32_t *ids, size_t n, struct err *e)
{
	if (t->n + n > t->cap) {
		size_t cap = 2 * t->cap > t->n + n ? 2 * t->cap : t->n + n;
		int32_t *more = realloc(t->ids, cap * sizeof *more);

		if (more == NULL)
			return err_set(e, EX_OSERR, "out of memory for %zu tokens", cap);
		t->ids = more;
		t->cap = cap;
	}
	if (n > 0)
		memcpy(t->ids + t->n, ids, n * sizeof *ids);
	t->n += n;
	return 0;
}

int
stream_encode(struct stream *s, const char *text, size_t len, unsigned flags, struct tokens *to, struct err *e)
{
	const int32_t *ids;
	int64_t n = tokenizer_encode(s->tokenizer, text, len, flags, &ids, e);

	return n < 0 ? -1 : tokens_add(to, ids, (size_t)n, e);
}

int64_t
stream_get_view(const struct stream *s)
{
	struct context_info info;

	context_get_info(s->context, &info);
	return info.evictions == 0 ? info.tokens : info.tokens - info.evictions - s->sinks;
}

bool
stream_is_broken(const struct stream *s, const struct err *e)
{
	return e->code == EX_TEMPFAIL || (e->code != 0 && context_is_broken(s->context));
}

/* ---- turns ---------------------------------------------------------- */

int
stream_encode_question(struct stream *s, const char *question, size_t len, struct tokens *to, struct err *e)
{
	const struct chat_template *t = &s->template;
	const char *open = s->opened ? "" : t->user_prefix;

	if (stream_encode(s, open, strlen(open), TOKENIZER_PARSE_SPECIAL, to, e) < 0 ||
	    stream_encode(s, question, len, 0, to, e) < 0 ||
	    stream_encode(s, t->user_suffix, strlen(t->user_suffix), TOKENIZER_PARSE_SPECIAL, to, e) < 0 ||
	    stream_encode(s, t->assistant_prefix, strlen(t->assistant_prefix), TOKENIZER_PARSE_SPECIAL, to, e) < 0)
		return -1;
	return 0;
}

/* ---- what is fed ---------------------------------------------------- */

int
stream_feed(struct stream *s, const int32_t *ids, size_t n, float *nll, struct err *e)
{
	if (context_feed(s->context, ids, n, nll, e) < 0)
		return -1;
	stream_note(s, ids, n);
	return 0;
}

void
stream_note(struct stream *s, const int32_t *ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		s->recent[s->recent_n++ % s->recent_room] = ids[i];
}

int
stream_pin(struct stream *s, const char *text, size_t len, struct err *e)
{
	struct context_info info;

	context_get_info(s->context, &info);
	if (info.tokens < s->sinks)
		return 0;
	s->block.n = 0;
	for (size_t at = 0; at < len;) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t n = end == NULL ? len - at : (size_t)(end - text) + 1 - at, before = s->block.n;

		if (stream_encode(s, text + at, n, 0, &s->block, e) < 0)
			return -1;
		if (s->block.n > (size_t)s->block_room) {
			s->block.n = before;
			break;
		}
		at += n;
	}
	return context_pin(s->context, s->block.ids, s->block.n, e);
}

/* ---- the beginning -------------------------------------------------- */

static int
read_pin(const char *path, char **text, size_t *len, struct err *e)
{
	FILE *f = fopen(path, "re");
	int rc = 0;

	if (f == NULL)
		return err_set(e, EX_NOINPUT, "cannot open the text to pin, %s: %s", path, strerror(errno));
	if ((*text = malloc(PIN_MAX + 1)) == NULL)
		rc = err_set(e, EX_OSERR, "out of memory for %s", path);
	else {
		*len = fread(*text, 1, PIN_MAX + 1, f);
		if (ferror(f))
			rc = err_set(e, EX_NOINPUT, "cannot read the text to pin, %s: %s", path, strerror(errno));
		else if (*len > PIN_MAX)
			rc = err_set(e, EX_DATAERR, "the text to pin, %s, is larger than %d bytes", path, PIN_MAX);
		else
			(*text)[*len] = '\0';
	}
	fclose(f);
	return rc;
}

/* Does the text open a user's turn and not close it? */
static bool
opens_turn(const struct chat_template *t, const char *text)
{
	const char *open = NULL;

	if (t->user_prefix[0] == '\0')
		return false;
	for (const char *p = text; (p = strstr(p, t->user_prefix)) != NULL; p += strlen(t->user_prefix))
		open = p;
	return open != NULL && (t->user_suffix[0] == '\0' || strstr(open, t->user_suffix) == NULL);
}

/* The operator wrote the pinned text, so special tokens in it are such. */
static int
encode_pin(struct stream *s, const char *path, struct tokens *to, struct err *e)
{
	char *text = NULL;
	size_t len = 0;
	int rc = read_pin(path, &text, &len, e);

	if (rc == 0) {
		s->opened = opens_turn(&s->template, text);
		rc = stream_encode(s, text, len, TOKENIZER_PARSE_SPECIAL, to, e);
	}
	free(text);
	return rc;
}

/* A system turn, and the start of a user's. */
static int
encode_system(struct stream *s, const char *system, struct tokens *to, struct err *e)
{
	const struct chat_template *t = &s->template;
	const char *open = t->system_opens_user ? "" : t->user_prefix;

	s->opened = true;
	if (stream_encode(s, t->system_prefix, strlen(t->system_prefix), TOKENIZER_PARSE_SPECIAL, to, e) < 0 ||
	    stream_encode(s, system, strlen(system), 0, to, e) < 0 ||
	    stream_encode(s, t->system_suffix, strlen(t->system_suffix), TOKENIZER_PARSE_SPECIAL, to, e) < 0 ||
	    stream_encode(s, open, strlen(open), TOKENIZER_PARSE_SPECIAL, to, e) < 0)
		return -1;
	return 0;
}

/* What the stream begins with, in parts: it may be long. */
static int
feed_start(struct stream *s, const struct context_options *o, struct err *e)
{
	struct context_info info;
	size_t at = 0;

	context_get_info(s->context, &info);
	while (at < s->start.n) {
		size_t left = s->start.n - at, n = left < (size_t)info.chunk ? left : (size_t)info.chunk;

		if (context_feed(s->context, s->start.ids + at, n, NULL, e) < 0)
			return -1;
		at += n;
		if (o->loading != NULL && !o->loading(o->loading_arg))
			return err_set(e, ERR_STOPPED, "the reading of what the stream begins with was stopped");
	}
	return 0;
}

static int
open_context(struct stream *s, const struct stream_options *o, struct err *e)
{
	const struct model_info *info = model_get_info(s->model);
	struct context_options c = o->context;
	struct tokens *start = &s->start;
	bool pinned = o->pin != NULL || o->system != NULL;

	if (info->add_bos && info->bos >= 0 && tokens_add(start, &info->bos, 1, e) < 0)
		return -1;
	s->pinned = o->pin != NULL;
	if (o->pin != NULL ? encode_pin(s, o->pin, start, e) < 0 :
	    o->system != NULL && encode_system(s, o->system, start, e) < 0)
		return -1;
	if (pinned && (size_t)c.sinks < start->n && c.policy == POLICY_SINK)
		c.sinks = (int32_t)start->n;
	if (c.policy != POLICY_SINK)
		c.sinks = 0;
	if (info->n_ctx_train > 0 && c.sinks >= info->n_ctx_train)
		return err_set(e, EX_USAGE, "%d sinks are too many: the model was trained with a context of %d tokens",
		    c.sinks, info->n_ctx_train);
	if ((s->context = context_new(s->model, &c, e)) == NULL)
		return -1;
	s->room = c.fork_tokens;
	s->block_room = c.block;
	s->sinks = c.sinks;
	s->recent_room = c.policy == POLICY_DENSE ? DENSE_RECENT : c.window;
	if ((s->recent = calloc((size_t)s->recent_room, sizeof *s->recent)) == NULL)
		return err_set(e, EX_OSERR, "out of memory for the last %lld tokens", (long long)s->recent_room);
	memory_touch(s->recent, (size_t)s->recent_room * sizeof *s->recent);
	return feed_start(s, &c, e);
}

/* ---- sections of a checkpoint --------------------------------------- */

void
stream_add_section(struct stream *s, const struct section *section)
{
	assert(s->n_sections < STREAM_SECTIONS);
	s->sections[s->n_sections++] = *section;
}

static int
save_context(void *object, const struct bytes_out *to, struct err *e)
{
	return context_save(object, to, e);
}

static int
load_context(void *object, uint32_t version, const struct bytes_in *from, struct err *e)
{
	(void)version;
	return context_load(object, from, e);
}

/* The pinned block, and the last tokens. */
static int
save_tokens(void *object, const struct bytes_out *to, struct err *e)
{
	struct stream *s = object;
	const int64_t head[2] = {s->recent_n, (int64_t)s->block.n};
	int64_t first = s->recent_n > s->recent_room ? s->recent_n - s->recent_room : 0;

	if (bytes_write(to, head, sizeof head, e) < 0 ||
	    bytes_write(to, s->block.ids, s->block.n * sizeof *s->block.ids, e) < 0)
		return -1;
	for (int64_t i = first; i < s->recent_n; i++)
		if (bytes_write(to, &s->recent[i % s->recent_room], sizeof *s->recent, e) < 0)
			return -1;
	return 0;
}

/* Tokens were checked when they were saved, but numbers lead into memory. */
static int
load_ids(struct stream *s, int32_t *ids, size_t n, const struct bytes_in *from, struct err *e)
{
	if (bytes_read(from, ids, n * sizeof *ids, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (ids[i] < 0 || ids[i] >= s->n_vocab)
			return err_set(e, EX_DATAERR, "the saved state is damaged");
	return 0;
}

/* After the context, which says how many tokens there can be. */
static int
load_tokens(void *object, uint32_t version, const struct bytes_in *from, struct err *e)
{
	const int32_t none = 0;
	struct stream *s = object;
	struct context_info info;
	int64_t head[2], first;

	(void)version;
	if (bytes_read(from, head, sizeof head, e) < 0)
		return -1;
	context_get_info(s->context, &info);
	if (head[0] < 0 || head[0] > info.tokens || head[1] < 0 || head[1] > s->block_room)
		return err_set(e, EX_DATAERR, "the saved state is damaged");
	s->recent_n = head[0];
	s->block.n = 0;
	while (s->block.n < (size_t)head[1])
		if (tokens_add(&s->block, &none, 1, e) < 0)
			return -1;
	if (load_ids(s, s->block.ids, s->block.n, from, e) < 0)
		return -1;
	first = s->recent_n > s->recent_room ? s->recent_n - s->recent_room : 0;
	for (int64_t i = first; i < s->recent_n; i++)
		if (load_ids(s, &s->recent[i % s->recent_room], 1, from, e) < 0)
			return -1;
	return 0;
}

/* The context is the first: it says whether the state is of such a stream at all. */
static void
add_sections(struct stream *s)
{
	const struct section sections[] = {
		{"context", 1, 0, save_context, load_context, s->context},
		{"tokens", 1, 0, save_tokens, load_tokens, s},
	};

	for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
		stream_add_section(s, &sections[i]);
}

struct stream *
stream_open(const struct stream_options *o, struct err *e)
{
	struct stream *s = calloc(1, sizeof *s);

	if (s == NULL) {
		err_set(e, EX_OSERR, "out of memory for the stream");
		return NULL;
	}
	if ((s->model = model_open(o->model, 0, e)) == NULL || (s->tokenizer = tokenizer_new(s->model, e)) == NULL)
		goto fail;
	s->n_vocab = model_get_info(s->model)->n_vocab;
	if ((s->logits = malloc((size_t)s->n_vocab * sizeof *s->logits)) == NULL) {
		err_set(e, EX_OSERR, "out of memory for logits");
		goto fail;
	}
	if ((s->sampler = sampler_new(s->n_vocab, e)) == NULL ||
	    stops_learn(&s->stops, &s->template, s->model, s->tokenizer, e) < 0 || open_context(s, o, e) < 0)
		goto fail;
	add_sections(s);
	if ((s->stages = stages_new(s, e)) == NULL)
		goto fail;
	s->memory = stages_get(s->stages, &memory_stage);
	return s;
fail:
	stream_close(s);
	return NULL;
}

void
stream_close(struct stream *s)
{
	if (s == NULL)
		return;
	context_free(s->context);
	sampler_free(s->sampler);
	tokenizer_free(s->tokenizer);
	model_close(s->model);
	free(s->logits);
	stages_free(s->stages);
	words_free(s->ordinary);
	free(s->recent);
	tokens_fini(&s->start);
	tokens_fini(&s->block);
	free(s);
}
