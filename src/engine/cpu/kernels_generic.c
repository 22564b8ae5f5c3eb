/* The portable path: four lanes of whatever the compiler finds. See kernels_simd.h. */
#define KERNELS kernels_generic
#define MICRO_ROWS 2
#define MICRO_PANELS 1
#include "engine/cpu/kernels_simd.h"
