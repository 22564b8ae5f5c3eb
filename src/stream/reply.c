/* Answers on a fork of the stream; see reply.h. */
#include "stream/reply.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "stream/constraint.h"

const char *const reply_end_names[] = {"stop", "length", "time", "cancelled"};

/* Tokens of a question that are read at once: as long as these take, others wait. */
enum { QUESTION_PART = 256 };

/* One answer on its way. */
struct answer {
	struct stream *s;
	struct reply_options o;
	struct reply_hooks hooks;
	struct reply r;
	int32_t max_tokens;
	double begin;
	struct tokens said;            /* the question's, and with join the answer's behind them */
	size_t read;                   /* tokens of the question that were fed */
	bool over;                     /* the text has come to its end */
	bool forked;                   /* it has a fork */
	bool waits;                    /* it made way for the stream */
	uint64_t random;               /* where the sampler went on from then */
	struct utf8 utf8;
	size_t sent;                   /* bytes of the text that were passed on */
	struct faithful *faithful;
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

/* ---- the answer ----------------------------------------------------- */

/* The characters up to `end` are final. */
static void
send(struct answer *a, size_t end)
{
	if (end > a->sent && a->hooks.piece != NULL)
		a->hooks.piece(a->hooks.arg, a->r.text.data + a->sent, end - a->sent);
	a->sent = end;
}

/* Where the text could be cut off, if it had to be now: behind a word that may be said, and between characters. */
static void
mark_safe(struct answer *a)
{
	if (a->utf8.n > 0 || !constraint_may_cut(&a->constraint, &a->state))
		return;
	a->safe = a->state;
	a->safe_len = a->r.text.len;
	send(a, a->safe_len);
}

static void
add_bytes(struct answer *a, const char *bytes, size_t len)
{
	struct buf *text = &a->r.text;

	if (buf_reserve(text, 3 * (len + 1)) == NULL)
		return;
	text->len += utf8_feed(&a->utf8, bytes, len, text->data + text->len);
	constraint_feed(&a->constraint, &a->state, bytes, len);
}

static int
add_token(struct answer *a, int32_t id, struct err *e)
{
	size_t len;
	const char *bytes = tokenizer_decode(a->s->tokenizer, id, false, a->r.tokens == 0, &len);

	if (a->r.tokens++ == 0)
		a->r.first = clock_get_seconds() - a->begin;
	add_bytes(a, bytes, len);
	if (a->r.text.failed)
		return err_set(e, EX_OSERR, "out of memory for an answer");
	if (is_constrained(a))
		mark_safe(a);
	else
		send(a, a->r.text.len);
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

	if (stops_have(&a->s->stops, id))
		return constraint_may_end(&a->constraint, &a->state);
	bytes = tokenizer_decode(a->s->tokenizer, id, false, a->r.tokens == 0, &len);
	if (len == 0)
		return false;
	copy = a->state;
	return constraint_feed(&a->constraint, &copy, bytes, len) && constraint_may_go_on(&a->constraint, &copy);
}

/* The end of the text: what may not stay is dropped, and what is missing of JSON is added. */
static int
reply_finish(struct answer *a, struct err *e)
{
	struct buf *text = &a->r.text;
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
		a->r.end = REPLY_STOP;
	else if (a->hooks.is_cancelled(a->hooks.arg))
		a->r.end = REPLY_CANCELLED;
	else if (a->r.tokens == a->max_tokens)
		a->r.end = REPLY_LENGTH;
	else if (a->o.time_limit > 0 && clock_get_seconds() - a->begin > 1e-3 * a->o.time_limit)
		a->r.end = REPLY_TIME;
	else
		return false;
	return true;
}

/* Whether it is always the likeliest token: that is found where the logits are, and what follows it can begin early. */
static bool
is_greedy(const struct answer *a)
{
	return a->o.sample.temperature == 0 && !is_constrained(a);
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

/* The next step of the answer: a token, or its end. */
static int
write_token(struct answer *a, struct err *e)
{
	int32_t id;

	if ((a->over = is_over(a)))
		return 0;
	if (choose_token(a, &id, e) < 0)
		return -1;
	if (id < 0 || stops_have(&a->s->stops, id)) {
		a->r.end = REPLY_STOP;
		a->over = true;
		return 0;
	}
	if (add_token(a, id, e) < 0 || (a->o.join && tokens_add(&a->said, &id, 1, e) < 0) ||
	    context_feed(a->s->context, &id, 1, NULL, e) < 0)
		return -1;
	a->hooks.progress(a->hooks.arg, 1);
	return 0;
}

static int
read_question(struct answer *a, struct err *e)
{
	size_t left = (size_t)a->r.asked - a->read, n = left < QUESTION_PART ? left : QUESTION_PART;

	if (context_feed(a->s->context, a->said.ids + a->read, n, NULL, e) < 0)
		return -1;
	a->read += n;
	a->hooks.progress(a->hooks.arg, n);
	return 0;
}

/* ---- turns with the stream ------------------------------------------ */

static void
take_sampler(struct answer *a)
{
	struct sample_options o = a->o.sample;

	o.seed = a->random;
	sampler_start(a->s->sampler, &o);
	context_expect_likeliest(a->s->context, is_greedy(a));
}

int
reply_make_way(struct answer *a, struct err *e)
{
	if (a->waits)
		return 0;
	a->random = sampler_get_seed(a->s->sampler);
	context_expect_likeliest(a->s->context, false);
	if (context_suspend(a->s->context, e) < 0)
		return -1;
	a->waits = true;
	return 0;
}

int
reply_go_on(struct answer *a, struct err *e)
{
	if (a->waits && context_resume(a->s->context, e) < 0)
		return -1;
	if (a->waits)
		take_sampler(a);
	a->waits = false;
	while (!a->over) {
		if ((a->read < (size_t)a->r.asked ? read_question(a, e) : write_token(a, e)) < 0)
			return -1;
		if (!a->over && a->hooks.must_pause != NULL && a->hooks.must_pause(a->hooks.arg))
			return 0;
	}
	return 1;
}

/* ---- begin and end -------------------------------------------------- */

/* A question must leave room for an answer, on a fork as well as in the window. */
static int
limit_tokens(struct answer *a, struct err *e)
{
	size_t room = (size_t)a->s->room, n = a->said.n;

	if (n >= room)
		return err_set(e, EX_DATAERR, "the question has %zu tokens: with its answer it may have %zu", n, room);
	a->max_tokens = a->o.max_tokens > 0 ? a->o.max_tokens : REPLY_TOKENS;
	if ((size_t)a->max_tokens > room - n)
		a->max_tokens = (int32_t)(room - n);
	a->r.asked = (int32_t)n;
	return 0;
}

struct answer *
reply_begin(struct stream *s, const char *question, size_t len, const struct reply_options *o,
    const struct reply_hooks *hooks, struct err *e)
{
	struct answer *a = calloc(1, sizeof *a);

	if (a == NULL) {
		err_set(e, EX_OSERR, "out of memory for an answer");
		return NULL;
	}
	/* The model would make up what it has read. In a chat the question itself may begin the stream. */
	if (!o->join && s->recent_n == 0 && !s->pinned) {
		err_set(e, EX_DATAERR, "nothing has been read yet that could be asked about");
		goto fail;
	}
	if (!o->join)
		memory_get_view(s->memory, stream_get_view(s), &a->r.view);
	a->s = s;
	a->o = *o;
	a->hooks = *hooks;
	a->begin = clock_get_seconds();
	a->random = o->sample.seed;
	utf8_init(&a->utf8);
	if (o->faithful && (a->faithful = faithful_new(s, question, len, e)) == NULL)
		goto fail;
	a->constraint = (struct constraint){o->schema, a->faithful};
	constraint_begin(&a->constraint, &a->state);
	a->safe = a->state;
	if (stream_encode_question(s, question, len, &a->said, e) < 0 || limit_tokens(a, e) < 0 ||
	    context_fork(s->context, e) < 0)
		goto fail;
	a->forked = true;
	take_sampler(a);
	return a;
fail:
	reply_free(a);
	return NULL;
}

/* Question and answer are the stream's. Where that went on without them they are read again, behind it. */
static int
reply_join(struct answer *a, struct err *e)
{
	bool kept = context_keep(a->s->context);

	if (!kept)
		context_rewind(a->s->context);
	a->forked = false;
	if (kept)
		stream_note(a->s, a->said.ids, a->said.n);
	else if (stream_feed(a->s, a->said.ids, a->said.n, NULL, e) < 0)
		return -1;
	return close_turn(a->s, e);
}

int
reply_end(struct answer *a, struct reply *r, struct err *e)
{
	int rc = reply_finish(a, e);

	context_expect_likeliest(a->s->context, false);
	if (rc == 0 && a->o.join)
		rc = reply_join(a, e);
	a->r.seconds = clock_get_seconds() - a->begin;
	*r = a->r;
	a->r.text = (struct buf){0};
	return rc;
}

void
reply_free(struct answer *a)
{
	if (a == NULL)
		return;
	if (a->forked) {
		context_expect_likeliest(a->s->context, false);
		context_rewind(a->s->context);
	}
	faithful_free(a->faithful);
	tokens_fini(&a->said);
	buf_fini(&a->r.text);
	free(a);
}

int
reply_make(struct stream *s, const char *question, size_t len, const struct reply_options *o,
    const struct reply_hooks *hooks, struct reply *r, struct err *e)
{
	struct reply_hooks whole = *hooks;
	struct answer *a;
	int rc;

	memset(r, 0, sizeof *r);
	whole.must_pause = NULL;
	if ((a = reply_begin(s, question, len, o, &whole, e)) == NULL)
		return -1;
	rc = reply_go_on(a, e);
	if (rc >= 0)
		rc = reply_end(a, r, e);
	reply_free(a);
	return rc;
}
