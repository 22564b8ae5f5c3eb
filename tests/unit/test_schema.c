/*
 * Schemas: what the automaton takes and refuses, that every way through it is
 * JSON that a parser reads, and that answers of a model never are anything else.
 */
#include "worker_rig.h"

#include "base/random.h"

static struct schema *
parse_schema(const char *text, struct err *e)
{
	json_t *j = json_loads(text, 0, NULL);
	struct schema *s;

	assert_non_null(j);
	s = schema_new(j, e);
	json_decref(j);
	return s;
}

static struct schema *
make_schema(const char *text)
{
	struct err e = {0};
	struct schema *s = parse_schema(text, &e);

	if (s == NULL)
		fail_msg("%s: %s", text, e.text);
	return s;
}

/* Is the text, whole, a value of the schema? */
static bool
accepts(const char *schema, const char *text)
{
	struct schema *s = make_schema(schema);
	struct schema_state state;
	bool ok = true;

	schema_begin(&state, s);
	for (const char *p = text; *p != '\0' && ok; p++)
		ok = schema_feed(&state, (unsigned char)*p);
	ok = ok && schema_is_whole(&state);
	schema_free(s);
	return ok;
}

static const char person[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":5},"
    "\"age\":{\"type\":\"integer\"},\"tags\":{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"ab\",1,12,null]},"
    "\"minItems\":1,\"maxItems\":3}},\"required\":[\"age\"]}";

static void
test_takes_what_fits(void **state)
{
	(void)state;
	assert_true(accepts(person, "{\"name\":\"Zo\xc3\xab\",\"age\":7,\"tags\":[\"ab\",12]}"));
	assert_true(accepts(person, "{\"name\": \"\", \"age\": -0, \"tags\": [null, 1, \"a\"]}"));
	assert_true(accepts(person, "{\"name\":\"\\\"\\\\\\n\\t/\",\"age\":123456789012345,\"tags\":[1]}"));
	assert_true(accepts("{\"type\":\"number\"}", "-12.5"));
	assert_true(accepts("{\"type\":\"number\"}", "0.25"));
	assert_true(accepts("{\"type\":\"boolean\"}", "false"));
	assert_true(accepts("{\"type\":\"null\"}", "null"));
	assert_true(accepts("{\"const\":\"\\u0007\"}", "\"\\u0007\""));
	assert_true(accepts("{\"type\":\"object\"}", "{}"));
	assert_true(accepts("{\"type\":\"array\",\"items\":{\"type\":\"number\"}}", "[]"));
	assert_true(accepts("{\"type\":\"array\",\"items\":{\"type\":\"number\"}}", "[1.5,2, 3]"));
	assert_true(accepts("{\"type\":\"string\"}", "\"\xf0\x9f\x98\x80\""));
}

static void
test_refuses_what_does_not(void **state)
{
	static const char *const wrong[] = {
		"", "{", "{}", "[]", "{\"age\":7}", "{\"name\":\"abcdef\",\"age\":1,\"tags\":[1]}",
		"{\"name\":\"a\",\"age\":1.5,\"tags\":[1]}", "{\"name\":\"a\",\"age\":01,\"tags\":[1]}",
		"{\"name\":\"a\",\"age\":1,\"tags\":[]}", "{\"name\":\"a\",\"age\":1,\"tags\":[1,1,1,1]}",
		"{\"name\":\"a\",\"age\":1,\"tags\":[2]}", "{\"name\":\"a\",\"age\":1,\"tags\":[\"b\"]}",
		"{\"name\":\"a\",\"age\":,\"tags\":[1]}", "{\"name\":\"a\",\"age\":1,\"tags\":[1]} ",
		"{\"name\":  \"a\",\"age\":1,\"tags\":[1]}", "{\"name\":\"a\\u0041\",\"age\":1,\"tags\":[1]}",
		"{\"name\":\"a\x01\",\"age\":1,\"tags\":[1]}", "{\"name\":\"a\x7f\",\"age\":1,\"tags\":[1]}",
		"{\"name\":\"\xc2\x9b\",\"age\":1,\"tags\":[1]}", "{\"name\":\"\xc0\x80\",\"age\":1,\"tags\":[1]}",
		"{\"name\":\"\xed\xa0\x80\",\"age\":1,\"tags\":[1]}", "{\"name\":\"\xff\",\"age\":1,\"tags\":[1]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		if (accepts(person, wrong[i]))
			fail_msg("accepted: %s", wrong[i]);
	assert_false(accepts("{\"type\":\"number\"}", "1."));
	assert_false(accepts("{\"type\":\"integer\"}", "-"));
	assert_false(accepts("{\"type\":\"string\",\"minLength\":2}", "\"a\""));
}

static void
test_bad_schemas_are_refused(void **state)
{
	static const char *const bad[] = {
		"{\"type\":\"thing\"}", "{}", "{\"type\":[\"string\",\"null\"]}",
		    "{\"type\":\"string\",\"pattern\":\"a*\"}",
		"{\"type\":\"array\"}", "{\"type\":\"array\",\"items\":[]}", "{\"enum\":[]}", "{\"enum\":[{}]}",
		"{\"type\":\"object\",\"properties\":{\"a\":1}}", "{\"type\":\"object\",\"properties\":[]}",
		"{\"type\":\"object\",\"required\":[\"a\"]}", "{\"type\":\"string\",\"maxLength\":-1}",
		"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "{\"type\":\"string\",\"minLength\":60000}",
		"{\"$ref\":\"#\"}", "{\"anyOf\":[]}", "[]",
	};
	char deep[2048] = "";
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct schema *s = parse_schema(bad[i], &e);

		if (s != NULL)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(e.code, EX_DATAERR);
	}
	for (int i = 0; i < SCHEMA_DEPTH; i++)
		strcat(deep, "{\"type\":\"array\",\"items\":");
	strcat(deep, "{\"type\":\"null\"}");
	for (int i = 0; i < SCHEMA_DEPTH; i++)
		strcat(deep, "}");
	assert_null(parse_schema(deep, &e));
}

/* However bytes are chosen, and wherever it is cut off, what comes out can be read. */
static void
test_every_way_is_json(void **state)
{
	static const char nested[] =
	    "{\"type\":\"array\",\"maxItems\":4,\"items\":{\"type\":\"object\",\"properties\":{"
	    "\"s\":{\"type\":\"string\",\"minLength\":2,\"maxLength\":6},\"n\":{\"type\":\"number\"},"
	    "\"b\":{\"type\":\"boolean\"},\"e\":{\"enum\":[\"x\\\"y\",1,12,-3.5,\"x\"]},"
	    "\"o\":{\"type\":\"object\"},\"a\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1}}}}";
	const char *const schemas[] = {person, nested};
	uint64_t random = 1;

	(void)state;
	for (int round = 0; round < 4000; round++) {
		struct schema *s = make_schema(schemas[round % 2]);
		struct schema_state st;
		size_t steps = random_next(&random) % 120;
		struct buf b = {0};
		json_t *j;
		int next;

		schema_begin(&st, s);
		for (size_t i = 0; i < steps && st.depth > 0; i++) {
			struct schema_state copy;
			unsigned char c;

			do {
				c = (unsigned char)(random_next(&random) % 256);
				copy = st;
			} while (!schema_feed(&copy, c));
			st = copy;
			buf_add(&b, &c, 1);
		}
		while ((next = schema_get_shortest(&st)) >= 0) {
			unsigned char c = (unsigned char)next;

			assert_true(schema_feed(&st, c));
			buf_add(&b, &c, 1);
		}
		j = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
		if (j == NULL)
			fail_msg("%.*s", (int)b.len, b.data);
		for (size_t i = 0; i < b.len; i++)
			assert_true((unsigned char)b.data[i] >= 0x20 && b.data[i] != 0x7f);
		json_decref(j);
		buf_fini(&b);
		schema_free(s);
	}
}

static void
test_answers_fit(void **state)
{
	(void)state;
	read_something();
	for (int i = 0; i < 40; i++) {
		struct request *q = make_question("who?", i * 4);
		json_t *line, *j;
		struct schema *again = make_schema(person);
		struct schema_state st;
		const char *text;

		q->reply.max_tokens = 1 + 4 * i;
		q->reply.schema = make_schema(person);
		q->reply.sample = (struct sample_options){.temperature = i % 4, .top_p = 0.95, .seed = (uint64_t)i};
		assert_true(worker_request(worker, q));
		line = collect_line(q, true);
		text = get_text(line, "text");
		schema_begin(&st, again);
		for (const char *p = text; *p != '\0'; p++)
			assert_true(schema_feed(&st, (unsigned char)*p));
		assert_true(schema_is_whole(&st));
		j = json_object_get(line, "json");
		assert_true(json_is_object(j));
		assert_int_equal(json_object_size(j), 3);
		json_decref(line);
		collect_done(q, true);
		schema_free(again);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_takes_what_fits),
		cmocka_unit_test(test_refuses_what_does_not),
		cmocka_unit_test(test_bad_schemas_are_refused),
		cmocka_unit_test(test_every_way_is_json),
		cmocka_unit_test_setup_teardown(test_answers_fit, start, stop),
	};

	return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
