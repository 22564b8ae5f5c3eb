/* Hyperparameters of a model out of a file's metadata; used by model.c only. */
#ifndef SINKD_ENGINE_HYPER_H
#define SINKD_ENGINE_HYPER_H

#include "engine/arch.h"
#include "engine/gguf.h"
#include "engine/model.h"
#include "engine/rope.h"

/*
 * "<architecture>.<name>" lookups; value stays untouched where the key is
 * missing. Returns 0, or -1 with *e set (EX_DATAERR) where it is no single integer.
 */
struct hyper_keys {
	const struct gguf *g;
	const char *arch;
};
int hyper_get_int(const struct hyper_keys *k, const char *name, int64_t *value, struct err *e);

/*
 * Which layers are local, where the file says so for each: an array of one
 * truth value a layer. Returns 1 and fills local[n_layer], 0 where there is no
 * array, or -1 with *e set (EX_DATAERR).
 */
int hyper_get_local_layers(const struct hyper_keys *k, int32_t n_layer, bool *local, struct err *e);

/*
 * After all of a model was read: a key of the architecture that nobody asked for
 * would be ignored, and the model computed wrongly. Returns 0, or -1 with *e set
 * (EX_DATAERR: names the key) unless all such keys are known to change nothing.
 */
int hyper_check_rest(const struct hyper_keys *k, struct err *e);

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
