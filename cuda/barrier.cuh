/*
 * Barriers in shared memory that count arrivals and bytes: a phase ends when so many have come. Bytes only since
 * compute capability 9.0.
 */
#ifndef SINKD_CUDA_BARRIER_CUH
#define SINKD_CUDA_BARRIER_CUH

#include <stdint.h>

static __device__ __forceinline__ void
barrier_init(uint32_t barrier, int arrivals)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(barrier), "r"(arrivals) : "memory");
}

static __device__ __forceinline__ void
barrier_arrive(uint32_t barrier)
{
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(barrier) : "memory");
}

/* Arrive; the phase ends only when so many bytes have been copied, too. */
static __device__ __forceinline__ void
barrier_arrive_expecting(uint32_t barrier, int bytes)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory");
#endif
}

/* Wait until phase `phase` has ended; -1, before the first, has. */
static __device__ __forceinline__ void
barrier_wait(uint32_t barrier, int phase)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define TRY "mbarrier.test_wait"
#else
#define TRY "mbarrier.try_wait" /* may sleep */
#endif
	asm volatile("{\n.reg .pred p;\nagain:\n"
	             TRY ".parity.shared::cta.b64 p, [%0], %1;\n"
	             "@p bra done;\nbra again;\ndone:\n}\n" :: "r"(barrier), "r"(phase & 1) : "memory");
#undef TRY
}

/*
 * What this thread has done to shared memory comes before what products and
 * bulk copies do to it. They use another proxy: no barrier alone orders them.
 */
static __device__ __forceinline__ void
publish_shared(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* All lanes of a warp have read a place in shared memory. Any of them may start a bulk copy to it after this call. */
static __device__ __forceinline__ void
release_shared(void)
{
	publish_shared();
	__syncwarp();
}

#endif
