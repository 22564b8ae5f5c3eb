/* What the parts of the operation test share; see ops.c. */
#ifndef SINKD_TESTS_OPS_H
#define SINKD_TESTS_OPS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend.h"

/* The case at hand: one operation (and weight type), over all its shapes. */
struct ops {
	struct backend *plain, *tested;
	struct backend *mapped;   /* the tested one, keeping no copies of weights; NULL: a device */
	uint64_t seed;
	char name[80];
	double tolerance, worst;
	/* size of a result; smaller ones, by chance, are no reason to expect smaller errors */
	double typical;
	char where[120];          /* the shape with the worst error */
	int shapes, bad;
};

/* The parts. */
void ops_faults(struct ops *o);
void ops_rows(struct ops *o);
void ops_products(struct ops *o);
void ops_attention(struct ops *o);
void ops_layers(struct ops *o);

/* A case begins and ends; the error of a shape is the length of the difference over that of the expected vector. */
void ops_begin(struct ops *o, double tolerance, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void ops_end(struct ops *o);

/* What products with weights of a type may be off by. */
double ops_tolerance(const struct ops *o, uint32_t type);

/* The same where activations are numbers that any number format holds: what is left is the order of sums. */
double ops_exact_tolerance(const struct ops *o, uint32_t type);

/* What results may differ by when rows are computed in other company: nothing, on a CPU. */
double ops_same(const struct ops *o);

/* Compare n results and release both vectors; the text describes the shape. */
void ops_compare(struct ops *o, float *expected, float *got, int64_t n, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* Memory that is there, or the end of the program. */
void *ops_allocate(size_t bytes);

/* The operation worked, or the end of the program. */
void ops_must(int result, const struct err *e);

/* n random numbers, to be freed. */
float *ops_random(struct ops *o, int64_t n);

/* Columns that a type can have, near the number wanted: odd ones where they may be. */
int64_t ops_fit_columns(uint32_t type, int64_t wanted);

/* Random weights of about a standard deviation, not loaded; their data is to be freed. */
struct weight ops_make_weight(struct ops *o, uint32_t type, int64_t rows, int64_t cols, float deviation);

/* A vector of the model, loaded where there is any. */
struct vector ops_load_vector(struct backend *b, const float *data, int64_t n);

/* A copy in backend memory; n NaNs there; and back again, which releases p. */
float *ops_upload(struct backend *b, const float *x, int64_t n);
float *ops_poisoned(struct backend *b, int64_t n);
float *ops_download(struct backend *b, float *p, int64_t n);

#endif
