/*
 * Fuzz target: a JSON Schema, a NUL, and bytes that choose a way through it.
 * Whatever the schema takes, completed on the shortest way, must be JSON
 * without control characters.
 */
#include <assert.h>
#include <jansson.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "stream/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WAY_MAX = 4096 };

/* Bytes that do not fit are passed over. */
static void
walk(const struct schema *s, const uint8_t *way, size_t n)
{
	struct schema_state state, copy;
	struct buf out = {0};
	json_t *j;
	int next;

	schema_begin(&state, s);
	for (size_t i = 0; i < n && i < WAY_MAX; i++) {
		copy = state;
		if (!schema_feed(&copy, way[i]))
			continue;
		state = copy;
		buf_add(&out, &way[i], 1);
	}
	while ((next = schema_get_shortest(&state)) >= 0) {
		char c = (char)next;

		assert(schema_feed(&state, (unsigned char)next));
		buf_add(&out, &c, 1);
	}
	assert(schema_is_whole(&state));
	j = json_loadb(out.data, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	assert(j != NULL);
	for (size_t i = 0; i < out.len; i++)
		assert((unsigned char)out.data[i] >= 0x20 && out.data[i] != 0x7f);
	json_decref(j);
	buf_fini(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
	size_t len = nul != NULL ? (size_t)(nul - data) : size;
	json_t *j = json_loadb((const char *)data, len, 0, NULL);
	struct err e;
	struct schema *s = j != NULL ? schema_new(j, &e) : NULL;

	if (s != NULL && nul != NULL)
		walk(s, nul + 1, size - len - 1);
	schema_free(s);
	json_decref(j);
	return 0;
}
