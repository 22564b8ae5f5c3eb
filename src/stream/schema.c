/* JSON by schema: the automaton; see schema.h. The parser of schemas is schema_parse.c. */
#include "stream/schema.h"

#include <assert.h>
#include <string.h>

#include "stream/schema_node.h"

/*
 * What `at` means in a frame:
 *	object  bytes of "{" or ",", the key and ":" that came already
 *	array   0: nothing came, 1: an item or the end is next, 2: behind an item
 *	string  0: nothing came, 1: between characters, 2: behind a backslash,
 *	        3..: within a character of UTF-8, see below
 *	number  see enum number_at
 *	enum    bytes that came; count is a literal that begins with them
 */
enum { STRING_START, STRING_BODY, STRING_ESCAPE, STRING_UTF8 };

/* Within a character: how many bytes are missing, and the range of the next one. */
enum utf8_at { UTF8_1, UTF8_2, UTF8_3, UTF8_E0, UTF8_ED, UTF8_F0, UTF8_F4, UTF8_C2 };
static const struct {
	unsigned char low, high;
	int next; /* what follows, or -1 */
} utf8_table[] = {
	[UTF8_1] = {0x80, 0xbf, -1},
	[UTF8_2] = {0x80, 0xbf, UTF8_1},
	[UTF8_3] = {0x80, 0xbf, UTF8_2},
	[UTF8_E0] = {0xa0, 0xbf, UTF8_1},
	[UTF8_ED] = {0x80, 0x9f, UTF8_1},
	[UTF8_F0] = {0x90, 0xbf, UTF8_2},
	[UTF8_F4] = {0x80, 0x8f, UTF8_2},
	[UTF8_C2] = {0xa0, 0xbf, -1}, /* no C1 control characters */
};

enum number_at { NUMBER_START, NUMBER_MINUS, NUMBER_ZERO, NUMBER_INTEGER, NUMBER_POINT, NUMBER_FRACTION };
enum { NUMBER_DIGITS = 15 }; /* before the point, and behind it: no more than a double carries */

void
schema_begin(struct schema_state *s, const struct schema *schema)
{
	memset(s, 0, sizeof *s);
	s->schema = schema;
	s->depth = 1;
}

static struct schema_frame *
top(struct schema_state *s)
{
	return &s->frames[s->depth - 1];
}

static const struct schema_node *
node_of(const struct schema_state *s, const struct schema_frame *f)
{
	return &s->schema->nodes[f->node];
}

static void
push_frame(struct schema_state *s, int node)
{
	s->frames[s->depth++] = (struct schema_frame){.node = node};
}

/* The value of the top frame is whole. */
static void
pop_frame(struct schema_state *s)
{
	s->depth--;
	if (s->depth > 0 && node_of(s, top(s))->kind == SCHEMA_OBJECT) {
		top(s)->count++;
		top(s)->at = 0;
		top(s)->space = false;
	} else if (s->depth > 0) {
		top(s)->count++;
		top(s)->at = 2;
	}
}

/* A space may stand once behind "," and ":". */
static bool
take_space(struct schema_frame *f, unsigned char c)
{
	if (c != ' ' || f->space)
		return false;
	f->space = true;
	return true;
}

/* ---- objects -------------------------------------------------------- */

/* The byte of an object's own that is next; -1: its value begins. */
static int
next_of_object(const struct schema_node *n, const struct schema_frame *f)
{
	const struct schema_property *p;

	if (f->at == 0)
		return f->count == 0 ? '{' : f->count < n->n ? ',' : '}';
	if (f->count == n->n)
		return '}';
	p = &n->properties[f->count];
	return f->at <= (int)p->key_len ? (unsigned char)p->key[f->at - 1] : f->at == (int)p->key_len + 1 ? ':' : -1;
}

static bool
feed_object(struct schema_state *s, unsigned char c)
{
	struct schema_frame *f = top(s);
	const struct schema_node *n = node_of(s, f);
	int next = next_of_object(n, f);

	if (next < 0) {
		if (take_space(f, c))
			return true;
		push_frame(s, n->properties[f->count].node);
		return schema_feed(s, c);
	}
	if (f->at == 1 && f->count > 0 && take_space(f, c))
		return true;
	if (next != c)
		return false;
	f->at++;
	if (f->at > 1)
		f->space = false;
	if (c == '}' && f->count == n->n && (n->n > 0 || f->at == 2))
		pop_frame(s);
	return true;
}

/* ---- arrays --------------------------------------------------------- */

static bool
feed_array(struct schema_state *s, unsigned char c)
{
	struct schema_frame *f = top(s);
	const struct schema_node *n = node_of(s, f);

	if (f->at == 0) {
		f->at = 1;
		f->space = true; /* none behind the bracket */
		return c == '[';
	}
	if (c == ']' && f->count >= n->min && (f->at == 2 || f->count == 0)) {
		pop_frame(s);
		return true;
	}
	if (f->count >= n->max)
		return false;
	if (f->at == 2) {
		f->at = 1;
		f->space = false;
		return c == ',';
	}
	if (take_space(f, c))
		return true;
	push_frame(s, n->item);
	return schema_feed(s, c);
}

/* ---- strings -------------------------------------------------------- */

/* What follows the first byte of a character of several, or -1. */
static int
begin_utf8(unsigned char c)
{
	if (c == 0xc2)
		return UTF8_C2;
	if (c >= 0xc3 && c <= 0xdf)
		return UTF8_1;
	if (c == 0xe0)
		return UTF8_E0;
	if (c == 0xed)
		return UTF8_ED;
	if (c >= 0xe1 && c <= 0xef)
		return UTF8_2;
	if (c == 0xf0)
		return UTF8_F0;
	if (c >= 0xf1 && c <= 0xf3)
		return UTF8_3;
	return c == 0xf4 ? UTF8_F4 : -1;
}

static bool
feed_utf8(struct schema_frame *f, unsigned char c)
{
	int at = f->at - STRING_UTF8;

	if (c < utf8_table[at].low || c > utf8_table[at].high)
		return false;
	f->at = STRING_BODY;
	if (utf8_table[at].next >= 0)
		f->at = STRING_UTF8 + utf8_table[at].next;
	else
		f->count++;
	return true;
}

static bool
feed_string(struct schema_state *s, unsigned char c)
{
	struct schema_frame *f = top(s);
	const struct schema_node *n = node_of(s, f);
	int utf8;

	if (f->at >= STRING_UTF8)
		return feed_utf8(f, c);
	if (f->at == STRING_START) {
		f->at = STRING_BODY;
		return c == '"';
	}
	if (f->at == STRING_ESCAPE) {
		f->at = STRING_BODY;
		f->count++;
		return c != '\0' && strchr("\"\\/bfnrt", c) != NULL;
	}
	if (c == '"' && f->count >= n->min) {
		pop_frame(s);
		return true;
	}
	if (f->count >= n->max || c == '"' || c < 0x20 || c == 0x7f)
		return false;
	if (c == '\\')
		f->at = STRING_ESCAPE;
	else if (c < 0x80)
		f->count++;
	else if ((utf8 = begin_utf8(c)) >= 0)
		f->at = STRING_UTF8 + utf8;
	else
		return false;
	return true;
}

/* ---- numbers -------------------------------------------------------- */

/* Where a digit, a point or a minus leads; -1: nowhere. */
static int
step_number(const struct schema_node *n, const struct schema_frame *f, unsigned char c)
{
	bool digit = c >= '0' && c <= '9';

	switch ((enum number_at)f->at) {
	case NUMBER_START:
		if (c == '-')
			return NUMBER_MINUS;
		/* FALLTHROUGH */
	case NUMBER_MINUS:
		return c == '0' ? NUMBER_ZERO : digit ? NUMBER_INTEGER : -1;
	case NUMBER_ZERO:
	case NUMBER_INTEGER:
		if (c == '.' && n->kind == SCHEMA_NUMBER)
			return NUMBER_POINT;
		return digit && f->at == NUMBER_INTEGER && f->count < NUMBER_DIGITS ? NUMBER_INTEGER : -1;
	case NUMBER_POINT:
	case NUMBER_FRACTION:
		return digit && f->count < NUMBER_DIGITS ? NUMBER_FRACTION : -1;
	}
	return -1;
}

static bool
is_whole_number(const struct schema_frame *f)
{
	return f->at == NUMBER_ZERO || f->at == NUMBER_INTEGER || f->at == NUMBER_FRACTION;
}

static bool
feed_number(struct schema_state *s, unsigned char c)
{
	struct schema_frame *f = top(s);
	int next = step_number(node_of(s, f), f, c);

	if (next >= 0) {
		f->count = next == NUMBER_POINT ? 0 : f->count + 1;
		f->at = next;
		return true;
	}
	if (!is_whole_number(f))
		return false;
	pop_frame(s);
	return s->depth > 0 && schema_feed(s, c);
}

/* ---- enums ---------------------------------------------------------- */

/* Does literal i begin with what came? */
static bool
is_possible_literal(const struct schema_node *n, const struct schema_frame *f, int i)
{
	return (int)n->literals[i].len >= f->at &&
	    memcmp(n->literals[i].text, n->literals[f->count].text, (size_t)f->at) == 0;
}

/* The shortest literal that begins with what came. */
static const struct schema_literal *
find_shortest(const struct schema_node *n, const struct schema_frame *f)
{
	const struct schema_literal *best = NULL;

	for (int i = 0; i < n->n; i++)
		if (is_possible_literal(n, f, i) && (best == NULL || n->literals[i].len < best->len))
			best = &n->literals[i];
	assert(best != NULL); /* what was taken so far leads to one */
	return best;
}

static bool
feed_enum(struct schema_state *s, unsigned char c)
{
	struct schema_frame *f = top(s);
	const struct schema_node *n = node_of(s, f);
	bool whole = (int)find_shortest(n, f)->len == f->at;

	for (int i = 0; i < n->n; i++)
		if (is_possible_literal(n, f, i) && (int)n->literals[i].len > f->at &&
		    (unsigned char)n->literals[i].text[f->at] == c) {
			f->count = i;
			f->at++;
			/* A string ends with its quote; only numbers may go on behind a whole literal. */
			if ((int)n->literals[i].len == f->at && c == '"')
				pop_frame(s);
			return true;
		}
	if (!whole)
		return false;
	pop_frame(s);
	return s->depth > 0 && schema_feed(s, c);
}

/* ---- all of it ------------------------------------------------------ */

bool
schema_feed(struct schema_state *s, unsigned char byte)
{
	if (s->depth == 0)
		return false;
	switch (node_of(s, top(s))->kind) {
	case SCHEMA_OBJECT:
		return feed_object(s, byte);
	case SCHEMA_ARRAY:
		return feed_array(s, byte);
	case SCHEMA_STRING:
		return feed_string(s, byte);
	case SCHEMA_INTEGER:
	case SCHEMA_NUMBER:
		return feed_number(s, byte);
	case SCHEMA_ENUM:
		return feed_enum(s, byte);
	}
	return false;
}

bool
schema_is_free(const struct schema_state *s)
{
	const struct schema_frame *f = &s->frames[s->depth > 0 ? s->depth - 1 : 0];
	enum schema_kind kind = s->schema->nodes[f->node].kind;

	return s->depth > 0 && ((kind == SCHEMA_STRING && f->at != STRING_START) || kind == SCHEMA_INTEGER ||
	    kind == SCHEMA_NUMBER);
}

bool
schema_is_whole(const struct schema_state *s)
{
	return schema_get_shortest(s) < 0;
}

static int
get_shortest_of_string(const struct schema_node *n, const struct schema_frame *f)
{
	if (f->at >= STRING_UTF8)
		return utf8_table[f->at - STRING_UTF8].low;
	if (f->at == STRING_ESCAPE)
		return 'n';
	return f->at == STRING_START || f->count >= n->min ? '"' : '.';
}

/* The next byte of a value of node n that has come as far as f; -1: it may be whole. */
static int
get_shortest_of(const struct schema *s, const struct schema_node *n, const struct schema_frame *f)
{
	const struct schema_frame begin = {0};
	const struct schema_literal *l;
	int next;

	switch (n->kind) {
	case SCHEMA_OBJECT:
		next = next_of_object(n, f);
		return next >= 0 ? next : get_shortest_of(s, &s->nodes[n->properties[f->count].node], &begin);
	case SCHEMA_ARRAY:
		if (f->at == 0)
			return '[';
		if (f->count >= n->min && (f->at == 2 || f->count == 0))
			return ']';
		return f->at == 2 ? ',' : get_shortest_of(s, &s->nodes[n->item], &begin);
	case SCHEMA_STRING:
		return get_shortest_of_string(n, f);
	case SCHEMA_INTEGER:
	case SCHEMA_NUMBER:
		return is_whole_number(f) ? -1 : '0';
	case SCHEMA_ENUM:
		l = find_shortest(n, f);
		return (int)l->len > f->at ? (unsigned char)l->text[f->at] : -1;
	}
	return -1;
}

int
schema_get_shortest(const struct schema_state *s)
{
	struct schema_state copy;
	int next = -1;

	if (s->depth == 0)
		return -1;
	/* A number is whole where something else follows: then that is what is next. */
	for (copy = *s; copy.depth > 0 && next < 0; pop_frame(&copy))
		next = get_shortest_of(s->schema, node_of(&copy, top(&copy)), top(&copy));
	return next;
}
