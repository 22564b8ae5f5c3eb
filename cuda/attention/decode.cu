/*
 * Attention of a few tokens over a cache in halves or 8 bits, at the speed of
 * memory: the slots are split among blocks and their warps, which take 16 at a
 * time straight into the operands of tensor core products. The blocks of a head
 * join their parts as a cluster, or one of the last of them does. Queries and
 * keys may be rotated, and keys and values stored, on the way. The order of sums
 * depends on positions alone.
 */
#include "attention/decode_join.cuh"
#include "attention/decode_queries.cuh"
#include "attention/decode_steps.cuh"

/* Eight elements of a key or value, as halves; nothing beyond the row's end. */
template <bool BYTES>
static __device__ __forceinline__ uint4
load_eight(const void *base, const __half *scales, int64_t row, int ld, int d)
{
	uint4 h = make_uint4(0, 0, 0, 0);
	uint2 b;
	__half2 s;

	if (d >= ld)
		return h;
	if (!BYTES)
		return __ldcg((const uint4 *)(static_cast<const __half *>(base) + row * ld + d));
	b = __ldcg((const uint2 *)(static_cast<const int8_t *>(base) + row * ld + d));
	s = __half2half2(__ldcg(scales + (row * ld + d) / 32));
	b.x ^= 0x80808080;
	b.y ^= 0x80808080;
	h.x = bits_of(__hmul2(biased_pair(b.x, 0, 1), s));
	h.y = bits_of(__hmul2(biased_pair(b.x, 2, 3), s));
	h.z = bits_of(__hmul2(biased_pair(b.y, 0, 1), s));
	h.w = bits_of(__hmul2(biased_pair(b.y, 2, 3), s));
	return h;
}

/* DK and DV: lengths rounded up, DK to 32 and DV to 64 elements. */
template <int DK, int DV, bool BYTES, bool CLUSTER>
static __global__ void __launch_bounds__(WARPS * 32, blocks_at_once(DK))
decode_kernel(const __grid_constant__ decode_job j)
{
	extern __shared__ __align__(16) unsigned char shared[];
	__shared__ uint64_t barrier;
	__shared__ bool joins;
	const int q_ld = layout<DK, DV>::q_ld;
	__half *queries = reinterpret_cast<__half *>(shared);
	float *stage = reinterpret_cast<float *>(shared + layout<DK, DV>::q_bytes);
	__half *fresh = reinterpret_cast<__half *>(shared + layout<DK, DV>::fresh_at);
	float *merge = reinterpret_cast<float *>(shared);
	const struct cache_view &v = j.a.v;
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
	int head_kv = blockIdx.z, tile = blockIdx.y, group = j.a.n_head / v.n_head_kv;
	int64_t first, low, high, head_rows = (int64_t)head_kv * v.slots;
	int row_low = tile * ROWS / group, row_high = min((tile * ROWS + ROWS - 1) / group, j.a.n - 1);
	float sum[DV / 64][8][4];
	uint4 keys[2][DK / 32], values[4][DV / 64];
	struct row_state st;
	struct range range = {};
	/*
	 * What was stored before is on its way while the queries are prepared. What this kernel stores is in shared
	 * memory then, as it will be read: halves take the place of whatever lay there. Bytes are read again.
	 */
	const bool keeps = !BYTES && j.fused;
	bool early = false;
	unsigned ticket = 0;

	/* The row of a step's first slot, and the keys and values of the step as operands. */
	auto row_of = [&](int64_t step) {
		int64_t at = (step - range.sink_steps + range.ring_start) * COLUMNS;

		at -= at >= v.ring ? v.ring : 0;
		return head_rows + (step < range.sink_steps ? step * COLUMNS : v.sink_slots + at);
	};
	auto load_keys = [&](int64_t row) {
#pragma unroll
		for (int i = 0; i < 2; i++)
#pragma unroll
			for (int k = 0; k < DK / 32; k++)
				keys[i][k] = load_eight<BYTES>(v.k, v.k_scale, row + 8 * i + g, v.k_ld, 32 * k + 8 * t);
	};
	auto load_values = [&](int64_t row) {
		if (DV <= 128)
#pragma unroll
			for (int i = 0; i < 4; i++)
#pragma unroll
				for (int k = 0; k < DV / 64; k++)
					values[i][k] = load_eight<BYTES>(v.v, v.v_scale,
					    row + 2 * t + (i & 1) + (i & 2) * 4, v.v_ld, 64 * k + 8 * g);
	};

	/* The first n new keys and values in the place of older ones, in a step that has this place among them. */
	auto renew_keys = [&](int place, int n) {
#pragma unroll
		for (int i = 0; i < 2; i++)
			if ((unsigned)(place + 8 * i + g) < (unsigned)n)
#pragma unroll
				for (int k = 0; k < DK / 32; k++)
					keys[i][k] = *(const uint4 *)(fresh + (place + 8 * i + g) * DK + 32 * k + 8 *
					    t);
	};
	auto renew_values = [&](int place, int n) {
		if (DV <= 128)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				int token = place + 2 * t + (i & 1) + (i & 2) * 4;

				if ((unsigned)token < (unsigned)n)
#pragma unroll
					for (int k = 0; k < DV / 64; k++)
						values[i][k] =
						    *(const uint4 *)(fresh + (j.a.n + token) * DV + 64 * k + 8 * g);
			}
	};

	if (CLUSTER) {
		if (threadIdx.x == 0)
			cluster_expect(&barrier, inbox_bytes(j, j.rows_used * DV));
		__syncwarp();
		cluster_arrive();
	}
	first = __ldcg(j.a.first);
	low = first + row_low;
	high = first + row_high;
	range = range_of(v, low, high);
	if (range.begin + warp < range.end) {
		int64_t step = range.begin + warp;
		bool sinks = step < range.sink_steps;

		early = keeps || base_of_step(v, range, step, sinks, first) + COLUMNS <= (sinks ? first : 0);
		if (early) {
			load_keys(row_of(step));
			load_values(row_of(step));
		}
	}
	clear_queries<DK, DV>(j, queries);
	begin_rows(j, st, tile, head_kv, group, first);
#pragma unroll
	for (int jj = 0; jj < DV / 64; jj++)
#pragma unroll
		for (int i = 0; i < 8; i++)
			sum[jj][i][0] = sum[jj][i][1] = sum[jj][i][2] = sum[jj][i][3] = 0;
	wait_for_predecessor();
	if (range.begin < range.end)
		prepare<DK, DV>(j, range, tile, head_kv, group, first, queries, stage, fresh);
	__syncthreads();
	if (range.begin + warp < range.end && !early) {
		load_keys(row_of(range.begin + warp));
		load_values(row_of(range.begin + warp));
	}
	if (!CLUSTER)
		draw_ticket(j, range.begin >= range.end, tile, head_kv, &ticket);
	for (int64_t step = range.begin + warp; step < range.end; step += WARPS) {
		bool sinks = step < range.sink_steps, more = step + WARPS < range.end;
		/* the row that comes next */
		int64_t row = DV <= 128 ? row_of(more ? step + WARPS : step) : row_of(step);
		int base = base_of_step(v, range, step, sinks, first);
		int place, renewed = new_in_step(j, sinks, base, first, &place);
		float s[2][4] = { { 0, 0, 0, 0 }, { 0, 0, 0, 0 } };
		uint32_t p[4];

		if (!CLUSTER)
			draw_ticket(j, !more, tile, head_kv, &ticket);
		if (keeps && renewed > 0)
			renew_keys(place, renewed);
#pragma unroll
		for (int k = 0; k < DK / 32; k++) {
			const __half *q = queries + ((sinks ? 1 : 0) * ROWS + g) * q_ld + 32 * k + 8 * t;
			uint4 a = *(const uint4 *)q, b = *(const uint4 *)(q + 8 * q_ld);
			uint32_t front[4] = { a.x, b.x, a.y, b.y }, back[4] = { a.z, b.z, a.w, b.w };

#pragma unroll
			for (int i = 0; i < 2; i++) {
				multiply(s[i], front, keys[i][k].x, keys[i][k].y);
				multiply(s[i], back, keys[i][k].z, keys[i][k].w);
			}
		}
		if (more)
			load_keys(DV <= 128 ? row : row_of(step + WARPS));
		soften_step<DV>(j.a, st, sinks, base, j.rows_used, s, sum, p);
		if (keeps && renewed > 0)
			renew_values(place, renewed);
		/* values: column n of product i is element 64 k + 8 n + i */
#pragma unroll
		for (int k = 0; k < DV / 64; k++) {
			if (DV > 128)
#pragma unroll
				for (int i = 0; i < 4; i++)
					values[i][0] = load_eight<BYTES>(v.v, v.v_scale,
					    row + 2 * t + (i & 1) + (i & 2) * 4, v.v_ld, 64 * k + 8 * g);
#pragma unroll
			for (int i = 0; i < 8; i++) {
				const int from = DV <= 128 ? k : 0;
				uint32_t x[4];

#pragma unroll
				for (int n = 0; n < 4; n++)
					x[n] = i < 2 ? values[n][from].x : i < 4 ? values[n][from].y : i < 6
					    ? values[n][from].z : values[n][from].w;
				multiply(sum[k][i], p, __byte_perm(x[0], x[1], i % 2 == 0 ? 0x5410 : 0x7632),
				    __byte_perm(x[2], x[3], i % 2 == 0 ? 0x5410 : 0x7632));
			}
		}
		if (more)
			load_values(row);
	}
	/* the warps' parts meet in shared memory */
	__syncthreads();
#pragma unroll
	for (int r = 0; r < 2; r++) {
		float *to = merge + (warp * j.rows_used + g + 8 * r) * (DV + 2);

		st.l[r] = sum_lanes<1, 2>(st.l[r]);
		if (g + 8 * r >= j.rows_used)
			continue;
#pragma unroll
		for (int k = 0; k < DV / 64; k++)
#pragma unroll
			for (int i = 0; i < 8; i++) {
				to[64 * k + 16 * t + i] = sum[k][i][2 * r];
				to[64 * k + 16 * t + 8 + i] = sum[k][i][2 * r + 1];
			}
		if (t == 0) {
			to[DV] = st.m[r];
			to[DV + 1] = st.l[r];
		}
	}
	if (!CLUSTER && threadIdx.x == 0)
		joins = ticket == gridDim.x - 1;
	__syncthreads();
	finish_block<DV, CLUSTER>(j, tile, head_kv, group, merge, joins,
	    inbox_of(j, reinterpret_cast<float *>(shared + j.inbox)), &barrier);
}

/* Bytes of a key and its value in a cache. */
static int64_t
slot_bytes(const struct cache_view *v)
{
	int n = v->k_ld + v->v_ld;

	return v->type == KV_F16 ? 2 * n : n + n / 16;
}

/* Shared memory for what the splits of a cluster send each other, and how it is cut. */
template <int DK, int DV>
static size_t
place_inbox(struct decode_job *j, int cluster)
{
	j->inbox = (layout<DK, DV>::bytes(j->a.n, j->rows_used) + 15) / 16 * 16;
	for (j->piece = 0; cluster << j->piece < j->rows_used * DV;)
		j->piece++;
	return j->inbox + (size_t)cluster * ((4u << j->piece) + (size_t)j->rows_used * 8);
}

/* Blocks that read more than so many bytes are no clusters. */
enum { CLUSTER_BYTES = 256 * 1024 };

/*
 * The splits that are to be a cluster, or 0: as many as have a multiprocessor
 * each. Parts are joined sooner then, but a cluster begins only where there is
 * room for all of it, which costs more where there is much to read.
 */
template <int DK, int DV>
static int
choose_cluster(struct cuda *c, struct decode_job *j, void (*kernel)(decode_job), int units, int splits, int64_t bytes)
{
	for (int n = splits < CLUSTER_MAX ? splits : (int)CLUSTER_MAX; n > 1 && bytes / n <= CLUSTER_BYTES; n--) {
		size_t shared = place_inbox<DK, DV>(j, n);

		if (units * n > c->sms)
			continue;
		/* Fewer pieces may be larger ones, and take more. */
		allow_shared(c, kernel, shared);
		if (cuda_clusters_at_once(c, reinterpret_cast<const void *>(kernel), n, WARPS * 32, shared) >= units)
			return n;
	}
	return 0;
}

/* One form of caches. */
template <int DK, int DV, bool BYTES>
static void
attend_decode_start(struct cuda *c, struct decode_job *j, int tiles, int splits, int64_t seen)
{
	void (*alone)(decode_job) = decode_kernel<DK, DV, BYTES, false>;
	void (*together)(decode_job) = decode_kernel<DK, DV, BYTES, true>;
	int units = tiles * j->a.v.n_head_kv;
	int cluster = choose_cluster<DK, DV>(c, j, together, units, splits, seen * slot_bytes(&j->a.v));
	size_t shared = cluster > 0 ? place_inbox<DK, DV>(j, cluster) : layout<DK, DV>::bytes(j->a.n, j->rows_used);
	dim3 grid(splits, tiles, j->a.v.n_head_kv);

	if (cluster > 0) {
		launch_clusters(c, true, (unsigned)cluster, together, dim3(cluster, tiles, j->a.v.n_head_kv),
		    WARPS * 32, shared,
		    *j);
		return;
	}
	if (splits > 1) {
		j->tickets = c->counters;
		j->posts = static_cast<float *>(cuda_scratch(c, SCRATCH_POSTS,
		    (size_t)units * splits * j->rows_used * (DV + 2) * sizeof(float)));
		if (j->posts == NULL)
			return;
	}
	/* Where warps have several steps, these come by way of shared memory. */
	if (seen > (int64_t)splits * WARPS * COLUMNS && attend_decode_tma(c, j, grid))
		return;
	allow_shared(c, alone, shared);
	launch(c, true, alone, grid, WARPS * 32, shared, *j);
}

template <int DK, int DV>
static void
start_form(struct cuda *c, struct decode_job *j)
{
	const struct cache_view *v = &j->a.v;
	int rows = j->a.n * (j->a.n_head / v->n_head_kv), tiles = (rows + ROWS - 1) / ROWS, splits;
	int64_t seen = v->window < v->slots ? v->window + v->sinks + j->a.n : v->slots;
	/* The first and the last step of the ring may be in use in part. */
	int64_t useful = (seen + 2 * COLUMNS + SPLIT_COLUMNS - 1) / SPLIT_COLUMNS,
	    units = (int64_t)tiles * v->n_head_kv;

	splits = (int)(blocks_at_once(DK) * c->sms / units);
	splits = splits > useful ? (int)useful : splits;
	splits = splits > SPLITS_MAX ? (int)SPLITS_MAX : splits;
	if (units > COUNTERS || splits < 1)
		splits = 1;
	j->rows_used = rows < ROWS ? rows : ROWS;
	if (v->type == KV_F16)
		attend_decode_start<DK, DV, false>(c, j, tiles, splits, seen);
	else
		attend_decode_start<DK, DV, true>(c, j, tiles, splits, seen);
}

void
attend_decode(struct cuda *c, const struct attend_call *a, const struct rotation *r, const float *q_window,
    const float *q_sink, const float *k, const float *values)
{
	int longest = a->v.d_k > a->v.d_v ? a->v.d_k : a->v.d_v;
	struct decode_job j = {};

	j.a = *a;
	j.fused = r != NULL;
	if (r != NULL)
		j.r = *r;
	j.q_window = q_window;
	j.q_sink = q_sink;
	j.k = k;
	j.values = values;
	if (longest <= 64)
		start_form<64, 64>(c, &j);
	else if (longest <= 128)
		start_form<128, 128>(c, &j);
	else
		start_form<256, 256>(c, &j);
}
