/* Answers on a fork of the stream; see reply.h. */
#include "stream/reply.h"

#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "stream/constraint.h"

const char *const reply_end_names[] = {"stop", "length", "time", "cancelled"};

/* One answer on its way. */
struct answer {
	struct stream *s;
	const struct reply_options *o;
	const struct reply_hooks *hooks;
	struct reply *r;
	int32_t max_tokens;
	double begin;
	struct utf8 utf8;
	size_t sent;                   /* bytes of the text that were passed on */
	struct constraint constraint;
	struct constraint_state state;
	struct constraint_state safe;  /* where it was last allowed to be cut off, */
	size_t safe_len;               /* with this much text */
};

static bool
is_constrained(const struct answer *a)
{
	return a->constraint.schema != NULL || a->constraint.faithful != NULL;
}

/* The end of the model's turn; a user's is opened where the stream lay in one. */
static int
close_turn(struct stream *s, struct err *e)
{
	const struct chat_template *t = &s->template;
	struct tokens close = {0};
	int rc = stream_encode(s, t->assistant_suffix, strlen(t->assistant_suffix), TOKENIZER_PARSE_SPECIAL, &close, e);

	if (rc == 0 && s->opened)
		rc = stream_encode(s, t->user_prefix, strlen(t->user_prefix), TOKENIZER_PARSE_SPECIAL, &close, e);
	if (rc == 0)
		rc = stream_feed(s, close.ids, close.n, NULL, e);
	tokens_fini(&close);
	return rc;
}

/* To the fork, or to the stream. */
static int
feed(struct answer *a, const int32_t *ids, size_t n, struct err *e)
{
	return a->o->join ? stream_feed(a->s, ids, n, NULL, e) : context_feed(a->s->context, ids, n, NULL, e);
}

/* ---- the answer ----------------------------------------------------- */

/* The characters up to `end` are final. */
static void
send(struct answer *a, size_t end)
{
	if (end > a->sent && a->hooks->piece != NULL)
		a->hooks->piece(a->hooks->arg, a->r->text.data + a->sent, end - a->sent);
	a->sent = end;
}

/* Where the text could be cut off, if it had to be now: behind a word that may be said, and between characters. */
static void
mark_safe(struct answer *a)
{
	if (a->utf8.n > 0 || !constraint_may_cut(&a->constraint, &a->state))
		return;
	a->safe = a->state;
	a->safe_len = a->r->text.len;
	send(a, a->safe_len);
}

static void
add_bytes(struct answer *a, const char *bytes, size_t len)
{
	struct buf *text = &a->r->text;

	if (buf_reserve(text, 3 * (len + 1)) == NULL)
		return;
	text->len += utf8_feed(&a->utf8, bytes, len, text->data + text->len);
	constraint_feed(&a->constraint, &a->state, bytes, len);
}

static int
add_token(struct answer *a, int32_t id, struct err *e)
{
	size_t len;
	const char *bytes = tokenizer_decode(a->s->tokenizer, id, false, a->r->tokens == 0, &len);

	if (a->r->tokens++ == 0)
		a->r->first = clock_get_seconds() - a->begin;
	add_bytes(a, bytes, len);
	if (a->r->text.failed)
		return err_set(e, EX_OSERR, "out of memory for an answer");
	if (is_constrained(a))
		mark_safe(a);
	else
		send(a, a->r->text.len);
	return 0;
}

/* The filter of the sampler: a token is allowed if all of its bytes are. */
static bool
is_allowed(void *arg, int32_t id)
{
	const struct answer *a = arg;
	struct constraint_state copy;
	size_t len;
	const char *bytes;

	if (stream_is_stop(a->s, id))
		return constraint_may_end(&a->constraint, &a->state);
	bytes = tokenizer_decode(a->s->tokenizer, id, false, a->r->tokens == 0, &len);
	if (len == 0)
		return false;
	copy = a->state;
	return constraint_feed(&a->constraint, &copy, bytes, len) && constraint_may_go_on(&a->constraint, &copy);
}

/* The end of the text: what may not stay is dropped, and what is missing of JSON is added. */
static int
finish(struct answer *a, struct err *e)
{
	struct buf *text = &a->r->text;
	int next;

	if (is_constrained(a)) {
		text->len = a->safe_len;
		a->state = a->safe;
		utf8_init(&a->utf8);
	}
	while ((next = constraint_get_shortest(&a->constraint, &a->state)) >= 0) {
		char byte = (char)next;

		add_bytes(a, &byte, 1);
	}
	if (buf_reserve(text, 3) == NULL)
		return err_set(e, EX_OSERR, "out of memory for an answer");
	text->len += utf8_flush(&a->utf8, text->data + text->len);
	send(a, text->len);
	return 0;
}

/* Is it over before the next token? */
static bool
is_over(struct answer *a)
{
	if (constraint_must_end(&a->constraint, &a->state))
		a->r->end = REPLY_STOP;
	else if (a->hooks->is_cancelled(a->hooks->arg))
		a->r->end = REPLY_CANCELLED;
	else if (a->r->tokens == a->max_tokens)
		a->r->end = REPLY_LENGTH;
	else if (a->o->time_limit > 0 && clock_get_seconds() - a->begin > 1e-3 * a->o->time_limit)
		a->r->end = REPLY_TIME;
	else
		return false;
	return true;
}

/* Whether it is always the likeliest token: that is found where the logits are, and what follows it can begin early. */
static bool
is_greedy(const struct answer *a)
{
	return a->o->sample.temperature == 0 && !is_constrained(a);
}

/* The next token, or -1: there is none that may be. */
static int
choose_token(struct answer *a, int32_t *id, struct err *e)
{
	const struct sample_filter allowed = {is_allowed, a};
	struct stream *s = a->s;

	if (is_greedy(a))
		return context_get_likeliest(s->context, id, e);
	if (context_get_logits(s->context, s->logits, e) < 0)
		return -1;
	*id = sampler_choose(s->sampler, s->logits, is_constrained(a) ? &allowed : NULL);
	return 0;
}

static int
add_tokens(struct answer *a, struct err *e)
{
	while (!is_over(a)) {
		int32_t id;

		if (choose_token(a, &id, e) < 0)
			return -1;
		if (id < 0 || stream_is_stop(a->s, id)) {
			a->r->end = REPLY_STOP;
			break;
		}
		if (add_token(a, id, e) < 0 || feed(a, &id, 1, e) < 0)
			return -1;
		a->hooks->progress(a->hooks->arg);
	}
	return 0;
}

static int
generate(struct answer *a, struct err *e)
{
	int rc;

	sampler_start(a->s->sampler, &a->o->sample);
	context_expect_likeliest(a->s->context, is_greedy(a));
	rc = add_tokens(a, e);
	context_expect_likeliest(a->s->context, false);
	return rc < 0 ? -1 : finish(a, e);
}

static int
ask(struct answer *a, const struct tokens *question, struct err *e)
{
	if (feed(a, question->ids, question->n, e) < 0)
		return -1;
	a->hooks->progress(a->hooks->arg);
	return generate(a, e);
}

static int
ask_aside(struct answer *a, const struct tokens *question, struct err *e)
{
	int rc;

	if (context_fork(a->s->context, e) < 0)
		return -1;
	rc = ask(a, question, e);
	context_rewind(a->s->context);
	return rc;
}

/* A question must leave room for an answer, on a fork as well as in the window. */
static int
limit_tokens(struct answer *a, size_t n, struct err *e)
{
	size_t room = (size_t)a->s->room;

	if (n >= room)
		return err_set(e, EX_DATAERR, "the question has %zu tokens: with its answer it may have %zu", n, room);
	a->max_tokens = a->o->max_tokens > 0 ? a->o->max_tokens : REPLY_TOKENS;
	if ((size_t)a->max_tokens > room - n)
		a->max_tokens = (int32_t)(room - n);
	a->r->asked = (int32_t)n;
	return 0;
}

int
reply_make(struct stream *s, const char *question, size_t len, const struct reply_options *o,
    const struct reply_hooks *hooks, struct reply *r, struct err *e)
{
	struct answer a = {.s = s, .o = o, .hooks = hooks, .r = r, .begin = clock_get_seconds()};
	struct faithful *faithful = NULL;
	struct tokens tokens = {0};
	int rc = -1;

	memset(r, 0, sizeof *r);
	/* The model would make up what it has read. In a chat the question itself may begin the stream. */
	if (!o->join && s->recent_n == 0 && !s->pinned)
		return err_set(e, EX_DATAERR, "nothing has been read yet that could be asked about");
	if (!o->join)
		memory_get_view(s->memory, stream_get_view(s), &r->view);
	utf8_init(&a.utf8);
	if (o->faithful && (faithful = faithful_new(s, question, len, e)) == NULL)
		goto out;
	a.constraint = (struct constraint){o->schema, faithful};
	constraint_begin(&a.constraint, &a.state);
	a.safe = a.state;
	if (stream_encode_question(s, question, len, &tokens, e) < 0 || limit_tokens(&a, tokens.n, e) < 0)
		goto out;
	rc = o->join ? ask(&a, &tokens, e) : ask_aside(&a, &tokens, e);
	if (rc == 0 && o->join)
		rc = close_turn(s, e);
	r->seconds = clock_get_seconds() - a.begin;
out:
	faithful_free(faithful);
	tokens_fini(&tokens);
	return rc;
}
