/*
 * Reads and generates millions of tokens and prints a number for all bits that
 * came out: two runs of one command print the same. By hand, as a GPU reads
 * ten millions in a quarter of a minute and a CPU does not.
 * Usage: long_run MODEL DEVICE READ GENERATE
 */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "random_data.h"

enum {
	STEP = 8192, REPORT = 1 << 20,
	STRETCH = 64,      /* generated tokens behind which a random one follows: greedy decoding ends in circles */
	LOOK = 1024,       /* from one look at all logits to the next */
};

struct run {
	struct context *c;
	int32_t n_vocab;
	uint64_t seed, hash;
	int64_t odd;       /* scores and logits that are no finite numbers */
};

static void
must(bool worked, const struct err *e)
{
	if (worked)
		return;
	fprintf(stderr, "long_run: %s\n", e->text);
	exit(e->code);
}

/* FNV-1a (Fowler, Noll, Vo). */
static void
add_bytes(struct run *r, const void *data, size_t n)
{
	const unsigned char *b = data;

	for (size_t i = 0; i < n; i++)
		r->hash = (r->hash ^ b[i]) * 0x100000001b3;
}

static void
add_floats(struct run *r, const float *x, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		r->odd += !isfinite(x[i]);
	add_bytes(r, x, (size_t)n * sizeof *x);
}

static int32_t
pick(struct run *r)
{
	return (int32_t)(random_next(&r->seed) % (uint64_t)r->n_vocab);
}

static void
report(const struct run *r, const char *what, int64_t n, double begin)
{
	printf("%s %" PRId64 " hash %016" PRIx64 " not finite %" PRId64 "\n", what, n, r->hash, r->odd);
	fflush(stdout);
	fprintf(stderr, "%s %" PRId64 ": %.1f s\n", what, n, clock_get_seconds() - begin);
}

static void
read_tokens(struct run *r, int64_t n)
{
	int32_t ids[STEP];
	float nll[STEP];
	double begin = clock_get_seconds();
	struct err e;

	for (int64_t i = 0, part; i < n; i += part) {
		part = n - i < STEP ? n - i : STEP;
		for (int64_t j = 0; j < part; j++)
			ids[j] = pick(r);
		must(context_feed(r->c, ids, (size_t)part, nll, &e) == 0, &e);
		/* The first token of a stream has no score. */
		add_floats(r, nll + (i == 0), part - (i == 0));
		if ((i + part) % REPORT < part || i + part == n)
			report(r, "read", i + part, begin);
	}
}

static void
generate_tokens(struct run *r, int64_t n)
{
	float *logits = malloc((size_t)r->n_vocab * sizeof *logits);
	double begin = clock_get_seconds();
	struct err e = { .code = EX_OSERR, .text = "out of memory" };
	int32_t id;

	must(logits != NULL, &e);
	for (int64_t i = 1; i <= n; i++) {
		context_expect_likeliest(r->c, i % STRETCH > 0);
		if (i % LOOK == 0) {
			must(context_get_logits(r->c, logits, &e) == 0, &e);
			add_floats(r, logits, r->n_vocab);
		}
		must(context_get_likeliest(r->c, &id, &e) == 0, &e);
		add_bytes(r, &id, sizeof id);
		if (i % STRETCH == 0)
			id = pick(r);
		must(context_feed(r->c, &id, 1, NULL, &e) == 0, &e);
		if (i % (REPORT / 16) == 0 || i == n)
			report(r, "generated", i, begin);
	}
	free(logits);
}

int
main(int argc, char **argv)
{
	struct run r = { .seed = 1, .hash = 0xcbf29ce484222325 };
	struct context_options o;
	struct model *m;
	struct err e;

	if (argc != 5) {
		fprintf(stderr, "usage: long_run MODEL DEVICE READ GENERATE\n");
		return EX_USAGE;
	}
	context_options_init(&o);
	o.device = argv[2];
	m = model_open(argv[1], 0, &e);
	must(m != NULL, &e);
	r.c = context_new(m, &o, &e);
	must(r.c != NULL, &e);
	r.n_vocab = model_get_info(m)->n_vocab;
	read_tokens(&r, atoll(argv[3]));
	generate_tokens(&r, atoll(argv[4]));
	context_free(r.c);
	model_close(m);
	return r.odd > 0 ? 1 : 0;
}
