/* AVX-512: 16 lanes, 32 registers. See kernels_simd.h. */
#define KERNELS kernels_avx512
#define MICRO_ROWS 8
#define MICRO_PANELS 3
#include "engine/cpu/kernels_simd.h"
