/*
 * Writes a GGUF file of the llama architecture with random weights, of any
 * shape and type, for measurements: speed and memory do not depend on what a
 * model learned. The same arguments give the same file. Weights are random
 * numbers from a pool that is used again and again.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "engine/quant.h"
#include "random_data.h"

enum { ALIGNMENT = 32, POOL = 1 << 22, NAME_SIZE = 64, BYTE_TOKENS = 259 };

/* What the GGUF format calls its value types. */
enum { VALUE_U32 = 4, VALUE_I32 = 5, VALUE_F32 = 6, VALUE_STRING = 8, VALUE_ARRAY = 9 };

struct shape {
	const char *name;
	int layers, width, ff, heads, heads_kv, vocabulary, context;
	bool tied;
};

static const struct shape shapes[] = {
	{ "llama-2-7b", 32, 4096, 11008, 32, 32, 32000, 4096, false },
	{ "llama-3-8b", 32, 4096, 14336, 32, 8, 128256, 8192, false },
	{ "tinyllama-1.1b", 22, 2048, 5632, 32, 4, 32000, 2048, false },
	{ "smollm2-135m", 30, 576, 1536, 9, 3, 49152, 8192, true },
	{ "tiny", 2, 256, 512, 4, 2, 600, 512, false },
};

/* A mixture names the type of most matrices; a few take one with more bits. */
static const struct mixture {
	const char *name;
	uint32_t type, more;
} mixtures[] = {
	{ "F32", QUANT_F32, QUANT_F32 }, { "F16", QUANT_F16, QUANT_F16 }, { "BF16", QUANT_BF16, QUANT_BF16 },
	{ "Q4_0", QUANT_Q4_0, QUANT_Q4_0 }, { "Q4_1", QUANT_Q4_1, QUANT_Q4_1 }, { "Q5_0", QUANT_Q5_0, QUANT_Q5_0 },
	{ "Q5_1", QUANT_Q5_1, QUANT_Q5_1 }, { "Q8_0", QUANT_Q8_0, QUANT_Q8_0 }, { "Q2_K", QUANT_Q2_K, QUANT_Q2_K },
	{ "Q3_K", QUANT_Q3_K, QUANT_Q3_K }, { "Q4_K", QUANT_Q4_K, QUANT_Q4_K }, { "Q5_K", QUANT_Q5_K, QUANT_Q5_K },
	{ "Q6_K", QUANT_Q6_K, QUANT_Q6_K }, { "Q4_K_M", QUANT_Q4_K, QUANT_Q6_K }, { "Q5_K_M", QUANT_Q5_K, QUANT_Q6_K },
};

struct tensor {
	char name[NAME_SIZE];
	uint32_t type;
	int64_t rows, cols;    /* rows 0: a vector of ones */
};

struct writer {
	FILE *f;
	const char *path;
	const struct shape *s;
	const struct mixture *m;
	struct tensor *tensors;
	int n_tensors;
	uint64_t keys;
};

static void
fail(const struct writer *w)
{
	fprintf(stderr, "make_model: %s: %s\n", w->path, strerror(errno));
	exit(EX_IOERR);
}

static void
put(struct writer *w, const void *data, size_t size)
{
	if (fwrite(data, 1, size, w->f) != size)
		fail(w);
}

static void
put_u32(struct writer *w, uint32_t v)
{
	put(w, &v, sizeof v);
}

static void
put_u64(struct writer *w, uint64_t v)
{
	put(w, &v, sizeof v);
}

static void
put_string(struct writer *w, const char *s)
{
	put_u64(w, strlen(s));
	put(w, s, strlen(s));
}

static void
put_key(struct writer *w, const char *key, uint32_t type)
{
	put_string(w, key);
	put_u32(w, type);
	w->keys++;
}

static void
put_key_u32(struct writer *w, const char *key, uint32_t v)
{
	put_key(w, key, VALUE_U32);
	put_u32(w, v);
}

static void
put_key_string(struct writer *w, const char *key, const char *v)
{
	put_key(w, key, VALUE_STRING);
	put_string(w, v);
}

static void
put_array(struct writer *w, const char *key, uint32_t type)
{
	put_key(w, key, VALUE_ARRAY);
	put_u32(w, type);
	put_u64(w, (uint64_t)w->s->vocabulary);
}

/* A vocabulary that encodes any text, byte by byte, and has names for the rest. */
static void
put_vocabulary(struct writer *w)
{
	float score = 0;
	char token[NAME_SIZE];

	put_key_string(w, "tokenizer.ggml.model", "llama");
	put_array(w, "tokenizer.ggml.tokens", VALUE_STRING);
	for (int i = 0; i < w->s->vocabulary; i++) {
		if (i < 3)
			put_string(w, i == 0 ? "<unk>" : i == 1 ? "<s>" : "</s>");
		else {
			snprintf(token, sizeof token, i < BYTE_TOKENS ? "<0x%02X>" : "token%d", i < BYTE_TOKENS ? i - 3
			    : i);
			put_string(w, token);
		}
	}
	put_array(w, "tokenizer.ggml.scores", VALUE_F32);
	for (int i = 0; i < w->s->vocabulary; i++, score -= 1)
		put(w, &score, sizeof score);
	put_array(w, "tokenizer.ggml.token_type", VALUE_I32);
	for (int i = 0; i < w->s->vocabulary; i++) /* unknown, control, byte, normal */
		put_u32(w, i == 0 ? 2 : i < 3 ? 3 : i < BYTE_TOKENS ? 6 : 1);
	put_key_u32(w, "tokenizer.ggml.bos_token_id", 1);
	put_key_u32(w, "tokenizer.ggml.eos_token_id", 2);
}

static void
put_metadata(struct writer *w)
{
	const struct shape *s = w->s;
	float eps = 1e-5f;

	put_key_string(w, "general.architecture", "llama");
	put_key_string(w, "general.name", s->name);
	put_key_u32(w, "llama.block_count", (uint32_t)s->layers);
	put_key_u32(w, "llama.context_length", (uint32_t)s->context);
	put_key_u32(w, "llama.embedding_length", (uint32_t)s->width);
	put_key_u32(w, "llama.feed_forward_length", (uint32_t)s->ff);
	put_key_u32(w, "llama.attention.head_count", (uint32_t)s->heads);
	put_key_u32(w, "llama.attention.head_count_kv", (uint32_t)s->heads_kv);
	put_key(w, "llama.attention.layer_norm_rms_epsilon", VALUE_F32);
	put(w, &eps, sizeof eps);
	put_vocabulary(w);
}

static void
add_tensor(struct writer *w, const char *name, uint32_t type, int64_t rows, int64_t cols)
{
	struct tensor *t = &w->tensors[w->n_tensors++];

	*t = (struct tensor){ .type = type, .rows = rows, .cols = cols };
	snprintf(t->name, sizeof t->name, "%s", name);
}

/* The layers whose values and feed-forward outputs get more bits in the usual mixtures. */
static bool
wants_more(int layer, int layers)
{
	return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

static void
list_tensors(struct writer *w)
{
	const struct shape *s = w->s;
	int64_t head = s->width / s->heads, kv = head * s->heads_kv;
	uint32_t type = w->m->type;

	w->tensors = calloc((size_t)s->layers * 9 + 3, sizeof *w->tensors);
	if (w->tensors == NULL)
		fail(w);
	add_tensor(w, "token_embd.weight", type, s->vocabulary, s->width);
	add_tensor(w, "output_norm.weight", QUANT_F32, 0, s->width);
	if (!s->tied)
		add_tensor(w, "output.weight", w->m->more, s->vocabulary, s->width);
	for (int i = 0; i < s->layers; i++) {
		uint32_t more = wants_more(i, s->layers) ? w->m->more : type;
		const struct {
			const char *name;
			uint32_t type;
			int64_t rows, cols;
		} parts[] = {
			{ "attn_norm", QUANT_F32, 0, s->width }, { "attn_q", type, s->width, s->width },
			{ "attn_k", type, kv, s->width }, { "attn_v", more, kv, s->width },
			{ "attn_output", type, s->width, s->width }, { "ffn_norm", QUANT_F32, 0, s->width },
			{ "ffn_gate", type, s->ff, s->width }, { "ffn_up", type, s->ff, s->width },
			{ "ffn_down", more, s->width, s->ff },
		};
		char name[NAME_SIZE];

		for (size_t j = 0; j < sizeof parts / sizeof parts[0]; j++) {
			snprintf(name, sizeof name, "blk.%d.%s.weight", i, parts[j].name);
			add_tensor(w, name, parts[j].type, parts[j].rows, parts[j].cols);
		}
	}
}

static size_t
tensor_size(const struct tensor *t)
{
	return quant_row_size(t->type, t->cols) * (size_t)(t->rows > 0 ? t->rows : 1);
}

static size_t
padding(size_t size)
{
	return (ALIGNMENT - size % ALIGNMENT) % ALIGNMENT;
}

static void
put_infos(struct writer *w)
{
	uint64_t offset = 0;

	for (int i = 0; i < w->n_tensors; i++) {
		const struct tensor *t = &w->tensors[i];

		put_string(w, t->name);
		put_u32(w, t->rows > 0 ? 2 : 1);
		put_u64(w, (uint64_t)t->cols);
		if (t->rows > 0)
			put_u64(w, (uint64_t)t->rows);
		put_u32(w, t->type);
		put_u64(w, offset);
		offset += tensor_size(t) + padding(tensor_size(t));
	}
}

struct pool {
	uint32_t type;
	int64_t cols;
	size_t size;
	uint8_t *data;
};

/*
 * Random weights of a type for matrices of so many columns: outputs are about
 * as large as inputs, so the deviation depends on them.
 */
static const struct pool *
get_pool(const struct writer *w, uint32_t type, int64_t cols)
{
	static struct pool pools[8];
	uint64_t seed = type * 1000u + (uint64_t)cols;
	struct pool *p = pools;

	while (p->data != NULL && (p->type != type || p->cols != cols))
		p++;
	if (p->data != NULL)
		return p;
	*p = (struct pool){ .type = type, .cols = cols, .size = quant_row_size(type, POOL) };
	p->data = malloc(p->size);
	if (p->data == NULL)
		fail(w);
	random_weights(&seed, type, POOL, 1 / sqrtf((float)cols), p->data);
	return p;
}

/* The bytes of a matrix out of the pool, from a place of its own on. */
static void
put_random(struct writer *w, const struct tensor *t, int number)
{
	const struct pool *p = get_pool(w, t->type, t->cols);
	size_t block = (size_t)quant_get_info(t->type)->bytes, left = tensor_size(t), part;
	size_t at = p->size / block * (size_t)(number % 61) / 61 * block;

	for (; left > 0; left -= part, at = 0) {
		part = p->size - at < left ? p->size - at : left;
		put(w, p->data + at, part);
	}
}

static void
put_tensors(struct writer *w)
{
	static const char zeros[ALIGNMENT];
	float one = 1;

	for (int i = 0; i < w->n_tensors; i++) {
		const struct tensor *t = &w->tensors[i];

		if (t->rows > 0)
			put_random(w, t, i);
		for (int64_t j = 0; t->rows == 0 && j < t->cols; j++)
			put(w, &one, sizeof one);
		put(w, zeros, padding(tensor_size(t)));
	}
}

static void
write_model(struct writer *w)
{
	static const char zeros[ALIGNMENT];
	long end;

	w->f = fopen(w->path, "wb");
	if (w->f == NULL)
		fail(w);
	setvbuf(w->f, NULL, _IOFBF, 1 << 20);
	list_tensors(w);
	put(w, "GGUF", 4);
	put_u32(w, 3);
	put_u64(w, (uint64_t)w->n_tensors);
	put_u64(w, 0);
	put_metadata(w);
	put_infos(w);
	end = ftell(w->f);
	if (end < 0)
		fail(w);
	put(w, zeros, padding((size_t)end));
	put_tensors(w);
	/* now that they are counted */
	if (fseek(w->f, 16, SEEK_SET) != 0)
		fail(w);
	put_u64(w, w->keys);
	if (fclose(w->f) != 0)
		fail(w);
	free(w->tensors);
}

static int
usage(void)
{
	fprintf(stderr, "usage: make_model SHAPE TYPE FILE\nshapes:");
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		fprintf(stderr, " %s", shapes[i].name);
	fprintf(stderr, ", or layers,width,ff,heads,heads_kv,vocabulary,context\ntypes:");
	for (size_t i = 0; i < sizeof mixtures / sizeof mixtures[0]; i++)
		fprintf(stderr, " %s", mixtures[i].name);
	fprintf(stderr, "\n");
	return EX_USAGE;
}

int
main(int argc, char **argv)
{
	struct shape own = { .name = "random" };
	struct writer w = { 0 };

	if (argc != 4)
		return usage();
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		if (strcmp(argv[1], shapes[i].name) == 0)
			w.s = &shapes[i];
	for (size_t i = 0; i < sizeof mixtures / sizeof mixtures[0]; i++)
		if (strcmp(argv[2], mixtures[i].name) == 0)
			w.m = &mixtures[i];
	if (w.s == NULL && sscanf(argv[1], "%d,%d,%d,%d,%d,%d,%d", &own.layers, &own.width, &own.ff, &own.heads,
	    &own.heads_kv, &own.vocabulary, &own.context) == 7)
		w.s = &own;
	if (w.s == NULL || w.m == NULL || w.s->heads < 1 || w.s->vocabulary <= BYTE_TOKENS ||
	    w.s->width % quant_get_info(w.m->type)->block != 0 || w.s->ff % quant_get_info(w.m->type)->block != 0)
		return usage();
	w.path = argv[3];
	write_model(&w);
	return 0;
}
