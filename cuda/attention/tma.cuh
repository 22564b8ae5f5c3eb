/*
 * Boxes of keys and values, copied to shared memory by the engine that knows
 * tensors (compute capability 9.0 and later): rows of 128 bytes, whose 16-byte
 * pieces are swapped by row, so that neither rows nor columns meet in a bank.
 */
#ifndef SINKD_CUDA_TMA_CUH
#define SINKD_CUDA_TMA_CUH

#include <cudaTypedefs.h>

#include "barrier.cuh"
#include "launch.cuh"

enum { PANEL = 64 }; /* halves of a row of shared memory; longer rows have several panels */

/* Where a row's 16-byte piece lies in a box of so many rows. */
static __device__ __forceinline__ int
place_of(int rows, int row, int piece)
{
	return piece / 8 * rows * 128 + row * 128 + (piece % 8 ^ row % 8) * 16;
}

/* Copy a box of a tensor of three dimensions to shared memory, the first dimension's element x first. */
static __device__ __forceinline__ void
copy_tile(uint32_t to, const void *tensor_map, int x, int y, int z, uint32_t barrier)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
	             "[%0], [%1, {%2, %3, %4}], [%5];"
	             :: "r"(to), "l"(tensor_map), "r"(x), "r"(y), "r"(z), "r"(barrier) : "memory");
#endif
}

/* What makes a CUtensorMap is the driver's, which is not linked. */
static inline PFN_cuTensorMapEncodeTiled_v12000
find_encoder(void)
{
	static void *encoder;
	cudaDriverEntryPointQueryResult found;

	if (encoder == NULL &&
#if CUDART_VERSION >= 12050
	    cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encoder, 12000, cudaEnableDefault, &found) !=
	        cudaSuccess)
#else
	    cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &encoder, cudaEnableDefault, &found) != cudaSuccess)
#endif
		encoder = NULL;
	return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(encoder);
}

/*
 * A layer's keys or values, halves, as [head][slot][element], in boxes of `rows` slots, PANEL elements; false: it
 * cannot be.
 */
static inline bool
describe_slots(CUtensorMap *map, const struct cache_view *v, void *base, int ld, int rows)
{
	PFN_cuTensorMapEncodeTiled_v12000 encode = find_encoder();
	cuuint64_t size[3] = { (cuuint64_t)ld, (cuuint64_t)v->slots, (cuuint64_t)v->n_head_kv };
	cuuint64_t stride[2] = { size[0] * sizeof(__half), size[0] * size[1] * sizeof(__half) };
	cuuint32_t box[3] = { PANEL, (cuuint32_t)rows, 1 }, step[3] = { 1, 1, 1 };

	return encode != NULL &&
	    encode(map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3, base, size, stride, box, step,
	    CU_TENSOR_MAP_INTERLEAVE_NONE,
	        CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) ==
	    CUDA_SUCCESS;
}

#endif
