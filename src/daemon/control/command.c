/* Requests of the control plane; see command.h. Loop thread. */
#include "daemon/control/command.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "stream/json_line.h"
#include "stream/text.h"

enum { ID_MAX = 256, TOKENS_MAX = 1 << 20, TIME_MAX = 24 * 3600 };

static const char *const op_names[] = {"ask", "checkpoint", "digest", "status", "subscribe", "unsubscribe", "unwatch",
    "watch", NULL};

/* ---- members -------------------------------------------------------- */

int
command_take_number(const json_t *o, const char *name, double min, double max, double *to, struct err *e)
{
	const json_t *j = json_object_get(o, name);

	if (j == NULL)
		return 0;
	if (!json_is_number(j) || !(json_number_value(j) >= min) || !(json_number_value(j) <= max))
		return isinf(max) ? err_set(e, EX_DATAERR, "%s must be a number of at least %g", name, min) :
		    err_set(e, EX_DATAERR, "%s must be a number from %g to %g", name, min, max);
	*to = json_number_value(j);
	return 1;
}

/* These return as command_take_number. */
static int
take_int(const json_t *o, const char *name, int64_t min, int64_t max, int64_t *to, struct err *e)
{
	const json_t *j = json_object_get(o, name);

	if (j == NULL)
		return 0;
	if (!json_is_integer(j) || json_integer_value(j) < min || json_integer_value(j) > max)
		return err_set(e, EX_DATAERR, "%s must be a whole number from %lld to %lld", name, (long long)min,
		    (long long)max);
	*to = json_integer_value(j);
	return 1;
}

static int
take_bool(const json_t *o, const char *name, bool *to, struct err *e)
{
	const json_t *j = json_object_get(o, name);

	if (j == NULL)
		return 0;
	if (!json_is_boolean(j))
		return err_set(e, EX_DATAERR, "%s must be true or false", name);
	*to = json_is_true(j);
	return 1;
}

static int
take_sample(const json_t *o, struct sample_options *s, struct err *e)
{
	int64_t seed = 0;

	s->top_p = 1;
	if (command_take_number(o, "temperature", 0, 100, &s->temperature, e) < 0 ||
	    command_take_number(o, "top_p", 0, 1, &s->top_p, e) < 0 ||
	    command_take_number(o, "min_p", 0, 1, &s->min_p, e) < 0 ||
	    take_int(o, "seed", 0, INT64_MAX, &seed, e) < 0)
		return -1;
	s->seed = (uint64_t)seed;
	return 0;
}

static int
take_reply(const json_t *o, struct reply_options *r, struct err *e)
{
	const json_t *schema = json_object_get(o, "schema");
	int64_t tokens = 0;
	double seconds = 0;

	if (take_int(o, "max_tokens", 1, TOKENS_MAX, &tokens, e) < 0 ||
	    command_take_number(o, "time_limit", 0.001, TIME_MAX, &seconds, e) < 0 ||
	    take_bool(o, "faithful", &r->faithful, e) < 0 ||
	    take_sample(o, &r->sample, e) < 0)
		return -1;
	r->max_tokens = (int32_t)tokens;
	r->time_limit = (int32_t)ceil(seconds * 1000);
	if (schema != NULL && (r->schema = schema_new(schema, e)) == NULL)
		return -1;
	return 0;
}

/* ---- operations ----------------------------------------------------- */

static int
read_ask(struct command *c, struct err *e)
{
	const json_t *text = json_object_get(c->object, "text");
	struct request *q = c->request;

	if (!json_is_string(text) || json_string_length(text) == 0)
		return err_set(e, EX_DATAERR, "ask needs text, a string that is not empty");
	if ((q->text = malloc(json_string_length(text) + 1)) == NULL)
		return err_set(e, EX_OSERR, "out of memory for a question");
	q->text_len = json_string_length(text);
	memcpy(q->text, json_string_value(text), q->text_len + 1);
	if (take_reply(c->object, &q->reply, e) < 0 || take_bool(c->object, "join", &q->reply.join, e) < 0 ||
	    take_bool(c->object, "stream", &q->reply.stream, e) < 0)
		return -1;
	return 0;
}

static int
read_digest(struct command *c, struct err *e)
{
	const json_t *style = json_object_get(c->object, "style");
	struct digest_options *d = &c->request->digest;
	int64_t lines = 0;
	double since = 0;
	int i = 0;

	if (style != NULL) {
		while (digest_style_names[i] != NULL &&
		    (!json_is_string(style) || strcmp(digest_style_names[i], json_string_value(style)) != 0))
			i++;
		if (digest_style_names[i] == NULL)
			return err_set(e, EX_DATAERR, "style must be auto, extract or write");
		d->style = (enum digest_style)i;
	}
	if (take_reply(c->object, &d->reply, e) < 0 ||
	    take_int(c->object, "lines", 1, EXTRACT_LINES, &lines, e) < 0 ||
	    take_int(c->object, "since_seq", 1, INT64_MAX, &d->since_seq, e) < 0 ||
	    command_take_number(c->object, "since_time", 0, 1e11, &since, e) < 0)
		return -1;
	if (d->style == DIGEST_EXTRACT && d->reply.schema != NULL)
		return err_set(e, EX_DATAERR, "a digest of the style extract quotes, and has no schema");
	d->lines = (int32_t)lines;
	d->since_time = (int64_t)(since * 1e6);
	return 0;
}

static int
read_status(struct command *c, struct err *e)
{
	bool hash = false;

	if (take_bool(c->object, "hash", &hash, e) < 0)
		return -1;
	if (!hash) {
		request_free(c->request);
		c->request = NULL;
	}
	return 0;
}

static int
take_id(struct command *c, struct err *e)
{
	const json_t *id = json_object_get(c->object, "id");
	struct buf b = {0};

	if (id == NULL)
		return 0;
	if (json_is_integer(id))
		buf_printf(&b, "%lld", (long long)json_integer_value(id));
	else if (json_is_string(id) && json_string_length(id) <= ID_MAX)
		text_add_json(&b, json_string_value(id), json_string_length(id));
	else
		return err_set(e, EX_DATAERR, "id must be a whole number, or a string of at most %d bytes", ID_MAX);
	buf_add(&b, "", 1);
	c->id = b.data;
	return b.failed ? err_set(e, EX_OSERR, "out of memory for a request") : 0;
}

static int
take_op(struct command *c, struct err *e)
{
	const json_t *op = json_object_get(c->object, "op");
	int i = 0;

	if (!json_is_string(op))
		return err_set(e, EX_DATAERR, "a request needs a member op, which is a string");
	while (op_names[i] != NULL && strcmp(op_names[i], json_string_value(op)) != 0)
		i++;
	if (op_names[i] == NULL)
		return err_set(e, EX_DATAERR, "unknown op '%.64s'", json_string_value(op));
	c->op = (enum command_op)i;
	return 0;
}

/* The request for the engine thread, where the operation takes one. */
static int
command_make_request(struct command *c, struct err *e)
{
	static const int ops[] = {
		[COMMAND_ASK] = REQUEST_ASK,
		[COMMAND_DIGEST] = REQUEST_DIGEST,
		[COMMAND_STATUS] = REQUEST_HASH,
	};

	if (c->op != COMMAND_ASK && c->op != COMMAND_DIGEST && c->op != COMMAND_STATUS)
		return 0;
	if ((c->request = request_new((enum request_op)ops[c->op])) == NULL ||
	    (c->id != NULL && (c->request->id = strdup(c->id)) == NULL))
		return err_set(e, EX_OSERR, "out of memory for a request");
	return 0;
}

int
command_read(struct command *c, const struct line *line, struct err *e)
{
	char reason[256];

	*c = (struct command){.min_surprise = -1};
	if (line->cut)
		return err_set(e, EX_DATAERR, "the request is longer than %zu bytes", line->len);
	/* Without repairs: a number beyond any type would come back as another one. */
	c->object = json_line_read(line->data, line->len, NULL, reason, sizeof reason);
	if (c->object == NULL)
		return err_set(e, EX_DATAERR, "%s", reason);
	if (take_id(c, e) < 0 || take_op(c, e) < 0 || command_make_request(c, e) < 0)
		return -1;
	if (c->op == COMMAND_ASK)
		return read_ask(c, e);
	if (c->op == COMMAND_DIGEST)
		return read_digest(c, e);
	if (c->op == COMMAND_STATUS)
		return read_status(c, e);
	if (c->op == COMMAND_SUBSCRIBE)
		return command_take_number(c->object, "min_surprise", 0, 1e6, &c->min_surprise, e) < 0 ? -1 : 0;
	return 0;
}

void
command_fini(struct command *c)
{
	json_decref(c->object);
	free(c->id);
	request_free(c->request);
	*c = (struct command){0};
}
