/*
 * Instructions that only compute capability 9.0 has, for prefill_hopper.cu:
 * products of a warpgroup (four warps) straight from shared memory.
 */
#ifndef SINKD_CUDA_PREFILL_HOPPER_CUH
#define SINKD_CUDA_PREFILL_HOPPER_CUH

#include "attention/tma.cuh"

template <int N> struct integer { };

/* What an operand's matrix is to the instruction: bytes between groups of 8 rows, and between panels. */
static __device__ __forceinline__ uint64_t
describe(uint32_t address, int panel)
{
	return (uint64_t)(address >> 4 & 0x3fff) | (uint64_t)(panel >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 |
	    (uint64_t)1 << 62;
}

/* ---- products */

#define FOUR(x) "+f"((x)[0]), "+f"((x)[1]), "+f"((x)[2]), "+f"((x)[3])

/* c[64, N] = (or += where add is not 0) a b^T, both in shared memory with 16 halves of k in a row. */
static __device__ __forceinline__ void
multiply_shared(float (*c)[4], uint64_t a, uint64_t b, int add, integer<128>)
{
	asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
	             "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
	             "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
	             "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
	             "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
	             "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
	             "}, %64, %65, p, 1, 1, 0, 0;\n}\n"
	             : FOUR(c[0]), FOUR(c[1]), FOUR(c[2]), FOUR(c[3]), FOUR(c[4]), FOUR(c[5]), FOUR(c[6]), FOUR(c[7]),
	               FOUR(c[8]), FOUR(c[9]), FOUR(c[10]), FOUR(c[11]), FOUR(c[12]), FOUR(c[13]), FOUR(c[14]),
	               FOUR(c[15])
	             : "l"(a), "l"(b), "r"(add));
}

static __device__ __forceinline__ void
multiply_shared(float (*c)[4], uint64_t a, uint64_t b, int add, integer<64>)
{
	asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
	             "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
	             "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
	             "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
	             "}, %32, %33, p, 1, 1, 0, 0;\n}\n"
	             : FOUR(c[0]), FOUR(c[1]), FOUR(c[2]), FOUR(c[3]), FOUR(c[4]), FOUR(c[5]), FOUR(c[6]), FOUR(c[7])
	             : "l"(a), "l"(b), "r"(add));
}

/* c[64, N] += a b: a in registers, b in shared memory with k from row to row. */
static __device__ __forceinline__ void
multiply_weights(float (*c)[4], const uint32_t *a, uint64_t b, integer<128>)
{
	asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\n"
	             "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
	             "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
	             "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
	             "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
	             "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
	             "}, {%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}\n"
	             : FOUR(c[0]), FOUR(c[1]), FOUR(c[2]), FOUR(c[3]), FOUR(c[4]), FOUR(c[5]), FOUR(c[6]), FOUR(c[7]),
	               FOUR(c[8]), FOUR(c[9]), FOUR(c[10]), FOUR(c[11]), FOUR(c[12]), FOUR(c[13]), FOUR(c[14]),
	               FOUR(c[15])
	             : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

static __device__ __forceinline__ void
multiply_weights(float (*c)[4], const uint32_t *a, uint64_t b, integer<64>)
{
	asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\n"
	             "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
	             "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
	             "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
	             "}, {%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}\n"
	             : FOUR(c[0]), FOUR(c[1]), FOUR(c[2]), FOUR(c[3]), FOUR(c[4]), FOUR(c[5]), FOUR(c[6]), FOUR(c[7])
	             : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/* Registers that products write or read are as the program left them. */
static __device__ __forceinline__ void
begin_products(void)
{
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* The products since the last call form a group. */
static __device__ __forceinline__ void
commit_products(void)
{
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* At most PENDING groups are still under way. */
template <int PENDING>
static __device__ __forceinline__ void
wait_for_products(void)
{
	asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(PENDING) : "memory");
}

/* Results that have been waited for are not used before this point. */
template <int N>
static __device__ __forceinline__ void
hold(float (&c)[N][4])
{
#pragma unroll
	for (int n = 0; n < N; n++)
		asm volatile("" : FOUR(c[n]) :: "memory");
}

#undef FOUR

/*
 * The assembler moves waits for products up where nothing stops it. x, which is
 * not negative, and what it is computed from come before this point.
 */
static __device__ __forceinline__ void
compute_before(float x)
{
	asm volatile("{\n.reg .pred p;\nsetp.lt.f32 p, %0, 0f00000000;\n@p st.shared.f32 [%1], %0;\n}"
	             :: "f"(x), "r"(0) : "memory");
}

/* Of the registers that all threads of a block start with some warpgroups leave some to others: N are kept. */
template <int N>
static __device__ __forceinline__ void
give_registers(void)
{
	asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(N));
}

template <int N>
static __device__ __forceinline__ void
take_registers(void)
{
	asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(N));
}

/* A barrier among some warps of a block, by number: all of them arrive, and those that sync wait for the others. */
static __device__ __forceinline__ void
warps_sync(int number, int threads)
{
	asm volatile("bar.sync %0, %1;" :: "r"(number), "r"(threads) : "memory");
}

static __device__ __forceinline__ void
warps_arrive(int number, int threads)
{
	asm volatile("bar.arrive %0, %1;" :: "r"(number), "r"(threads) : "memory");
}

#endif
