/* Hyperparameters of a model out of a file's metadata; used by model.c only. */
#ifndef SINKD_ENGINE_HYPER_H
#define SINKD_ENGINE_HYPER_H

#include "engine/arch.h"
#include "engine/gguf.h"
#include "engine/model.h"
#include "engine/rope.h"

/* "<architecture>.<name>" lookups; value stays untouched where the key is missing. */
struct hyper_keys {
	const struct gguf *g;
	const char *arch;
};
void hyper_get_int(const struct hyper_keys *k, const char *name, int64_t *value);
void hyper_get_float(const struct hyper_keys *k, const char *name, double *value);

/*
 * Fill h (but for n_vocab, which the embedding tells) and check it.
 * h->slopes is allocated where the architecture wants ALiBi.
 * Returns 0, or -1 with *e set (EX_DATAERR: names the key).
 */
int hyper_read(struct hyper *h, const struct arch *a, const struct gguf *g, struct err *e);

/*
 * Rotary parameters: *global for most layers, *local for the local layers of
 * architectures that have such. Divisors stay NULL. Returns 0 or -1 with *e set.
 */
int hyper_read_rope(const struct hyper *h, const struct arch *a, const struct gguf *g, struct rope_params *global,
    struct rope_params *local, struct err *e);

#endif
