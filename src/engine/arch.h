/*
 * The architectures this engine computes, as data. What a file's metadata
 * does not say is fixed here; everything else is read by model.c.
 */
#ifndef SINKD_ENGINE_ARCH_H
#define SINKD_ENGINE_ARCH_H

#include "engine/backend.h"

enum residual { RESIDUAL_SEQUENTIAL, RESIDUAL_PARALLEL, RESIDUAL_BY_KEY };

struct arch {
	const char *name;            /* general.architecture */
	enum norm_kind norm;
	enum activation act;
	bool gated;                  /* feed-forward has a gate matrix: down(act(gate x) * up x) */
	enum rope_style rope;
	enum residual residual;      /* by key: use_parallel_residual */
	bool parallel_default;       /* its value where the key is missing */
	bool qk_norm;                /* queries and keys are normalised per head before the rotation */
	bool post_norm;              /* attention and feed-forward outputs are normalised before they are added */
	bool scaled_embedding;       /* embedding times sqrt(width) */
	bool alibi;
	double norm_eps;             /* where the file does not say; 0: it must */
	double rope_base;            /* where the file does not say; 0: 10000 */
	int local_pattern;           /* > 0: layers with (index + 1) mod pattern != 0 are local; 0: all alike */
};

/* Borrowed, or NULL for an architecture that is not in the table. */
const struct arch *arch_find(const char *name);

/* The known names, comma-separated, for messages. */
const char *arch_names(void);

#endif
