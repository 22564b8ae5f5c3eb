/*
 * How gemv.cu and decode_tma.cu order what warps and bulk copies do to
 * shared memory, in kernels that do nothing else, each beside one whose order
 * is broken on purpose. For tests/racecheck, which builds it: it shows what
 * the checker can see. The program checks results, too.
 */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "product/ring.cuh"

enum { WARPS = 8, DEPTH = 2, BATCHES = 64, BYTES = 4096, PARTS = 2, TILES = 96, BLOCKS = 4, LATE = 20000 };

enum order {
	RING_RELEASED,     /* a warp waits for a batch, reads and releases it, and a lane starts a copy to its place */
	RING_MANY,         /* the same, where each of 16 lanes copies a piece, as half_rows does */
	RING_UNFENCED,     /* no fence between the proxies */
	RING_EARLY,        /* wrong: the copy is started before the batch was read */
	RING_UNWAITED,     /* wrong: batches are read before they are there */
	JOIN_ONE,          /* a warp's first lane arrives for all, behind __syncwarp; a warp joins what all put down */
	JOIN_ALL,          /* every lane arrives */
	JOIN_EARLY,        /* wrong: the first lane arrives before the warp has put anything down */
	JOIN_UNWAITED,     /* wrong: the warp that joins does not wait */
	JOIN_REUSED,       /* wrong: the next parts are put down before the warp that joins has the last ones */
	ORDERS,
};

static const struct {
	const char *name;
	bool right;
} orders[ORDERS] = {
	{ "ring-released", true }, { "ring-many", true }, { "ring-unfenced", true }, { "ring-early", false },
	{ "ring-unwaited", false }, { "join-one", true }, { "join-all", true }, { "join-early", false },
	{ "join-unwaited", false }, { "join-reused", false },
};

/* Let others go ahead. */
static __device__ void
linger(void)
{
	long long begin = clock64();

	while (clock64() - begin < LATE)
		;
}

/* A batch's words, as they follow each other in it, weighted by their place. */
static __device__ uint32_t
digest(uint32_t from, int lane)
{
	uint32_t sum = 0;

	for (int i = 0; i < BYTES / 512; i++) {
		uint4 v = load_shared<uint4>(from + i * 512 + lane * 16);

		sum += (v.x + 3 * v.y + 5 * v.z + 7 * v.w) * (2 * i + 1);
	}
	return sum;
}

template <enum order ORDER>
static __global__ void
ring_kernel(const char *data, uint32_t *sums)
{
	extern __shared__ __align__(128) unsigned char shared[];
	__shared__ uint64_t barriers[WARPS * DEPTH];
	int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	uint32_t ring = shared_address(shared) + warp * DEPTH * BYTES;
	uint32_t barrier = shared_address(barriers + warp * DEPTH);
	int64_t first = (int64_t)(blockIdx.x * WARPS + warp) * BATCHES;
	uint32_t sum = 0;

	auto load = [&](int batch) {
		uint32_t to = ring + batch % DEPTH * BYTES, counts = barrier + batch % DEPTH * 8;

		if (batch >= BATCHES)
			return;
		batch_begin(counts, BYTES);
		if (ORDER == RING_MANY)
			batch_copy_rows(to, BYTES / 16, data + (first + batch) * BYTES, BYTES / 16, 16, BYTES / 16,
			    counts);
		else
			batch_copy(to, data + (first + batch) * BYTES, BYTES, counts);
		batch_end();
	};

	if (lane == 0)
		batch_init(barrier, DEPTH);
	__syncwarp();
	for (int i = 0; i < DEPTH; i++)
		load(i);
	for (int i = 0; i < BATCHES; i++) {
		if (ORDER != RING_UNWAITED)
			batch_wait(barrier + i % DEPTH * 8, i / DEPTH, DEPTH);
		if (ORDER == RING_EARLY) {
			load(i + DEPTH);
			linger();
		}
		sum = sum * 31 + digest(ring + i % DEPTH * BYTES, lane);
		if (ORDER == RING_UNFENCED || ORDER == RING_UNWAITED)
			__syncwarp();
		else
			release_shared();
		/* Its phase is over before the next one is expected. */
		if (ORDER == RING_UNWAITED)
			batch_wait(barrier + i % DEPTH * 8, i / DEPTH, DEPTH);
		if (ORDER != RING_EARLY)
			load(i + DEPTH);
	}
	sums[(blockIdx.x * WARPS + warp) * 32 + lane] = sum;
}

/* What a lane puts down for a tile. */
static __host__ __device__ uint32_t
part_of(int block, int tile, int warp, int lane)
{
	return (uint32_t)(block * 7919 + tile * 104729 + warp * 1299709 + lane * 15485863);
}

template <enum order ORDER>
static __global__ void
join_kernel(uint32_t *results)
{
	__shared__ uint32_t part[PARTS][WARPS][32];
	__shared__ uint64_t met[PARTS];
	int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

	if (threadIdx.x < PARTS)
		barrier_init(shared_address(met + threadIdx.x), ORDER == JOIN_ALL ? WARPS * 32 : WARPS);
	__syncthreads();
	for (int tile = 0; tile < TILES; tile++) {
		bool mine = tile % WARPS == warp;
		uint32_t here = shared_address(met + tile % PARTS), before = shared_address(met + (tile + 1) % PARTS);

		auto reuse = [&]() {
			if (tile >= PARTS)
				barrier_wait(before, (tile + 1 - PARTS) / PARTS);
		};
		auto arrive = [&]() {
			if (ORDER == JOIN_ALL || lane == 0)
				barrier_arrive(here);
		};

		if (ORDER != JOIN_REUSED)
			reuse();
		if (ORDER == JOIN_EARLY)
			arrive();
		if (ORDER == JOIN_EARLY || (ORDER == JOIN_UNWAITED && !mine))
			linger();
		part[tile % PARTS][warp][lane] = part_of(blockIdx.x, tile, warp, lane);
		if (ORDER == JOIN_REUSED)
			reuse();
		if (ORDER != JOIN_ALL)
			__syncwarp();
		if (ORDER != JOIN_EARLY)
			arrive();
		if (!mine)
			continue;
		if (ORDER != JOIN_UNWAITED)
			barrier_wait(here, tile / PARTS);
		if (ORDER == JOIN_REUSED)
			linger();
		for (int row = lane; row < 32; row += 32) {
			uint32_t sum = 0;

			/* Of all lanes' parts this one takes those of another lane. */
			for (int i = 0; i < WARPS; i++)
				sum = sum * 31 + part[tile % PARTS][i][31 - row];
			results[(blockIdx.x * TILES + tile) * 32 + row] = sum;
		}
	}
}

static void
must(cudaError_t r)
{
	if (r == cudaSuccess)
		return;
	fprintf(stderr, "orders: %s\n", cudaGetErrorString(r));
	exit(EX_SOFTWARE);
}

template <enum order ORDER>
static void
run(const char *data, uint32_t *results)
{
	const int bytes = WARPS * DEPTH * BYTES;

	if constexpr (ORDER < JOIN_ONE) {
		must(cudaFuncSetAttribute(ring_kernel<ORDER>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
		ring_kernel<ORDER><<<BLOCKS, WARPS * 32, bytes>>>(data, results);
	} else {
		join_kernel<ORDER><<<BLOCKS, WARPS * 32>>>(results);
	}
	must(cudaGetLastError());
	must(cudaDeviceSynchronize());
}

/* One order after the other, from ORDER on, until it is the one that is meant. */
template <int ORDER>
static void
start(int order, const char *data, uint32_t *results)
{
	if constexpr (ORDER < ORDERS) {
		if (order == ORDER)
			run<(enum order)ORDER>(data, results);
		else
			start<ORDER + 1>(order, data, results);
	}
}

static uint32_t
expected_of_ring(const uint32_t *data, int warp, int lane)
{
	uint32_t sum = 0;

	for (int batch = 0; batch < BATCHES; batch++) {
		const uint32_t *v = data + ((int64_t)warp * BATCHES + batch) * (BYTES / 4) + lane * 4;
		uint32_t part = 0;

		for (int i = 0; i < BYTES / 512; i++, v += 128)
			part += (v[0] + 3 * v[1] + 5 * v[2] + 7 * v[3]) * (uint32_t)(2 * i + 1);
		sum = sum * 31 + part;
	}
	return sum;
}

static uint32_t
expected_of_join(int at)
{
	uint32_t sum = 0;

	for (int i = 0; i < WARPS; i++)
		sum = sum * 31 + part_of(at / 32 / TILES, at / 32 % TILES, i, 31 - at % 32);
	return sum;
}

int
main(int argc, char **argv)
{
	const size_t words = (size_t)BLOCKS * WARPS * BATCHES * BYTES / 4;
	int order = 0, n, wrong = 0;
	static uint32_t host[BLOCKS * TILES * 32];
	uint32_t *data = (uint32_t *)malloc(words * 4), *results, seed = 1;
	char *copy;

	while (order < ORDERS && (argc != 2 || strcmp(argv[1], orders[order].name) != 0))
		order++;
	if (order == ORDERS || data == NULL) {
		fprintf(stderr, "usage: orders NAME\nnames:");
		for (int i = 0; i < ORDERS; i++)
			fprintf(stderr, " %s", orders[i].name);
		fprintf(stderr, "\n");
		return EX_USAGE;
	}
	n = order < JOIN_ONE ? BLOCKS * WARPS * 32 : BLOCKS * TILES * 32;
	for (size_t i = 0; i < words; i++)
		data[i] = seed = seed * 1664525 + 1013904223;
	must(cudaMalloc(&copy, words * 4));
	must(cudaMalloc(&results, sizeof host));
	must(cudaMemcpy(copy, data, words * 4, cudaMemcpyHostToDevice));
	must(cudaMemset(results, 0xff, sizeof host));
	start<0>(order, copy, results);
	must(cudaMemcpy(host, results, sizeof host, cudaMemcpyDeviceToHost));
	for (int i = 0; i < n; i++)
		wrong += host[i] != (order < JOIN_ONE ? expected_of_ring(data, i / 32, i % 32) : expected_of_join(i));
	printf("%s: %d of %d results are wrong\n", orders[order].name, wrong, n);
	free(data);
	return (wrong == 0) == orders[order].right ? 0 : 1;
}
