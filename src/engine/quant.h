/*
 * The weight types of GGUF files: names, block geometry, and the plain
 * dequantisation that defines them. Block layouts follow the GGUF format
 * (ggml's block_q4_0 ... block_q6_K); checked bit for bit by tests.
 */
#ifndef SINKD_ENGINE_QUANT_H
#define SINKD_ENGINE_QUANT_H

#include <stddef.h>
#include <stdint.h>

/* The numbers are the file format's. */
enum quant_type {
	QUANT_F32 = 0, QUANT_F16 = 1, QUANT_Q4_0 = 2, QUANT_Q4_1 = 3, QUANT_Q5_0 = 6, QUANT_Q5_1 = 7,
	QUANT_Q8_0 = 8, QUANT_Q2_K = 10, QUANT_Q3_K = 11, QUANT_Q4_K = 12, QUANT_Q5_K = 13, QUANT_Q6_K = 14,
	QUANT_BF16 = 30,
};

struct quant_info {
	const char *name;
	int block;   /* weights per block */
	int bytes;   /* bytes per block */
};

/* Borrowed, or NULL when the type is unknown or not supported. */
const struct quant_info *quant_get_info(uint32_t type);

/* Name of any type number of the format, supported or not; NULL for numbers the format does not define. */
const char *quant_get_name(uint32_t type);

/* Bytes of n weights of a supported type; n is a multiple of the block. */
size_t quant_row_size(uint32_t type, int64_t n);

/* dst[n] = the exact values of n weights (a multiple of the block) at src, rounded once to float32. */
void quant_dequantize(uint32_t type, const void *src, int64_t n, float *dst);

#endif
