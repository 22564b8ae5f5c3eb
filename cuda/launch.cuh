/* Starting kernels, and the instructions that have no name in CUDA C++. */
#ifndef SINKD_CUDA_LAUNCH_CUH
#define SINKD_CUDA_LAUNCH_CUH

#include "device.cuh"

/* What makes `n` neighbours along x a cluster. */
static inline cudaLaunchAttribute
cluster_of(unsigned n)
{
	cudaLaunchAttribute attribute = {};

	attribute.id = cudaLaunchAttributeClusterDimension;
	attribute.val.clusterDim.x = n;
	attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
	return attribute;
}

/* The same as launch, where `cluster` neighbours along x form a cluster. */
template <typename... Parameters, typename... Arguments>
static void
launch_clusters(struct cuda *c, bool overlap, unsigned cluster, void (*kernel)(Parameters...), dim3 grid, dim3 block,
    size_t shared, Arguments... arguments)
{
	cudaLaunchConfig_t config = {};
	cudaLaunchAttribute attributes[2] = {};

	if (c->failure.code != 0)
		return;
	config.gridDim = grid;
	config.blockDim = block;
	config.dynamicSmemBytes = shared;
	config.stream = c->stream;
	config.attrs = attributes;
	if (overlap && c->overlap) {
		attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
		attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
	}
	if (cluster > 1)
		attributes[config.numAttrs++] = cluster_of(cluster);
	CHECK(c, cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

/*
 * Start a kernel. overlap: it may begin while its predecessor still runs; it
 * then calls wait_for_predecessor before it reads what any kernel wrote.
 */
template <typename... Parameters, typename... Arguments>
static void
launch(struct cuda *c, bool overlap, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
    Arguments... arguments)
{
	launch_clusters(c, overlap, 1, kernel, grid, block, shared, arguments...);
}

/* More shared memory than a kernel gets by itself. */
template <typename Kernel>
static void
allow_shared(struct cuda *c, Kernel kernel, size_t bytes)
{
	if (bytes > 48 * 1024)
		CHECK(c, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
}

static inline unsigned
blocks_for(int64_t n, int64_t each)
{
	return (unsigned)((n + each - 1) / each);
}

/* After this the predecessor is complete; successors begin when this kernel has ended. */
static __device__ __forceinline__ void
wait_alone(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/*
 * Everything before the predecessor's own wait is complete when this kernel
 * runs at all; after this call the predecessor is complete too. Successors may
 * begin only then: so at most two kernels of the stream are ever under way.
 */
static __device__ __forceinline__ void
wait_for_predecessor(void)
{
	wait_alone();
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* c[16, 8] += a[16, 16] b[16, 8]: halves in, floats out; operands spread over the warp as PTX says. */
static __device__ __forceinline__ void
multiply(float *c, const uint32_t *a, uint32_t b0, uint32_t b1)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
	             "{%0, %1, %2, %3};"
	             : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
	             : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* The address of shared memory as instructions take it. */
static __device__ __forceinline__ uint32_t
shared_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/* Four 8 x 8 matrices of halves from shared memory; lane i gives the address of row i % 8 of matrix i / 8. */
static __device__ __forceinline__ void
load_matrices(uint32_t *r, const __half *row)
{
	uint32_t address = shared_address(row);

	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address));
}

/* The same, each matrix transposed. */
static __device__ __forceinline__ void
load_matrices_across(uint32_t *r, const __half *row)
{
	uint32_t address = shared_address(row);

	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address));
}

/* 16 bytes from global to shared memory, on their own; zeros where there is nothing. */
static __device__ __forceinline__ void
copy_async(uint32_t address, const void *global, bool there)
{
	int bytes = there ? 16 : 0;

	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(address), "l"(global), "r"(bytes)
	    : "memory");
}

/* Copies so far form a group; wait until at most `pending` groups are under way. */
static __device__ __forceinline__ void
copy_commit(void)
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int PENDING>
static __device__ __forceinline__ void
copy_wait(void)
{
	asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}

/* Sum and maximum over lanes that differ in the bits of `lanes` (a power of two minus one, or a part of it). */
template <int FROM, int TO>
static __device__ __forceinline__ float
sum_lanes(float x)
{
#pragma unroll
	for (int i = FROM; i <= TO; i *= 2)
		x += __shfl_xor_sync(0xffffffffu, x, i);
	return x;
}

template <int FROM, int TO>
static __device__ __forceinline__ float
max_lanes(float x)
{
#pragma unroll
	for (int i = FROM; i <= TO; i *= 2)
		x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, i));
	return x;
}

/* Halves of a float, within their range: what is too large becomes the largest. NaN stays NaN. */
static __device__ __forceinline__ __half
to_half(float x)
{
	__half_raw h;

	asm("cvt.rn.satfinite.f16.f32 %0, %1;" : "=h"(h.x) : "f"(x));
	return h;
}

static __device__ __forceinline__ uint32_t
to_pair(float x, float y)
{
	uint32_t bits;

	asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(y), "f"(x));
	return bits;
}

/*
 * Halves of a value for a cache. NaN becomes a number there: a token that is
 * not seen has a weight of zero, and zero times NaN would be NaN. The token's
 * key is NaN instead, whose score is not looked at where it is not seen.
 */
static __device__ __forceinline__ __half
to_value(float x)
{
	return to_half(fmaxf(x, -65504.0f));
}

static __device__ __forceinline__ uint32_t
to_value_pair(float x, float y)
{
	return to_pair(fmaxf(x, -65504.0f), fmaxf(y, -65504.0f));
}

static __device__ __forceinline__ bool
is_nan(float x)
{
	return x != x;
}

/* x, or the nearer of -most and most. NaN stays NaN. */
static __device__ __forceinline__ float
limit(float x, float most)
{
	return x > most ? most : x < -most ? -most : x;
}

/* One value, or four of them, of floats or halves. */
static __device__ __forceinline__ float
load_one(const float *x)
{
	return *x;
}

static __device__ __forceinline__ float
load_one(const __half *x)
{
	return __half2float(*x);
}

static __device__ __forceinline__ float4
load_four(const float *x)
{
	return *(const float4 *)x;
}

static __device__ __forceinline__ float4
load_four(const __half *x)
{
	uint2 v = *(const uint2 *)x;
	float2 a = __half22float2(*(__half2 *)&v.x), b = __half22float2(*(__half2 *)&v.y);

	return make_float4(a.x, a.y, b.x, b.y);
}

/* act(x) as the engine's plain path has it. */
static __device__ __forceinline__ float
activation(enum activation act, float x)
{
	if (act == ACT_SILU)
		return __fdividef(x, 1 + __expf(-x));
	if (act == ACT_GELU)
		return 0.5f * x * (1 + erff(x * 0.70710678f));
	return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}

#endif
