/* The CPU backend's own state, shared by its files. */
#ifndef SINKD_ENGINE_CPU_H
#define SINKD_ENGINE_CPU_H

#include "engine/backend.h"
#include "engine/cpu/aligned.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/team.h"

struct cpu_scratch {      /* of one worker */
	void *panels;         /* TILE rows x BLOCK_K columns, of any panel_kind */
	float *rows;          /* [PANEL, BLOCK_K] */
	float *tile;          /* [chunk, TILE] results on their way out */
};

struct cpu {
	struct backend base;
	const struct cpu_kernels *k;
	struct team *team;
	struct cpu_scratch *scratch;  /* [base.threads] */
	struct backend_limits limits;
	struct copies *copies;        /* of weights, see copies.h */
	uint16_t *x16;                /* [chunk, aligned_pad(widest)]: activations in bfloat16 */
	struct q8_block *x8;          /* [chunk, widest / Q8_BLOCK]: activations in 8 bits */
	float *partial;               /* [chunk, partial_tiles, 2], see cpu_score */
	int64_t partial_tiles;
};

/* The operations of struct backend_ops that have files of their own. */
int cpu_load_weight(struct backend *b, struct weight *w, struct err *e);
void cpu_unload_weight(struct backend *b, struct weight *w);
void cpu_embed(struct backend *b, const struct weight *w, const int32_t *ids, int n, float scale, float *y);
void cpu_linear(struct backend *b, const struct linear *l);
int cpu_score(struct backend *b, const struct weight *w, const struct vector *bias, float softcap, const float *x,
    int n,
    const int32_t *targets, float *nll, struct err *e);
int cpu_logits(struct backend *b, const struct weight *w, const struct vector *bias, float softcap, const float *x,
    int n, float *logits, struct err *e);

struct cache *cpu_cache_new(struct backend *b, const struct cache_shape *shape, struct err *e);
void cpu_cache_free(struct backend *b, struct cache *c);
int cpu_cache_grow(struct backend *b, struct cache *c, int64_t slots, struct err *e);
void cpu_cache_set_sinks(struct backend *b, struct cache *c, int64_t sinks);
size_t cpu_cache_bytes(const struct cache *c);
size_t cpu_cache_token_bytes(const struct cache *c);
int cpu_cache_save(struct backend *b, struct cache *c, int layer, int64_t first, int64_t n, void *to, struct err *e);
int cpu_cache_load(struct backend *b, struct cache *c, int layer, int64_t first, int64_t n, const void *from,
    struct err *e);
int cpu_cache_copy(struct backend *b, struct cache *to, const struct cache *from, struct err *e);
void cpu_store(struct backend *b, struct cache *c, int layer, int64_t first, int n, const float *k, const float *v);
void cpu_attend(struct backend *b, const struct attend *a);

#endif
