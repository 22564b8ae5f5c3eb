/*
 * Random test data that is the same everywhere: numbers, and blocks of every
 * weight type with sane scales. Shared by the operation test and the model
 * maker.
 */
#ifndef SINKD_TESTS_RANDOM_DATA_H
#define SINKD_TESTS_RANDOM_DATA_H

#include <stddef.h>
#include <stdint.h>

/* splitmix64 (Steele et al. 2014): any seed will do. */
uint64_t random_next(uint64_t *state);

/* Uniform in [-1, 1). */
float random_float(uint64_t *state);

/* About normal, with the given standard deviation. */
float random_normal(uint64_t *state, float deviation);

/*
 * dst = n weights of a type (a multiple of its block) with a standard
 * deviation of about the one given; dst has quant_row_size(type, n) bytes.
 */
void random_weights(uint64_t *state, uint32_t type, int64_t n, float deviation, void *dst);

/* The 16 bits of x in half precision, rounded to nearest even; x is finite and below 65504. */
uint16_t random_half(float x);

#endif
