/*
 * Attention of many tokens as prefill.cu has it, with the instructions that
 * only compute capability 9.0 has (-DHOPPER; else the file is empty). One thread
 * of a block fetches tiles of keys and values, warpgroups work on 64 queries
 * each: the next tile's products run while one is at the softmax of this tile,
 * and the others' meanwhile (FlashAttention-3, Shah et al. 2024, section 3).
 */
#include "attention/prefill_hopper.cuh"
#include "attention/prefill.cuh"

#ifdef HOPPER

enum {
	/* threads of the warpgroup that fetches: one does it, the registers of all go to the others */
	FETCHING = 128,
	/* numbers of barriers among warps; warpgroup i has the i-th from there on */
	BARRIER_QUERIES = 1, BARRIER_TURN = 4,
};

/*
 * A block: GROUPS warpgroups that compute, 64 queries each, with keys and values
 * of D halves (or fewer), tiles of COLUMNS slots. Shared memory has the queries,
 * STAGES tiles of keys and of values, and barriers.
 */
template <int D_, int COLUMNS_, int GROUPS_, int STAGES_>
struct shape {
	enum {
		D = D_, COLUMNS = COLUMNS_, GROUPS = GROUPS_, STAGES = STAGES_,
		COMPUTING = GROUPS * 128, THREADS = COMPUTING + FETCHING, ROWS = GROUPS * 64,
		QUERIES = ROWS * D * 2, TILE = COLUMNS * D * 2,
		KEYS_AT = QUERIES, VALUES_AT = KEYS_AT + STAGES * TILE, BARRIERS_AT = VALUES_AT + STAGES * TILE,
		BYTES = BARRIERS_AT + 4 * STAGES * 8,
		/* of 65,536 registers, in eights for a thread */
		REGISTERS_FETCHING = GROUPS == 2 ? 40 : 32, REGISTERS_COMPUTING = GROUPS == 2 ? 232 : 160,
	};
};

/*
 * Tiles of keys, or of values, on their way: the i-th one lies in stage
 * i % STAGES, which is `full` once it has arrived, and `empty` when all warps
 * that compute are through with it.
 */
template <typename S>
struct stages {
	uint32_t tiles, full, empty;     /* addresses in shared memory */
};

template <typename S>
static __device__ __forceinline__ stages<S>
stages_at(uint32_t tiles, uint32_t barriers)
{
	stages<S> t = { tiles, barriers, barriers + S::STAGES * 8 };

	return t;
}

template <typename S>
static __device__ __forceinline__ void
init_stages(const stages<S> &t)
{
	for (int i = 0; i < S::STAGES; i++) {
		barrier_init(t.full + i * 8, 1);
		barrier_init(t.empty + i * 8, S::COMPUTING / 32);
	}
}

template <typename S>
static __device__ __forceinline__ uint32_t
attend_hopper_stage_of(const stages<S> &t, int i)
{
	return t.tiles + i % S::STAGES * S::TILE;
}

template <typename S>
static __device__ __forceinline__ void
wait_full(const stages<S> &t, int i)
{
	barrier_wait(t.full + i % S::STAGES * 8, i / S::STAGES);
}

template <typename S>
static __device__ __forceinline__ void
wait_empty(const stages<S> &t, int i)
{
	barrier_wait(t.empty + i % S::STAGES * 8, i / S::STAGES - 1);
}

template <typename S>
static __device__ __forceinline__ void
arrive_empty(const stages<S> &t, int i)
{
	if (threadIdx.x % 32 == 0)
		barrier_arrive(t.empty + i % S::STAGES * 8);
}

/* ---- fetching */

/*
 * A layer's keys and values as bulk copies see them: [head][slot][element], in boxes of `rows` slots, PANEL elements.
 */
struct tile_source {
	CUtensorMap k, v;
	int rows;
};

/* One thread has all tiles fetched. Keys run ahead of values by one, as their products do. */
template <typename S>
static __device__ __forceinline__ void
fetch_tiles(const struct prefill_job &j, const struct prefill_block &b, const tile_source &source,
    const stages<S> &keys, const stages<S> &values)
{
	int n = b.range.end - b.range.begin;

	auto fetch_tile = [&](const stages<S> &t, int i, const CUtensorMap *map) {
		uint32_t to = attend_hopper_stage_of(t, i), full = t.full + i % S::STAGES * 8;

		wait_empty(t, i);
		barrier_arrive_expecting(full, S::TILE);
		for (int r = 0; r < S::COLUMNS; r += source.rows) {
			int slot = prefill_slot_of<S::COLUMNS>(j.a.v, b.range, b.range.begin + i, r);

			for (int d = 0; d < S::D; d += PANEL)
				copy_tile(to + d / PANEL * S::COLUMNS * 128 + r * 128, map, d, slot, b.head_kv, full);
		}
	};

	for (int i = 0; i <= n; i++) {
		if (i < n)
			fetch_tile(keys, i, &source.k);
		if (i > 0)
			fetch_tile(values, i - 1, &source.v);
	}
}

/*
 * A warpgroup starts to fetch its queries, zeros where there are none, once all
 * of it is through with the ones before.
 */
template <typename S>
static __device__ __forceinline__ void
begin_queries(const struct prefill_job &j, const struct prefill_block &b, int group, const __half *from, uint32_t to)
{
	const int pieces = S::D / 8, step = 128 / pieces;
	int piece = threadIdx.x % pieces, ld = j.a.v.k_ld;

	warps_sync(BARRIER_QUERIES + group, 128);
#pragma unroll 4
	for (int r = threadIdx.x % 128 / pieces; r < 64; r += step) {
		int query = prefill_query_of(j, b, group * 64 + r);
		bool there = query >= 0 && piece * 8 < ld;

		copy_async(to + place_of(S::ROWS, group * 64 + r, piece), there ? from + (int64_t)query * ld + piece * 8
		    : NULL, there);
	}
	copy_commit();
}

/* They are there. */
static __device__ __forceinline__ void
end_queries(int group)
{
	copy_wait<0>();
	publish_shared();
	warps_sync(BARRIER_QUERIES + group, 128);
}

/* ---- computing */

/* What a thread has of its warpgroup's rows r = 0, 1 (8 apart) of a tile. */
template <typename S>
struct share {
	float s[S::COLUMNS / 8][4];      /* scores, then weights */
	uint32_t p[S::COLUMNS / 16][4];  /* weights as operands, of the tile whose values are multiplied */
	float sum[S::D / 8][4];
	float largest[2], weights[2], factor[2];
	int row;                         /* of the block */
};

template <typename S>
static __device__ __forceinline__ void
attend_hopper_clear(share<S> &t)
{
#pragma unroll
	for (int r = 0; r < 2; r++) {
		t.largest[r] = -INFINITY;
		t.weights[r] = 0;
	}
#pragma unroll
	for (int d = 0; d < S::D / 8; d++)
		t.sum[d][0] = t.sum[d][1] = t.sum[d][2] = t.sum[d][3] = 0;
	t.row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
}

/* Start scores = queries keys^T. */
template <typename S>
static __device__ __forceinline__ void
begin_scores(share<S> &t, uint32_t queries, uint32_t keys)
{
	uint64_t a = describe(queries, 16), b = describe(keys, 16);

	begin_products();
#pragma unroll
	for (int d = 0; d < S::D; d += 16)
		multiply_shared(t.s, a + (d / PANEL * S::ROWS * 128 + d % PANEL * 2) / 16,
		    b + (d / PANEL * S::COLUMNS * 128 + d % PANEL * 2) / 16, d, integer<S::COLUMNS>());
	commit_products();
}

/* Start sums += weights values. */
template <typename S>
static __device__ __forceinline__ void
begin_sums(share<S> &t, uint32_t values)
{
	uint64_t b = describe(values, S::COLUMNS * 128);

	begin_products();
#pragma unroll
	for (int c = 0; c < S::COLUMNS / 16; c++)
		multiply_weights(t.sum, t.p[c], b + c * 16 * 128 / 16, integer<S::D>());
	commit_products();
}

/* The tile's scores become weights. */
template <bool PLAIN, typename S>
static __device__ __forceinline__ void
soften(const struct prefill_job &j, const struct prefill_block &b, int tile, share<S> &t)
{
	mask_tile<S::COLUMNS, PLAIN>(j, b, t.row, tile, t.s);
#pragma unroll
	for (int r = 0; r < 2; r++)
		soften_row<S::COLUMNS / 8>(t.s, 2 * r, b.unit, &t.largest[r], &t.weights[r], &t.factor[r]);
	compute_before(t.weights[0]);
	compute_before(t.weights[1]);
}

/* No product is under way: the weights become operands, and the sums relative to the same largest score. */
template <typename S>
static __device__ __forceinline__ void
turn_to_values(share<S> &t)
{
	hold(t.s);
#pragma unroll
	for (int c = 0; c < S::COLUMNS / 16; c++)
		pack_weights(t.s, 2 * c, t.p[c]);
#pragma unroll
	for (int d = 0; d < S::D / 8; d++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			t.sum[d][e] *= t.factor[e / 2];
}

/*
 * A warpgroup's part of the block's tiles. The scores of one are computed with
 * the sums of the one before; the warpgroups start these products in turn.
 */
template <bool PLAIN, typename S>
static __device__ __forceinline__ void
attend_hopper_compute(const struct prefill_job &j, const struct prefill_block &b, uint32_t queries,
    const stages<S> &keys, const stages<S> &values)
{
	int group = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0), next = (group + 1) % S::GROUPS;
	int n = b.range.end - b.range.begin;
	uint32_t rows = queries + group * 64 * 128;
	share<S> t;

	/* After the sinks' last tile the window's queries take the place of theirs. */
	auto turn_to_window = [&](int i) {
		if (i + 1 < n && b.range.begin + i + 1 == b.range.sink_tiles)
			begin_queries<S>(j, b, group, j.q_window, queries);
	};

	attend_hopper_clear(t);
	if (n > 0) {
		begin_queries<S>(j, b, group, b.range.begin < b.range.sink_tiles ? j.q_sink : j.q_window, queries);
		end_queries(group);
		wait_full(keys, 0);
		begin_scores(t, rows, attend_hopper_stage_of(keys, 0));
		wait_for_products<0>();
		hold(t.s);
		arrive_empty(keys, 0);
		turn_to_window(0);
		soften<PLAIN>(j, b, b.range.begin, t);
		turn_to_values(t);
	}
	if (n > 1 && next == 0)
		warps_arrive(BARRIER_TURN, 256);
	for (int i = 1; i < n; i++) {
		if (b.range.begin + i == b.range.sink_tiles)
			end_queries(group);
		wait_full(keys, i);
		warps_sync(BARRIER_TURN + group, 256);
		begin_scores(t, rows, attend_hopper_stage_of(keys, i));
		wait_full(values, i - 1);
		begin_sums(t, attend_hopper_stage_of(values, i - 1));
		if (next > 0 || i + 1 < n)
			warps_arrive(BARRIER_TURN + next, 256);
		wait_for_products<1>();
		hold(t.s);
		arrive_empty(keys, i);
		soften<PLAIN>(j, b, b.range.begin + i, t);
		wait_for_products<0>();
		hold(t.sum);
		arrive_empty(values, i - 1);
		turn_to_values(t);
		turn_to_window(i);
	}
	if (n > 0) {
		wait_full(values, n - 1);
		begin_sums(t, attend_hopper_stage_of(values, n - 1));
		wait_for_products<0>();
		hold(t.sum);
	}
#pragma unroll
	for (int r = 0; r < 2; r++)
		put_row<S::D, S::ROWS>(j, b, t.row + 8 * r, t.sum, 2 * r, t.largest[r] * b.unit, t.weights[r]);
}

/* ---- the kernel */

template <typename S, bool PLAIN>
static __global__ void __launch_bounds__(S::THREADS, 1)
hopper_kernel(const __grid_constant__ prefill_job j, const __grid_constant__ tile_source source)
{
	extern __shared__ __align__(1024) unsigned char shared[];
	uint32_t queries = shared_address(shared);
	stages<S> keys = stages_at<S>(queries + S::KEYS_AT, queries + S::BARRIERS_AT);
	stages<S> values = stages_at<S>(queries + S::VALUES_AT, queries + S::BARRIERS_AT + 2 * S::STAGES * 8);
	const struct prefill_block b = prefill_block_of<S::ROWS, S::COLUMNS, PLAIN>(j);

	if (threadIdx.x == 0) {
		init_stages(keys);
		init_stages(values);
		publish_shared();
	}
	__syncthreads();
	if (threadIdx.x >= S::COMPUTING) {
		give_registers<S::REGISTERS_FETCHING>();
		if (threadIdx.x == S::COMPUTING)
			fetch_tiles(j, b, source, keys, values);
	} else {
		take_registers<S::REGISTERS_COMPUTING>();
		attend_hopper_compute<PLAIN>(j, b, queries, keys, values);
	}
}

template <typename S>
static bool
attend_hopper_start(struct cuda *c, struct prefill_job *j)
{
	const struct cache_view *v = &j->a.v;
	int rows = j->a.n * (j->a.n_head / v->n_head_kv), tiles = (rows + S::ROWS - 1) / S::ROWS;
	int splits = count_splits(c, v, (int64_t)tiles * v->n_head_kv, 1, S::COLUMNS);
	void (*kernel)(struct prefill_job, struct tile_source) =
	    is_plain(j) ? hopper_kernel<S, true> : hopper_kernel<S, false>;
	struct tile_source source = {};

	/* No box crosses the end of the ring. */
	source.rows = S::COLUMNS;
	while (v->ring % source.rows != 0)
		source.rows /= 2;
	if (rows < 64 || !describe_slots(&source.k, v, v->k, v->k_ld, source.rows) ||
	    !describe_slots(&source.v, v, v->v, v->v_ld, source.rows))
		return false;
	if (attend_get_parts(c, j, S::ROWS, splits, S::D)) {
		allow_shared(c, kernel, S::BYTES);
		launch(c, true, kernel, dim3(tiles, v->n_head_kv, splits), S::THREADS, S::BYTES, *j, source);
		attend_join(c, j, splits, S::ROWS, S::D);
	}
	return true;
}

bool
attend_hopper(struct cuda *c, const struct prefill_job *j)
{
	int longest = j->a.v.d_k > j->a.v.d_v ? j->a.v.d_k : j->a.v.d_v;
	struct prefill_job mine = *j;

	if (!c->hopper || longest > 128)
		return false;
	return longest <= 64 ? attend_hopper_start<shape<64, 64, 3, 6>>(c, &mine) : attend_hopper_start<shape<128, 128,
	    2, 3>>(c, &mine);
}

#else

bool
attend_hopper(struct cuda *c, const struct prefill_job *j)
{
	(void)c;
	(void)j;
	return false;
}

#endif
