/* Contexts on a tiny golden model, for tests, and a stream of tokens. */
#ifndef SINKD_TESTS_CONTEXT_RIG_H
#define SINKD_TESTS_CONTEXT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"

enum { N = 300, VOCAB = 264 };

static struct model *model;
static int32_t ids[N];

static int
setup(void **state)
{
	const char *src = getenv("SRC");
	struct err e = { 0 };
	char path[4096];
	uint32_t x = 1;

	(void)state;
	snprintf(path, sizeof path, "%s/tests/golden/llama-gqa/model.gguf", src != NULL ? src : ".");
	model = model_open(path, 0, &e);
	if (model == NULL)
		fail_msg("%s", e.text);
	assert_int_equal(model_get_info(model)->n_vocab, VOCAB);
	for (int i = 0; i < N; i++) {
		x = x * 1664525 + 1013904223;
		ids[i] = (int32_t)(x >> 8) % VOCAB;
	}
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	model_close(model);
	return 0;
}

static struct context *
make(const struct context_options *o)
{
	struct err e = { 0 };
	struct context *c = context_new(model, o, &e);

	if (c == NULL)
		fail_msg("%s", e.text);
	return c;
}

#endif
