/* AVX2 with FMA: 8 lanes, 16 registers. See kernels_simd.h. */
#define KERNELS kernels_avx2
#define MICRO_ROWS 6
#define MICRO_PANELS 1
#include "engine/cpu/kernels_simd.h"
