/*
 * Blocks of a cluster that send each other floats: straight into shared memory,
 * where a barrier counts the bytes that came. Compute capability 9.0 and later;
 * before it there are no clusters, and nothing calls this.
 */
#ifndef SINKD_CUDA_CLUSTER_CUH
#define SINKD_CUDA_CLUSTER_CUH

#include "barrier.cuh"
#include "launch.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define HAS_CLUSTERS 1
#else
#define HAS_CLUSTERS 0
#endif

/* One thread makes the barrier, which is over once so many bytes have come. */
static __device__ __forceinline__ void
cluster_expect(uint64_t *barrier, uint32_t bytes)
{
#if HAS_CLUSTERS
	barrier_init(shared_address(barrier), 1);
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
	barrier_arrive_expecting(shared_address(barrier), (int)bytes);
#endif
}

/* All threads of all blocks say that their barriers are made; nothing is sent before all of them have. */
static __device__ __forceinline__ void
cluster_arrive(void)
{
#if HAS_CLUSTERS
	asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}

static __device__ __forceinline__ void
cluster_wait(void)
{
#if HAS_CLUSTERS
	asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/* x goes to where `to` lies in the shared memory of block `rank`, and is counted by `barrier` there. */
static __device__ __forceinline__ void
cluster_send(float *to, float x, uint64_t *barrier, unsigned rank)
{
#if HAS_CLUSTERS
	asm volatile("{\n.reg .b32 to, barrier;\n"
	             "mapa.shared::cluster.u32 to, %0, %3;\n"
	             "mapa.shared::cluster.u32 barrier, %2, %3;\n"
	             "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.f32 [to], %1, [barrier];\n}\n"
	             :: "r"(shared_address(to)), "f"(x), "r"(shared_address(barrier)), "r"(rank) : "memory");
#endif
}

/* Until all that was expected has come. */
static __device__ __forceinline__ void
cluster_receive(uint64_t *barrier)
{
#if HAS_CLUSTERS
	asm volatile("{\n.reg .pred done;\nagain:\n"
	             "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], 0;\n"
	             "@!done bra again;\n}\n" :: "r"(shared_address(barrier)) : "memory");
#endif
}

#endif
