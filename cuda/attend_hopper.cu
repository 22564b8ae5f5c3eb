/*
 * Attention of many tokens as attend_many.cu has it, with the instructions that
 * only compute capability 9.0 has: 64 queries times 64 or 128 slots at once,
 * straight from shared memory. The file is compiled for that one alone
 * (-DHOPPER), or is empty.
 */
#include "many.cuh"

#ifdef HOPPER

enum {
	GROUPS = 2,            /* warpgroups of a block: 64 queries each */
	THREADS = GROUPS * 128, ROWS = GROUPS * 64,
	PANEL = 64,            /* halves of a row of shared memory; longer rows have several panels */
};

template <int N> struct integer { };

/* ---- shared memory as the instructions want it: rows of 128 bytes, whose 16-byte pieces are swapped by row */

static __device__ __forceinline__ int
place_of(int rows, int row, int piece)
{
	return piece / 8 * rows * 128 + row * 128 + (piece % 8 ^ row % 8) * 16;
}

/* What an operand's matrix is to the instruction: bytes between groups of 8 rows, and between panels. */
static __device__ __forceinline__ uint64_t
describe(uint32_t address, int panel)
{
	return (uint64_t)(address >> 4 & 0x3fff) | (uint64_t)(panel >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

/* Copies of rows of D halves, `ld` of which are there; row r lies at base + slot(r) * ld, or is zero where that is below 0. */
template <int D, int COUNT, typename Slot>
static __device__ __forceinline__ void
fetch(unsigned char *to, const __half *base, int ld, Slot slot)
{
	const int pieces = D / 8;

#pragma unroll
	for (int i = threadIdx.x; i < COUNT * pieces; i += THREADS) {
		int r = i / pieces, piece = i % pieces, at = slot(r);
		bool there = at >= 0 && piece * 8 < ld;

		copy_async(to + place_of(COUNT, r, piece), there ? base + (int64_t)at * ld + piece * 8 : NULL, there);
	}
}

/* The same for rows that lie one after the other, all of them there and D halves long. */
template <int D, int COUNT>
static __device__ __forceinline__ void
fetch_all(unsigned char *to, const __half *base)
{
	const int pieces = D / 8, step = THREADS / pieces;
	int row = threadIdx.x / pieces, piece = threadIdx.x % pieces;

	to += place_of(COUNT, row, piece);
	base += row * D + piece * 8;
#pragma unroll
	for (int r = 0; r < COUNT; r += step)
		copy_async(to + r * 128, base + r * D, true);
}

/* ---- the instructions */

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
	               FOUR(c[8]), FOUR(c[9]), FOUR(c[10]), FOUR(c[11]), FOUR(c[12]), FOUR(c[13]), FOUR(c[14]), FOUR(c[15])
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
	               FOUR(c[8]), FOUR(c[9]), FOUR(c[10]), FOUR(c[11]), FOUR(c[12]), FOUR(c[13]), FOUR(c[14]), FOUR(c[15])
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

#undef FOUR

static __device__ __forceinline__ void
begin_products(void)
{
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void
end_products(void)
{
	asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
}

/* What copies wrote to shared memory is there for all threads and for the instructions above. */
static __device__ __forceinline__ void
wait_for_copies(void)
{
	copy_wait<0>();
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
	__syncthreads();
}

/* ---- the kernel */

template <int D, int COLUMNS>
struct layout {
	static const int queries = ROWS * D * 2, tile = COLUMNS * D * 2, bytes = queries + 4 * tile;
};

/* D: length of keys and values rounded up. Keys and values of the next tile arrive while one is worked on. */
template <int D, int COLUMNS, int BLOCKS>
static __global__ void __launch_bounds__(THREADS, BLOCKS)
hopper_kernel(const __grid_constant__ many_job j)
{
	typedef layout<D, COLUMNS> L;
	extern __shared__ __align__(1024) unsigned char shared[];
	const struct cache_view &v = j.a.v;
	int group_of_warps = threadIdx.x / 128, row_of_lane = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
	int head_kv = blockIdx.y, group = j.a.n_head / v.n_head_kv, row0 = blockIdx.x * ROWS, rows = j.a.n * group;
	bool plain = j.a.softcap == 0 && j.a.slopes == NULL;
	float unit = plain ? j.a.scale * 1.44269504f : 1.44269504f;
	const __half *k = static_cast<const __half *>(v.k) + (int64_t)head_kv * v.slots * v.k_ld;
	const __half *x = static_cast<const __half *>(v.v) + (int64_t)head_kv * v.slots * v.v_ld;
	float sum[D / 8][4], s[COLUMNS / 8][4], m[2] = { -INFINITY, -INFINITY }, l[2] = { 0, 0 };
	uint32_t queries = shared_address(shared) + group_of_warps * 64 * 128;
	uint32_t tiles = shared_address(shared) + L::queries;
	int64_t first, low, high;
	struct many_range range;

	wait_for_predecessor();
	first = *j.a.first;
	low = first + row0 / group;
	high = first + min((row0 + ROWS - 1) / group, j.a.n - 1);
	range = many_range_of<COLUMNS>(v, low, high);
#pragma unroll
	for (int n = 0; n < D / 8; n++)
		sum[n][0] = sum[n][1] = sum[n][2] = sum[n][3] = 0;

	/* Stage i % 2: keys, then values. */
	auto fetch_tile = [&](int tile) {
		unsigned char *to = shared + L::queries + (tile - range.begin) % 2 * 2 * L::tile;
		auto slot = [&](int r) { return many_slot_of<COLUMNS>(v, range, tile, r); };
		int from = slot(0);

		if (tile >= range.sink_tiles && v.k_ld == D && v.v_ld == D && from + COLUMNS <= v.slots) {
			fetch_all<D, COLUMNS>(to, k + (int64_t)from * D);
			fetch_all<D, COLUMNS>(to + L::tile, x + (int64_t)from * D);
		} else {
			fetch<D, COLUMNS>(to, k, v.k_ld, slot);
			fetch<D, COLUMNS>(to + L::tile, x, v.v_ld, slot);
		}
		copy_commit();
	};
	auto fetch_queries = [&](const __half *from) {
		fetch<D, ROWS>(shared, from, v.k_ld, [&](int r) {
			int at = row0 + r;

			return at >= rows ? -1 : at / group * j.a.n_head + head_kv * group + at % group;
		});
		copy_commit();
	};

	if (range.begin < range.end) {
		fetch_queries(range.begin < range.sink_tiles ? j.q_sink : j.q_window);
		fetch_tile(range.begin);
	}
	for (int tile = range.begin; tile < range.end; tile++) {
		bool sinks = tile < range.sink_tiles, whole;
		int64_t base = sinks ? (int64_t)tile * COLUMNS
		    : v.sinks + (tile - range.sink_tiles + range.ring_first) * COLUMNS;
		uint32_t keys = tiles + (tile - range.begin) % 2 * 2 * L::tile, values = keys + L::tile;
		uint32_t p[2][COLUMNS / 8];

		/* Now everybody is through with the tile before, too. */
		wait_for_copies();
		if (tile > range.begin && tile == range.sink_tiles) {
			fetch_queries(j.q_window);
			wait_for_copies();
		}
		if (tile + 1 < range.end)
			fetch_tile(tile + 1);
		begin_products();
#pragma unroll
		for (int d = 0; d < D; d += 16)
			multiply_shared(s, describe(queries + d / PANEL * ROWS * 128 + d % PANEL * 2, 16),
			    describe(keys + d / PANEL * COLUMNS * 128 + d % PANEL * 2, 16), d, integer<COLUMNS>());
		end_products();
		whole = !sinks && base >= sight_of(v, high).begin && base + COLUMNS - 1 <= low;
#pragma unroll
		for (int r = 0; r < 2; r++) {
			int at = min(row0 + row_of_lane + 8 * r, rows - 1);
			float factor;

			if (!whole || !plain)
				mask_row<COLUMNS>(j, head_kv * group + at % group, first + at / group, sinks, base, plain, s, 2 * r);
			soften_row<COLUMNS / 8>(s, 2 * r, unit, &m[r], &l[r], &factor, p[r]);
#pragma unroll
			for (int n = 0; n < D / 8; n++) {
				sum[n][2 * r] *= factor;
				sum[n][2 * r + 1] *= factor;
			}
		}
		begin_products();
#pragma unroll
		for (int c = 0; c < COLUMNS / 16; c++) {
			uint32_t a[4] = { p[0][2 * c], p[1][2 * c], p[0][2 * c + 1], p[1][2 * c + 1] };

			multiply_weights(sum, a, describe(values + c * 16 * 128, COLUMNS * 128), integer<D>());
		}
		end_products();
	}
#pragma unroll
	for (int r = 0; r < 2; r++) {
		int row = row_of_lane + 8 * r, at = row0 + row;
		int64_t unit_index = ((int64_t)head_kv * gridDim.x + blockIdx.x) * gridDim.z + blockIdx.z;

		if (at < rows)
			put_row<D>(j, at / group, head_kv * group + at % group, sum, 2 * r, m[r] * unit, l[r],
			    j.parts != NULL ? j.parts + (unit_index * ROWS + row) * (D + 2) : NULL);
	}
}

template <int D, int COLUMNS, int BLOCKS>
static void
start(struct cuda *c, struct many_job *j)
{
	const struct cache_view *v = &j->a.v;
	int rows = j->a.n * (j->a.n_head / v->n_head_kv), tiles = (rows + ROWS - 1) / ROWS;
	int splits = count_splits(c, v, (int64_t)tiles * v->n_head_kv, BLOCKS, COLUMNS);

	if (!attend_get_parts(c, j, ROWS, splits, D))
		return;
	allow_shared(c, hopper_kernel<D, COLUMNS, BLOCKS>, layout<D, COLUMNS>::bytes);
	launch(c, true, hopper_kernel<D, COLUMNS, BLOCKS>, dim3(tiles, v->n_head_kv, splits), THREADS,
	    layout<D, COLUMNS>::bytes, *j);
	attend_join(c, j, splits, ROWS, D);
}

bool
attend_hopper(struct cuda *c, const struct many_job *j)
{
	int longest = j->a.v.d_k > j->a.v.d_v ? j->a.v.d_k : j->a.v.d_v;
	struct many_job mine = *j;

	if (!c->hopper || longest > 128 || j->a.n * (j->a.n_head / j->a.v.n_head_kv) < ROWS / 2)
		return false;
	if (longest <= 64)
		start<64, 64, 2>(c, &mine);
	else
		start<128, 128, 1>(c, &mine);
	return true;
}

#else

bool
attend_hopper(struct cuda *c, const struct many_job *j)
{
	(void)c;
	(void)j;
	return false;
}

#endif
