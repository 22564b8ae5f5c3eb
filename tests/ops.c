/*
 * Every operation of the backend table, on every code path that this machine
 * has, against the plain path of the CPU: odd shapes, every weight type. Says
 * TAP, one case per operation and type, each over all of its shapes.
 * Usage: see usage below; a backend that is not named is left out if it is
 * not there.
 */
#include "ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/quant.h"
#include "random_data.h"

static struct {
	int cases, failed;
} tap;

/* The backends this program knows; the first is the one that defines what is right. */
static const struct backend_choice backends[] = {
	{ .device = "cpu", .path = "plain" },
	{ .device = "cpu", .path = "generic" },
	{ .device = "cpu", .path = "avx2" },
	{ .device = "cpu", .path = "avx512" },
	{ .device = "cpu", .path = "avx512vnni" },
	{ .device = "cpu", .path = "avx512bf16" },
	{ .device = "cuda", .path = "cuda" },
};

void *
ops_allocate(size_t bytes)
{
	void *p = malloc(bytes + 1);

	if (p == NULL) {
		printf("Bail out! out of memory\n");
		exit(EX_OSERR);
	}
	return p;
}

float *
ops_random(struct ops *o, int64_t n)
{
	float *x = ops_allocate((size_t)n * sizeof *x);

	for (int64_t i = 0; i < n; i++)
		x[i] = random_normal(&o->seed, 1);
	return x;
}

int64_t
ops_fit_columns(uint32_t type, int64_t wanted)
{
	int64_t block = quant_get_info(type)->block;

	return (wanted + block - 1) / block * block;
}

struct weight
ops_make_weight(struct ops *o, uint32_t type, int64_t rows, int64_t cols, float deviation)
{
	struct weight w = { .type = type, .rows = rows, .cols = cols };
	void *data = ops_allocate(quant_row_size(type, cols) * (size_t)rows);

	random_weights(&o->seed, type, rows * cols, deviation, data);
	w.data = data;
	return w;
}

struct vector
ops_load_vector(struct backend *b, const float *data, int64_t n)
{
	struct vector v = { .data = data, .n = n };
	struct err e;

	if (data != NULL)
		ops_must(b->ops->load_vector(b, &v, &e), &e);
	return v;
}

static void
check(int result, const struct err *e)
{
	if (result == 0)
		return;
	printf("Bail out! %s\n", e->text);
	exit(EX_SOFTWARE);
}

float *
ops_upload(struct backend *b, const float *x, int64_t n)
{
	struct err e;
	float *p = b->ops->alloc(b, (size_t)n * sizeof *p);

	if (p == NULL) {
		printf("Bail out! %s: out of memory\n", b->path);
		exit(EX_OSERR);
	}
	check(b->ops->write(b, p, x, (size_t)n * sizeof *p, &e), &e);
	return p;
}

float *
ops_poisoned(struct backend *b, int64_t n)
{
	float *host = ops_allocate((size_t)n * sizeof *host), *p;

	for (int64_t i = 0; i < n; i++)
		host[i] = NAN;
	p = ops_upload(b, host, n);
	free(host);
	return p;
}

float *
ops_download(struct backend *b, float *p, int64_t n)
{
	struct err e;
	float *x = ops_allocate((size_t)n * sizeof *x);

	check(b->ops->sync(b, &e), &e);
	check(b->ops->read(b, x, p, (size_t)n * sizeof *x, &e), &e);
	b->ops->free(b, p);
	return x;
}

void
ops_must(int result, const struct err *e)
{
	check(result, e);
}

void
ops_compare(struct ops *o, float *expected, float *got, int64_t n, const char *fmt, ...)
{
	double difference = 0, size = 0, least = o->typical * o->typical * (double)n, error;
	va_list ap;

	for (int64_t i = 0; i < n; i++) {
		double d = (double)got[i] - expected[i];

		difference += d * d;
		size += (double)expected[i] * expected[i];
	}
	error = sqrt(difference / (fmax(size, least) + 1e-60));
	free(expected);
	free(got);
	o->shapes++;
	if (!(error <= o->worst)) { /* NaN counts as the worst */
		o->worst = error;
		va_start(ap, fmt);
		vsnprintf(o->where, sizeof o->where, fmt, ap);
		va_end(ap);
	}
	if (!(error <= o->tolerance))
		o->bad++;
}

void
ops_begin(struct ops *o, double tolerance, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(o->name, sizeof o->name, fmt, ap);
	va_end(ap);
	o->tolerance = tolerance;
	o->worst = o->typical = 0;
	o->shapes = o->bad = 0;
	o->where[0] = '\0';
}

void
ops_end(struct ops *o)
{
	tap.cases++;
	if (o->bad > 0)
		tap.failed++;
	printf("%sok %d - %s: %s: %d shapes, worst error %.1e of %.0e%s%s\n", o->bad > 0 ? "not " : "", tap.cases,
	    o->tested->path, o->name, o->shapes, o->worst, o->tolerance, o->where[0] != '\0' ? " at " : "", o->where);
	fflush(stdout);
}

/* Products in half precision, bfloat16 or 8-bit integers are as good as the weights deserve, and no better. */
double
ops_tolerance(const struct ops *o, uint32_t type)
{
	switch (type) {
	case QUANT_F32:
		return 2e-5;
	case QUANT_F16:
		return 1e-3;
	case QUANT_BF16:
		return 8e-3;
	default: /* a CPU may round activations to 8 bits */
		return o->tested->device ? 8e-3 : 3e-2;
	}
}

double
ops_exact_tolerance(const struct ops *o, uint32_t type)
{
	return o->tested->device ? ops_tolerance(o, type) : 2e-5;
}

double
ops_same(const struct ops *o)
{
	return o->tested->device ? 1e-5 : 0;
}

static void
run_parts(struct ops *o, const char *part)
{
	static const struct {
		const char *name;
		void (*run)(struct ops *o);
	} parts[] = { { "rows", ops_rows }, { "products", ops_products }, { "attention", ops_attention },
		{ "layers", ops_layers }, { "faults", ops_faults } };

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
		if (part == NULL || strcmp(part, parts[i].name) == 0)
			parts[i].run(o);
}

static int
test_backend(const struct backend_choice *choice, const char *part, bool named)
{
	/* The second number is the longest row of all tests. */
	struct backend_limits limits = { .chunk = 257, .widest = 4096, .copies = -1 };
	struct ops o = { .seed = 1 };
	struct err e;

	o.tested = backend_open(choice, &limits, &e);
	if (o.tested == NULL && (e.code == EX_USAGE || e.code == EX_UNAVAILABLE) && !named) {
		printf("ok %d - %s # SKIP %s\n", ++tap.cases, choice->path, e.text);
		return 0;
	}
	limits.copies = 0;
	if (o.tested != NULL && !o.tested->device)
		o.mapped = backend_open(choice, &limits, &e);
	o.plain = o.tested != NULL ? backend_open(&backends[0], &limits, &e) : NULL;
	if (o.plain == NULL || (o.mapped == NULL && !o.tested->device)) {
		printf("Bail out! %s\n", e.text);
		return -1;
	}
	run_parts(&o, part);
	o.plain->ops->close(o.plain);
	if (o.mapped != NULL)
		o.mapped->ops->close(o.mapped);
	o.tested->ops->close(o.tested);
	return 0;
}

static int
usage(void)
{
	fprintf(stderr, "usage: ops [--backend NAME] [--part rows|products|attention|layers|faults] [--module FILE]\n"
	                "    [--gpu NUMBER]\n"
	                "backends:");
	for (size_t i = 1; i < sizeof backends / sizeof backends[0]; i++)
		fprintf(stderr, " %s", backends[i].path);
	fprintf(stderr, "\n");
	return EX_USAGE;
}

int
main(int argc, char **argv)
{
	const char *only = NULL, *part = NULL, *module = NULL;
	bool known = false;
	int gpu = 0;

	for (int i = 1; i < argc; i += 2) {
		if (i + 1 == argc)
			return usage();
		if (strcmp(argv[i], "--backend") == 0)
			only = argv[i + 1];
		else if (strcmp(argv[i], "--part") == 0)
			part = argv[i + 1];
		else if (strcmp(argv[i], "--module") == 0)
			module = argv[i + 1];
		else if (strcmp(argv[i], "--gpu") == 0)
			gpu = atoi(argv[i + 1]);
		else
			return usage();
	}
	for (size_t i = 1; i < sizeof backends / sizeof backends[0]; i++) {
		struct backend_choice choice = backends[i];

		if (only != NULL && strcmp(only, choice.path) != 0)
			continue;
		known = true;
		choice.module = module;
		choice.gpu = gpu;
		if (test_backend(&choice, part, only != NULL) < 0)
			return EX_SOFTWARE;
	}
	if (!known)
		return usage();
	printf("1..%d\n", tap.cases);
	return tap.failed > 0 ? 1 : 0;
}
