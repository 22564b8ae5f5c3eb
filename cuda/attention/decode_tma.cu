/*
 * Attention of a few tokens as decode.cu has it, over a long cache in
 * halves: boxes of 16 slots are on their way to shared memory, several for each
 * warp, while it works on one. For what a cluster cannot join, on GPUs of
 * compute capability 9.0 and later.
 */
#include "attention/tma.cuh"
#include "attention/decode_join.cuh"
#include "attention/decode_queries.cuh"
#include "attention/decode_steps.cuh"

/* A layer's keys and values as copies see them, see describe_slots. */
struct tma_source {
	CUtensorMap k, v;
};

/* Shared memory of a block: what decode.cu has, and behind it [WARPS][STAGES] steps, keys and then values. */
template <int D>
struct tma_tiles {
	enum { STAGES = 3, ALIGNMENT = 1024, KEYS = COLUMNS * D * 2, STEP = 2 * KEYS };

	static size_t
	bytes(int n, int rows_used)
	{
		return layout<D, D>::bytes(n, rows_used) + ALIGNMENT + WARPS * STAGES * STEP;
	}
};

/* A tile's queries of one form (0: for the window, 1: for sinks) as operands of products. */
template <int D>
static __device__ __forceinline__ void
take_queries(const __half *queries, int form, uint32_t (*q)[4])
{
	const int ld = layout<D, D>::q_ld;
	int lane = threadIdx.x % 32;
	const __half *row = queries + (form * ROWS + lane % 16) * ld + lane / 16 * 8;

#pragma unroll
	for (int c = 0; c < D / 16; c++)
		load_matrices(q[c], row + 16 * c);
}

/* Scores of 16 queries and the 16 keys of a stage: s[i] are those of keys 8 i .. 8 i + 7. */
template <int D>
static __device__ __forceinline__ void
score_step(const unsigned char *batch, const uint32_t (*q)[4], float (*s)[4])
{
	int lane = threadIdx.x % 32, row = lane % 8 + lane / 16 * 8, piece = lane / 8 % 2;
	float odd[2][4] = { };

#pragma unroll
	for (int c = 0; c < D / 16; c++) {
		float (*to)[4] = c % 2 == 0 ? s : odd;
		uint32_t k[4];

		load_matrices(k, reinterpret_cast<const __half *>(batch + place_of(COLUMNS, row, 2 * c + piece)));
		multiply(to[0], q[c], k[0], k[1]);
		multiply(to[1], q[c], k[2], k[3]);
	}
#pragma unroll
	for (int i = 0; i < 2; i++)
#pragma unroll
		for (int k = 0; k < 4; k++)
			s[i][k] += odd[i][k];
}

/*
 * sum += weights p of 16 queries and slots times the values of a stage; sum[k][i] is elements 64 k + 8 i and following.
 */
template <int D>
static __device__ __forceinline__ void
add_step(const unsigned char *batch, const uint32_t *p, float (*sum)[8][4])
{
	int lane = threadIdx.x % 32, row = lane % 16, piece = lane / 16;

#pragma unroll
	for (int n = 0; n < D / 8; n += 2) {
		uint32_t v[4];

		load_matrices_across(v, reinterpret_cast<const __half *>(batch + place_of(COLUMNS, row, n + piece)));
		multiply(sum[n / 8][n % 8], p, v[0], v[1]);
		multiply(sum[n / 8][n % 8 + 1], p, v[2], v[3]);
	}
}

/*
 * The first n of all new keys and values, which this kernel stores too late for
 * a stage that has this place among them. All lanes see them afterwards, and later
 * copies to the same place come after them.
 */
template <int D>
static __device__ __forceinline__ void
renew_step(unsigned char *batch, const __half *fresh, int place, int n, int all)
{
	int lane = threadIdx.x % 32;

	for (int i = max(0, -place); i < COLUMNS && place + i < n; i++)
		for (int piece = lane; piece < D / 4; piece += 32) {
			bool value = piece >= D / 8;
			const __half *from = fresh + ((value ? all : 0) + place + i) * D + piece % (D / 8) * 8;

			*reinterpret_cast<uint4 *>(batch + (value ? tma_tiles<D>::KEYS : 0) +
			    place_of(COLUMNS, i, piece % (D / 8))) =
			    *reinterpret_cast<const uint4 *>(from);
		}
	publish_shared();
	__syncwarp();
}

template <int D>
static __global__ void __launch_bounds__(WARPS * 32, blocks_at_once(D))
decode_tma_kernel(const __grid_constant__ decode_job j, const __grid_constant__ tma_source source)
{
	extern __shared__ __align__(16) unsigned char shared[];
	__shared__ uint64_t arrived[WARPS * tma_tiles<D>::STAGES];
	__shared__ bool joins;
	const int STAGES = tma_tiles<D>::STAGES;
	__half *queries = reinterpret_cast<__half *>(shared);
	float *stage = reinterpret_cast<float *>(shared + layout<D, D>::q_bytes);
	__half *fresh = reinterpret_cast<__half *>(shared + layout<D, D>::fresh_at);
	float *merge = reinterpret_cast<float *>(shared);
	const struct cache_view &v = j.a.v;
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
	int head_kv = blockIdx.z, tile = blockIdx.y, group = j.a.n_head / v.n_head_kv, form = -1;
	int row_low = tile * ROWS / group, row_high = min((tile * ROWS + ROWS - 1) / group, j.a.n - 1);
	uint32_t barriers = shared_address(arrived + warp * STAGES);
	unsigned char *steps = shared + layout<D, D>::bytes(j.a.n, j.rows_used);
	int64_t first;
	uint32_t q[D / 16][4];
	float sum[D / 64][8][4] = { };
	struct row_state st;
	struct range range = {};
	unsigned ticket = 0;

	/* Swapping goes by the address: a step begins where its pattern does. */
	steps += (tma_tiles<D>::ALIGNMENT - shared_address(steps) % tma_tiles<D>::ALIGNMENT) % tma_tiles<D>::ALIGNMENT +
	    warp * STAGES * tma_tiles<D>::STEP;

	/* A step's keys and values to stage i, which is new or was released. */
	auto load_step = [&](int64_t step, int i) {
		uint32_t to = shared_address(steps) + i * tma_tiles<D>::STEP, barrier = barriers + i * 8;
		int slot = (int)step * COLUMNS;

		if (step >= range.end || lane != 0)
			return;
		if (step >= range.sink_steps) {
			int64_t at = (step - range.sink_steps + range.ring_start) * COLUMNS;

			slot = (int)(v.sink_slots + at - (at >= v.ring ? v.ring : 0));
		}
		barrier_arrive_expecting(barrier, tma_tiles<D>::STEP);
		for (int d = 0; d < D; d += PANEL) {
			copy_tile(to + d / PANEL * COLUMNS * 128, &source.k, d, slot, head_kv, barrier);
			copy_tile(to + tma_tiles<D>::KEYS + d / PANEL * COLUMNS * 128, &source.v, d, slot, head_kv,
			    barrier);
		}
	};

	if (lane == 0) {
		for (int i = 0; i < STAGES; i++)
			barrier_init(barriers + i * 8, 1);
		publish_shared();
	}
	__syncwarp();
	first = __ldcg(j.a.first);
	range = range_of(v, first + row_low, first + row_high);
	/* What was stored by other kernels of the pass has to wait, what this one stores is renewed. */
	if (j.fused)
		load_step(range.begin + warp, 0);
	clear_queries<D, D>(j, queries);
	begin_rows(j, st, tile, head_kv, group, first);
	wait_for_predecessor();
	if (range.begin < range.end)
		prepare<D, D>(j, range, tile, head_kv, group, first, queries, stage, fresh);
	for (int i = j.fused ? 1 : 0; i < STAGES; i++)
		load_step(range.begin + warp + i * WARPS, i);
	__syncthreads();
	draw_ticket(j, range.begin >= range.end, tile, head_kv, &ticket);
	for (int64_t step = range.begin + warp, turn = 0; step < range.end; step += WARPS, turn++) {
		bool sinks = step < range.sink_steps;
		int base = base_of_step(v, range, step, sinks, first), i = turn % STAGES;
		int place, renewed = new_in_step(j, sinks, base, first, &place);
		unsigned char *batch = steps + i * tma_tiles<D>::STEP;
		float s[2][4] = { };
		uint32_t p[4];

		draw_ticket(j, step + WARPS >= range.end, tile, head_kv, &ticket);
		if (form != (int)sinks)
			take_queries<D>(queries, form = sinks, q);
		barrier_wait(barriers + i * 8, (int)(turn / STAGES));
		if (j.fused && renewed > 0)
			renew_step<D>(batch, fresh, place, renewed, j.a.n);
		score_step<D>(batch, q, s);
		soften_step<D>(j.a, st, sinks, base, j.rows_used, s, sum, p);
		add_step<D>(batch + tma_tiles<D>::KEYS, p, sum);
		release_shared();
		load_step(step + STAGES * WARPS, i);
	}
	/* the warps' parts meet in shared memory */
	__syncthreads();
#pragma unroll
	for (int r = 0; r < 2; r++) {
		float *to = merge + (warp * j.rows_used + g + 8 * r) * (D + 2);

		st.l[r] = sum_lanes<1, 2>(st.l[r]);
		if (g + 8 * r >= j.rows_used)
			continue;
#pragma unroll
		for (int k = 0; k < D / 64; k++)
#pragma unroll
			for (int i = 0; i < 8; i++)
				*reinterpret_cast<float2 *>(to + 64 * k + 8 * i + 2 * t) =
				    make_float2(sum[k][i][2 * r], sum[k][i][2 * r + 1]);
		if (t == 0) {
			to[D] = st.m[r];
			to[D + 1] = st.l[r];
		}
	}
	if (threadIdx.x == 0)
		joins = ticket == gridDim.x - 1;
	__syncthreads();
	finish_block<D, false>(j, tile, head_kv, group, merge, joins, {}, NULL);
}

template <int D>
static bool
attend_decode_tma_start(struct cuda *c, const struct decode_job *j, dim3 grid)
{
	const struct cache_view *v = &j->a.v;
	struct tma_source source = {};
	size_t shared = tma_tiles<D>::bytes(j->a.n, j->rows_used);

	if (shared > c->shared || !describe_slots(&source.k, v, v->k, v->k_ld, COLUMNS) ||
	    !describe_slots(&source.v, v, v->v, v->v_ld, COLUMNS))
		return false;
	allow_shared(c, decode_tma_kernel<D>, shared);
	launch(c, true, decode_tma_kernel<D>, grid, WARPS * 32, shared, *j, source);
	return true;
}

bool
attend_decode_tma(struct cuda *c, const struct decode_job *j, dim3 grid)
{
	int longest = j->a.v.d_k > j->a.v.d_v ? j->a.v.d_k : j->a.v.d_v;

	if (!c->overlap || j->a.v.type != KV_F16 || longest > 128)
		return false;
	return longest <= 64 ? attend_decode_tma_start<64>(c, j, grid) : attend_decode_tma_start<128>(c, j, grid);
}
