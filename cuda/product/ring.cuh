/*
 * Weights on their way to shared memory: a warp asks for batches of some KB
 * before it needs them, and they arrive in turn. From compute capability 9.0 on,
 * one thread starts a bulk copy (cp.async.bulk) and an mbarrier counts its bytes.
 * Many loads in flight would stall other memory accesses, even those to shared
 * memory; bulk copies do not. Before 9.0, all lanes copy 16 bytes at a time.
 */
#ifndef SINKD_CUDA_RING_CUH
#define SINKD_CUDA_RING_CUH

#include "barrier.cuh"
#include "launch.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
static const bool has_bulk_copies = false;
#else
static const bool has_bulk_copies = true;
#endif

/* The barriers of a warp's batches, by one of its threads. */
static __device__ __forceinline__ void
batch_init(uint32_t barrier, int depth)
{
	if constexpr (has_bulk_copies) {
		for (int i = 0; i < depth; i++)
			barrier_init(barrier + i * 8, 1);
		publish_shared();
	}
}

static __device__ __forceinline__ void
copy_bulk(uint32_t to, const void *from, int bytes, uint32_t barrier)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
	             :: "r"(to), "l"(from), "r"(bytes), "r"(barrier) : "memory");
}

/* Begin a batch of `bytes` bytes. The caller has released what lay there before (see release_shared). */
static __device__ __forceinline__ void
batch_begin(uint32_t barrier, int bytes)
{
	if constexpr (has_bulk_copies)
		if (threadIdx.x % 32 == 0)
			barrier_arrive_expecting(barrier, bytes);
}

/* A piece of it, of the whole warp. */
static __device__ __forceinline__ void
batch_copy(uint32_t to, const char *from, int bytes, uint32_t barrier)
{
	if constexpr (has_bulk_copies) {
		if (threadIdx.x % 32 == 0)
			copy_bulk(to, from, bytes, barrier);
	} else {
		for (int i = threadIdx.x % 32 * 16; i < bytes; i += 32 * 16)
			copy_async(to + i, from + i, true);
	}
}

/* `rows` (32 at most) pieces of a matrix's neighbouring rows, `ld` bytes apart, to places that are `pitch` apart. */
static __device__ __forceinline__ void
batch_copy_rows(uint32_t to, int pitch, const char *from, int64_t ld, int rows, int bytes, uint32_t barrier)
{
	int lane = threadIdx.x % 32, pieces = bytes / 16;

	if constexpr (has_bulk_copies) {
		if (lane < rows)
			copy_bulk(to + lane * pitch, from + lane * ld, bytes, barrier);
	} else {
		for (int i = lane; i < rows * pieces; i += 32)
			copy_async(to + i / pieces * pitch + i % pieces * 16, from + i / pieces * ld + i % pieces * 16,
			    true);
	}
}

static __device__ __forceinline__ void
batch_end(void)
{
	if constexpr (!has_bulk_copies)
		copy_commit();
}

/* The oldest of `depth` batches is there; phase: of its barrier. */
static __device__ __forceinline__ void
batch_wait(uint32_t barrier, int phase, int depth)
{
	if constexpr (has_bulk_copies) {
		barrier_wait(barrier, phase);
	} else {
		if (depth > 1)
			copy_wait<1>();
		else
			copy_wait<0>();
		__syncwarp();
	}
}

#endif
