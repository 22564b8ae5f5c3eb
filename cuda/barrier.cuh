/* Barriers in shared memory that count arrivals and bytes: a phase ends when so many have come. Compute capability 9.0. */
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
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory");
}

/* Wait until phase `phase` has ended; -1, before the first, has. */
static __device__ __forceinline__ void
barrier_wait(uint32_t barrier, int phase)
{
	asm volatile("{\n.reg .pred p;\nagain:\n"
	             "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
	             "@p bra done;\nbra again;\ndone:\n}\n" :: "r"(barrier), "r"(phase & 1) : "memory");
}

#endif
