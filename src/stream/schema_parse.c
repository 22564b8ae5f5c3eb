/* Reading a JSON Schema into nodes; see schema.h. Foreign input: everything has a limit. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "stream/schema.h"
#include "stream/schema_node.h"
#include "stream/text.h"

enum {
	NODES_MAX = 1024,
	LITERALS_MAX = 1024,      /* of one enum */
	LENGTH_DEFAULT = 1024,    /* characters of a string without maxLength */
	ITEMS_DEFAULT = 64,       /* items of an array without maxItems */
	LIMIT_MAX = 1 << 16,
	SHORTEST_MAX = 1 << 14,   /* bytes of the shortest value: it must be possible to end */
};

static const char *const types[] = {"object", "array", "string", "integer", "number", "boolean", "null"};
enum type { T_OBJECT, T_ARRAY, T_STRING, T_INTEGER, T_NUMBER, T_BOOLEAN, T_NULL, TYPES };

/* Keywords that ask for nothing here. Others that are not read are refused. */
static const char *const descriptions[] = {
	"$comment", "$id", "$schema", "additionalProperties", "default", "description", "examples", "title",
};

static const char *const keywords[] = {
	"const", "enum", "items", "maxItems", "maxLength", "minItems", "minLength", "properties", "required", "type",
};

static bool
is_listed(const char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

static int
refuse_memory(struct err *e)
{
	return err_set(e, EX_OSERR, "out of memory for a schema");
}

/* A new node, all zero, or -1. Pointers to nodes do not survive it. */
static int
add_schema_node(struct schema *s, struct err *e)
{
	if (s->n == NODES_MAX)
		return err_set(e, EX_DATAERR, "the schema has more than %d parts", NODES_MAX);
	if (s->n == s->cap) {
		int cap = s->cap == 0 ? 16 : 2 * s->cap;
		struct schema_node *more = realloc(s->nodes, (size_t)cap * sizeof *more);

		if (more == NULL)
			return refuse_memory(e);
		s->nodes = more;
		s->cap = cap;
	}
	memset(&s->nodes[s->n], 0, sizeof *s->nodes);
	return s->n++;
}

/* ---- literals ------------------------------------------------------- */

static int
add_literal(struct schema_node *n, const char *text, size_t len, struct err *e)
{
	struct schema_literal *more;
	char *copy = malloc(len + 1);

	if (copy == NULL)
		return refuse_memory(e);
	if ((more = realloc(n->literals, ((size_t)n->n + 1) * sizeof *more)) == NULL) {
		free(copy);
		return refuse_memory(e);
	}
	memcpy(copy, text, len);
	more[n->n++] = (struct schema_literal){copy, len};
	n->literals = more;
	return 0;
}

static int
add_value_literal(struct schema_node *n, const json_t *v, struct err *e)
{
	struct buf b = {0};
	char *text;
	int rc;

	if (n->n == LITERALS_MAX)
		return err_set(e, EX_DATAERR, "an enum of the schema has more than %d values", LITERALS_MAX);
	if (json_is_string(v))
		text_add_json(&b, json_string_value(v), json_string_length(v));
	else if (json_is_object(v) || json_is_array(v))
		return err_set(e, EX_DATAERR,
		    "a value of an enum of the schema is neither string, number, boolean nor null");
	else if ((text = json_dumps(v, JSON_ENCODE_ANY)) == NULL)
		return refuse_memory(e);
	else {
		buf_add_text(&b, text);
		free(text);
	}
	rc = b.failed ? refuse_memory(e) : add_literal(n, b.data, b.len, e);
	buf_fini(&b);
	return rc;
}

static int
parse_enum(struct schema *s, int node, const json_t *values, struct err *e)
{
	struct schema_node *n = &s->nodes[node];

	n->kind = SCHEMA_ENUM;
	if (!json_is_array(values) || json_array_size(values) == 0)
		return err_set(e, EX_DATAERR, "an enum of the schema is not an array of values");
	for (size_t i = 0; i < json_array_size(values); i++)
		if (add_value_literal(n, json_array_get(values, i), e) < 0)
			return -1;
	return 0;
}

/* ---- limits --------------------------------------------------------- */

static int
get_limit(const json_t *j, const char *name, int fallback, int *limit, struct err *e)
{
	const json_t *v = json_object_get(j, name);

	*limit = fallback;
	if (v == NULL)
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > LIMIT_MAX)
		return err_set(e, EX_DATAERR, "%s in the schema is not a number from 0 to %d", name, LIMIT_MAX);
	*limit = (int)json_integer_value(v);
	return 0;
}

static int
get_limits(const json_t *j, const char *min, const char *max, int fallback, struct schema_node *n, struct err *e)
{
	if (get_limit(j, min, 0, &n->min, e) < 0 ||
	    get_limit(j, max, fallback > n->min ? fallback : n->min, &n->max, e) < 0)
		return -1;
	if (n->min > n->max)
		return err_set(e, EX_DATAERR, "%s in the schema is larger than %s", min, max);
	return 0;
}

/* ---- parts ---------------------------------------------------------- */

static int parse_part(struct schema *s, const json_t *j, int depth, struct err *e);

static int
parse_property(struct schema *s, int node, int i, const char *name, const json_t *v, int depth, struct err *e)
{
	struct buf key = {0};
	int child;

	text_add_json(&key, name, strlen(name));
	if (key.failed) {
		buf_fini(&key);
		return refuse_memory(e);
	}
	s->nodes[node].properties[i].key = key.data;
	s->nodes[node].properties[i].key_len = key.len;
	s->nodes[node].n = i + 1;
	if ((child = parse_part(s, v, depth + 1, e)) < 0)
		return -1;
	s->nodes[node].properties[i].node = child;
	return 0;
}

static int
check_required(const json_t *required, const json_t *properties, struct err *e)
{
	for (size_t i = 0; i < json_array_size(required); i++) {
		const char *name = json_string_value(json_array_get(required, i));

		if (name == NULL || json_object_get(properties, name) == NULL)
			return err_set(e, EX_DATAERR, "the schema requires a property that it does not describe: %s",
			    name != NULL ? name : "not a string");
	}
	return 0;
}

static int
parse_object(struct schema *s, int node, const json_t *j, int depth, struct err *e)
{
	json_t *properties = json_object_get(j, "properties"), *v;
	const char *name;
	int i = 0;

	s->nodes[node].kind = SCHEMA_OBJECT;
	if (properties != NULL && !json_is_object(properties))
		return err_set(e, EX_DATAERR, "properties in the schema is not an object");
	if (check_required(json_object_get(j, "required"), properties, e) < 0)
		return -1;
	s->nodes[node].properties = calloc(json_object_size(properties) + 1, sizeof *s->nodes[node].properties);
	if (s->nodes[node].properties == NULL)
		return refuse_memory(e);
	json_object_foreach(properties, name, v) {
		if (parse_property(s, node, i++, name, v, depth, e) < 0)
			return -1;
	}
	return 0;
}

static int
parse_array(struct schema *s, int node, const json_t *j, int depth, struct err *e)
{
	const json_t *items = json_object_get(j, "items");
	int child;

	s->nodes[node].kind = SCHEMA_ARRAY;
	if (get_limits(j, "minItems", "maxItems", ITEMS_DEFAULT, &s->nodes[node], e) < 0)
		return -1;
	if (items == NULL)
		return err_set(e, EX_DATAERR, "an array of the schema lacks items");
	if ((child = parse_part(s, items, depth + 1, e)) < 0)
		return -1;
	s->nodes[node].item = child;
	return 0;
}

static int
parse_type(struct schema *s, int node, const json_t *j, int depth, struct err *e)
{
	const json_t *type = json_object_get(j, "type");
	const char *name = json_string_value(type);
	struct schema_node *n = &s->nodes[node];
	int t = 0;

	if (name == NULL)
		return err_set(e, EX_DATAERR,
		    "a part of the schema has neither an enum, nor a const, nor a type that is one name");
	while (t < TYPES && strcmp(types[t], name) != 0)
		t++;
	switch ((enum type)t) {
	case T_OBJECT:
		return parse_object(s, node, j, depth, e);
	case T_ARRAY:
		return parse_array(s, node, j, depth, e);
	case T_STRING:
		n->kind = SCHEMA_STRING;
		return get_limits(j, "minLength", "maxLength", LENGTH_DEFAULT, n, e);
	case T_INTEGER:
		n->kind = SCHEMA_INTEGER;
		return 0;
	case T_NUMBER:
		n->kind = SCHEMA_NUMBER;
		return 0;
	case T_BOOLEAN:
		n->kind = SCHEMA_ENUM;
		return add_literal(n, "true", 4, e) < 0 || add_literal(n, "false", 5, e) < 0 ? -1 : 0;
	case T_NULL:
		n->kind = SCHEMA_ENUM;
		return add_literal(n, "null", 4, e);
	case TYPES:
		break;
	}
	return err_set(e, EX_DATAERR, "the type '%s' in the schema is not known", name);
}

static int
check_keywords(const json_t *j, struct err *e)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)j, name, v) {
		if (!is_listed(keywords, sizeof keywords / sizeof keywords[0], name) &&
		    !is_listed(descriptions, sizeof descriptions / sizeof descriptions[0], name))
			return err_set(e, EX_DATAERR, "'%s' in the schema is not supported", name);
	}
	return 0;
}

/* Returns the part's node, or -1. */
static int
parse_part(struct schema *s, const json_t *j, int depth, struct err *e)
{
	const json_t *values = json_object_get(j, "enum"), *value = json_object_get(j, "const");
	int node, rc;

	if (!json_is_object(j))
		return err_set(e, EX_DATAERR, "a part of the schema is not an object");
	if (depth >= SCHEMA_DEPTH)
		return err_set(e, EX_DATAERR, "the schema is nested deeper than %d", SCHEMA_DEPTH);
	if (check_keywords(j, e) < 0 || (node = add_schema_node(s, e)) < 0)
		return -1;
	if (value != NULL) {
		s->nodes[node].kind = SCHEMA_ENUM;
		rc = add_value_literal(&s->nodes[node], value, e);
	} else if (values != NULL)
		rc = parse_enum(s, node, values, e);
	else
		rc = parse_type(s, node, j, depth, e);
	return rc < 0 ? -1 : node;
}

/* An answer that is cut off is ended on the shortest way: there must be one. */
static int
check_shortest(const struct schema *s, struct err *e)
{
	struct schema_state state;
	int next;

	schema_begin(&state, s);
	for (int n = 0; (next = schema_get_shortest(&state)) >= 0; n++) {
		if (n == SHORTEST_MAX)
			return err_set(e, EX_DATAERR, "the schema asks for more than %d bytes", SHORTEST_MAX);
		schema_feed(&state, (unsigned char)next);
	}
	return 0;
}

struct schema *
schema_new(const json_t *j, struct err *e)
{
	struct schema *s = calloc(1, sizeof *s);

	if (s == NULL) {
		refuse_memory(e);
		return NULL;
	}
	if (parse_part(s, j, 0, e) < 0 || check_shortest(s, e) < 0) {
		schema_free(s);
		return NULL;
	}
	return s;
}

void
schema_free(struct schema *s)
{
	if (s == NULL)
		return;
	for (int i = 0; i < s->n; i++) {
		struct schema_node *n = &s->nodes[i];

		for (int k = 0; n->properties != NULL && k < n->n; k++)
			free(n->properties[k].key);
		for (int k = 0; n->literals != NULL && k < n->n; k++)
			free(n->literals[k].text);
		free(n->properties);
		free(n->literals);
	}
	free(s->nodes);
	free(s);
}
