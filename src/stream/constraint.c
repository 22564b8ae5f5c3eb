/* Schema and faithfulness together; see constraint.h. */
#include "stream/constraint.h"

void
constraint_begin(const struct constraint *c, struct constraint_state *s)
{
	if (c->schema != NULL)
		schema_begin(&s->json, c->schema);
	faithful_begin(&s->words);
}

static bool
feed_byte(const struct constraint *c, struct constraint_state *s, char byte)
{
	bool free = c->schema == NULL || schema_is_free(&s->json);

	if (c->schema != NULL && !schema_feed(&s->json, (unsigned char)byte))
		return false;
	/* What the schema prescribes is between words. */
	return c->faithful == NULL || faithful_feed(c->faithful, &s->words, free ? byte : '\n');
}

bool
constraint_feed(const struct constraint *c, struct constraint_state *s, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!feed_byte(c, s, bytes[i]))
			return false;
	return true;
}

bool
constraint_may_go_on(const struct constraint *c, const struct constraint_state *s)
{
	return c->faithful == NULL || faithful_may_go_on(c->faithful, &s->words);
}

bool
constraint_may_cut(const struct constraint *c, const struct constraint_state *s)
{
	return c->faithful == NULL || faithful_may_end(c->faithful, &s->words);
}

bool
constraint_may_end(const struct constraint *c, const struct constraint_state *s)
{
	return constraint_may_cut(c, s) && (c->schema == NULL || schema_is_whole(&s->json));
}

bool
constraint_must_end(const struct constraint *c, const struct constraint_state *s)
{
	return c->schema != NULL && s->json.depth == 0;
}

int
constraint_get_shortest(const struct constraint *c, const struct constraint_state *s)
{
	return c->schema != NULL ? schema_get_shortest(&s->json) : -1;
}
