/*
 * Fuzz target: bytes as a GGUF file. What opens is read through every
 * accessor, and where it holds a tokenizer, the end of the file is encoded and
 * decoded as a text.
 */
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"
#include "engine/tokenizer.h"

enum { MAX_TEXT = 512 };

static const char *const keys[] = {
	"general.alignment", "general.architecture", "llama.block_count", "llama.rope.freq_base",
	    "tokenizer.ggml.model",
	"tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores",
	"tokenizer.ggml.merges", "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.unknown_token_id",
};

/* Keeps the reads, which ASan watches, from being optimised away. */
static volatile unsigned sum;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_all(const void *data, size_t size)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < size; i++)
		sum += p[i];
}

static void
touch_key(const struct gguf *g, const char *key)
{
	enum gguf_value_type type;
	struct gguf_string s;
	int64_t i, n = gguf_get_array(g, key, &type);
	double f;
	bool yes;

	sum += gguf_has_key(g, key);
	sum += gguf_get_int(g, key, &i);
	sum += gguf_get_float(g, key, &f);
	sum += gguf_get_bool(g, key, &yes);
	if (gguf_get_string(g, key, &s))
		read_all(s.data, s.len);
	for (int64_t k = -1; k <= n; k++) {
		sum += gguf_get_array_int(g, key, k, &i);
		sum += gguf_get_array_float(g, key, k, &f);
		if (gguf_get_array_string(g, key, k, &s))
			read_all(s.data, s.len);
	}
}

static void
touch_tensors(const struct gguf *g)
{
	for (size_t i = 0; i < gguf_count_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_get_tensor(g, i);

		assert(gguf_find_tensor(g, t->name) == t);
		read_all(t->data, t->size);
	}
}

static void
encode(struct tokenizer *t, const char *text, size_t len, unsigned flags)
{
	const int32_t *ids;
	size_t got;
	int64_t n = tokenizer_encode(t, text, len, flags, &ids, NULL);

	assert(n >= 0 && (uint64_t)n <= 2 * len + 1);
	for (int64_t i = 0; i < n; i++) {
		const char *bytes = tokenizer_decode(t, ids[i], (i & 1) != 0, i == 0, &got);

		read_all(bytes, got);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tokenizer *t;
	struct gguf *g;
	void *copy;

	if (posix_memalign(&copy, 32, size > 0 ? size : 1) != 0)
		return 0;
	memcpy(copy, data, size);
	g = gguf_open_memory(copy, size, "fuzz", NULL);
	if (g != NULL) {
		for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
			touch_key(g, keys[i]);
		touch_tensors(g);
		t = tokenizer_new_gguf(g, NULL);
		if (t != NULL) {
			size_t len = size < MAX_TEXT ? size : MAX_TEXT;

			encode(t, (const char *)copy + size - len, len, 0);
			encode(t, (const char *)copy + size - len, len, TOKENIZER_PARSE_SPECIAL);
			tokenizer_free(t);
		}
		gguf_close(g);
	}
	free(copy);
	return 0;
}
