/* Random numbers for choices that must be the same on every machine; no secrets. */
#ifndef SINKD_BASE_RANDOM_H
#define SINKD_BASE_RANDOM_H

#include <stdint.h>

/* The next number of the sequence (splitmix64) that *state, any number, begins. */
uint64_t random_next(uint64_t *state);

#endif
