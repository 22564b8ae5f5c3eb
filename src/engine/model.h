/*
 * A model as the forward pass sees it: hyperparameters and views of the
 * weights in the mapped file. Architectures differ in this data only (arch.c),
 * never in code of their own.
 */
#ifndef SINKD_ENGINE_MODEL_H
#define SINKD_ENGINE_MODEL_H

#include "engine/backend.h"
#include "engine/engine.h"
#include "engine/gguf.h"

enum layer_weight { W_Q, W_K, W_V, W_O, W_GATE, W_UP, W_DOWN, W_COUNT };

enum layer_vector {
	V_ATTN_NORM, V_ATTN_NORM_BIAS, V_FFN_NORM, V_FFN_NORM_BIAS, V_POST_ATTN_NORM, V_POST_FFN_NORM,
	V_Q_NORM, V_K_NORM, V_Q_BIAS, V_K_BIAS, V_V_BIAS, V_O_BIAS, V_GATE_BIAS, V_UP_BIAS, V_DOWN_BIAS, V_COUNT
};

struct layer {
	struct weight w[W_COUNT];
	struct vector v[V_COUNT];
	const struct rope *rope; /* of this layer: local layers may rotate with another base */
	int64_t native;          /* attends only below this cache distance; 0: no limit of its own */
};

/* The weights outside the layers. */
enum outer_vector { V_OUTPUT_NORM, V_OUTPUT_NORM_BIAS, V_OUTPUT_BIAS, OUTER_COUNT };

/*
 * The residual's shape:
 *   sequential  x += attn(norm(x)); x += ffn(ffn_norm(x))
 *   parallel    x += attn(a) + ffn(f), with a and f norms of the same x; a layer
 *               without V_FFN_NORM feeds a to both
 */
struct hyper {
	enum norm_kind norm;
	float norm_eps;
	enum activation act;
	bool parallel;
	int32_t n_vocab, n_layer, n_embd, n_ff, n_head, n_head_kv, d_k, d_v, n_ctx_train;
	float embed_scale;
	float attn_scale;
	float attn_softcap, final_softcap; /* 0: none */
	float clamp_qkv;                   /* 0: none */
	float *slopes;                     /* [n_head] ALiBi, or NULL */
};

struct model {
	struct gguf *file;
	struct hyper h;
	struct weight embed, output; /* output is a view of embed where the file has none */
	struct vector v[OUTER_COUNT];
	struct layer *layers;
	struct rope rope, rope_local;
	struct rope rope_long;       /* Phi-3: used instead of rope where S + W exceeds n_ctx_original; else empty */
	int64_t n_ctx_original;
	struct model_info info;
	char *strings[4];            /* that info points to */
	float **owned;               /* vectors converted to float32 */
	size_t n_owned;
};

/* The rows [first, first + rows) of w as a weight of their own. */
struct weight weight_rows(const struct weight *w, int64_t first, int64_t rows);

#endif
