/*
 * Attention of many tokens over a cache in halves: tiles of queries (tokens
 * times the heads that share keys) against tiles of 64 slots on tensor cores,
 * with an online softmax. The sinks' tiles come first, with queries rotated
 * for them, then the band of the ring; only its ends are masked. Few tiles of
 * queries split the slots among blocks, and a second kernel joins the parts.
 */
#include "attention/prefill.cuh"

enum { WARPS = 4, THREADS = WARPS * 32, COLUMNS = 64, PAD = 8 };

/* Rows of D halves to shared memory; row r of the tile comes from `from(r)`, or is zero where that is NULL. */
template <int D, int ROWS, typename From>
static __device__ __forceinline__ void
fetch(__half *to, int length, From from)
{
	const int chunks = D / 8;

	for (int i = threadIdx.x; i < ROWS * chunks; i += THREADS) {
		int r = i / chunks, d = i % chunks * 8;
		const __half *row = from(r);
		bool there = row != NULL && d < length;

		copy_async(shared_address(to + r * (D + PAD) + d), there ? row + d : NULL, there);
	}
}

/* D: length of keys and values rounded up; M: tiles of 16 query rows per warp. */
template <int D, int M, bool PLAIN>
static __global__ void __launch_bounds__(THREADS, 2)
prefill_kernel(const __grid_constant__ prefill_job j)
{
	enum { ROWS = WARPS * M * 16, LD = D + PAD };
	extern __shared__ __align__(16) __half shared_halves[];
	__half *queries = shared_halves, *keys = queries + ROWS * LD, *values = keys + COLUMNS * LD;
	const struct cache_view &v = j.a.v;
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4;
	float sum[M][D / 8][4], s[M][COLUMNS / 8][4], m[M][2], l[M][2];
	const struct prefill_block b = prefill_block_of<ROWS, COLUMNS, PLAIN>(j);
	const struct prefill_range &range = b.range;
	const __half *k = static_cast<const __half *>(v.k) + (int64_t)b.head_kv * v.slots * v.k_ld;
	const __half *x = static_cast<const __half *>(v.v) + (int64_t)b.head_kv * v.slots * v.v_ld;

#pragma unroll
	for (int i = 0; i < M; i++) {
		m[i][0] = m[i][1] = -INFINITY;
		l[i][0] = l[i][1] = 0;
#pragma unroll
		for (int n = 0; n < D / 8; n++)
			sum[i][n][0] = sum[i][n][1] = sum[i][n][2] = sum[i][n][3] = 0;
	}

	/* A tile's rows of keys or values; the ring may end within it. */
	auto fetch_slots = [&](__half *to, const __half *base, int ld, int tile) {
		fetch<D, COLUMNS>(to, ld, [&](int r) {
			int at = prefill_slot_of<COLUMNS>(v, range, tile, r);

			return at < 0 ? (const __half *)NULL : base + (int64_t)at * ld;
		});
		copy_commit();
	};
	auto fetch_queries = [&](const __half *from) {
		fetch<D, ROWS>(queries, v.k_ld, [&](int r) {
			int at = prefill_query_of(j, b, r);

			return at < 0 ? (const __half *)NULL : from + (int64_t)at * v.k_ld;
		});
		copy_commit();
	};

	if (range.begin < range.end) {
		fetch_queries(range.begin < range.sink_tiles ? j.q_sink : j.q_window);
		fetch_slots(keys, k, v.k_ld, range.begin);
	}
	for (int tile = range.begin; tile < range.end; tile++) {
		copy_wait<0>();
		__syncthreads();
		fetch_slots(values, x, v.v_ld, tile);
#pragma unroll
		for (int i = 0; i < M; i++)
#pragma unroll
			for (int n = 0; n < COLUMNS / 8; n++)
				s[i][n][0] = s[i][n][1] = s[i][n][2] = s[i][n][3] = 0;
#pragma unroll
		for (int d = 0; d < D; d += 16) {
			uint32_t a[M][4], keys_of[4];

#pragma unroll
			for (int i = 0; i < M; i++)
				load_matrices(a[i], queries + (warp * M * 16 + i * 16 + lane % 16) * LD + d +
				    lane / 16 * 8);
#pragma unroll
			for (int n = 0; n < COLUMNS / 8; n += 2) {
				load_matrices(keys_of, keys + (n * 8 + lane / 16 * 8 + lane % 8) * LD + d +
				    lane / 8 % 2 * 8);
#pragma unroll
				for (int i = 0; i < M; i++) {
					multiply(s[i][n], a[i], keys_of[0], keys_of[1]);
					multiply(s[i][n + 1], a[i], keys_of[2], keys_of[3]);
				}
			}
		}
		copy_wait<0>();
		__syncthreads();
		if (tile + 1 < range.end) {
			/* The queries' other form: everybody is through with this one. */
			if (tile + 1 == range.sink_tiles)
				fetch_queries(j.q_window);
			fetch_slots(keys, k, v.k_ld, tile + 1);
		}
#pragma unroll
		for (int i = 0; i < M; i++) {
			mask_tile<COLUMNS, PLAIN>(j, b, (warp * M + i) * 16 + g, tile, s[i]);
#pragma unroll
			for (int r = 0; r < 2; r++) {
				float factor;

				soften_row<COLUMNS / 8>(s[i], 2 * r, b.unit, &m[i][r], &l[i][r], &factor);
#pragma unroll
				for (int n = 0; n < D / 8; n++) {
					sum[i][n][2 * r] *= factor;
					sum[i][n][2 * r + 1] *= factor;
				}
			}
		}
#pragma unroll
		for (int c = 0; c < COLUMNS / 16; c++) {
			uint32_t p[M][4];

#pragma unroll
			for (int i = 0; i < M; i++)
				pack_weights(s[i], 2 * c, p[i]);
#pragma unroll
			for (int n = 0; n < D / 8; n += 2) {
				int row = c * 16 + lane / 8 % 2 * 8 + lane % 8;
				uint32_t values_of[4];

				load_matrices_across(values_of, values + row * LD + n * 8 + lane / 16 * 8);
#pragma unroll
				for (int i = 0; i < M; i++) {
					multiply(sum[i][n], p[i], values_of[0], values_of[1]);
					multiply(sum[i][n + 1], p[i], values_of[2], values_of[3]);
				}
			}
		}
	}
#pragma unroll
	for (int i = 0; i < M; i++)
#pragma unroll
		for (int r = 0; r < 2; r++)
			put_row<D, ROWS>(j, b, (warp * M + i) * 16 + g + 8 * r, sum[i], 2 * r, m[i][r] * b.unit,
			    l[i][r]);
}

/* One block per row: the splits' parts joined. */
static __global__ void
join_kernel(const __grid_constant__ prefill_job j, int splits, int tile_rows, int width)
{
	const struct cache_view &v = j.a.v;
	int group = j.a.n_head / v.n_head_kv, row = blockIdx.x, head_kv = blockIdx.y, token, head;
	int tiles = (j.a.n * group + tile_rows - 1) / tile_rows;
	const float *part;

	wait_for_predecessor();
	token = row / group;
	head = head_kv * group + row % group;
	part = j.parts + (((int64_t)head_kv * tiles + row / tile_rows) * splits * tile_rows + row % tile_rows) *
	    (width + 2);
	for (int d = threadIdx.x; d < v.d_v; d += blockDim.x) {
		int64_t stride = (int64_t)tile_rows * (width + 2);
		float top = -INFINITY, x = 0, y = 0;

		for (int i = 0; i < splits; i++)
			top = fmaxf(top, part[i * stride + width]);
		for (int i = 0; i < splits; i++) {
			float m = part[i * stride + width], f = m == -INFINITY ? 0 : power(m - top);

			x += f * part[i * stride + d];
			y += f * part[i * stride + width + 1];
		}
		if (j.a.out16 != NULL)
			j.a.out16[token * j.a.ld16 + head * v.d_v + d] = to_half(x / y);
		else
			j.a.out32[((int64_t)token * j.a.n_head + head) * v.d_v + d] = x / y;
	}
}

bool
attend_get_parts(struct cuda *c, struct prefill_job *j, int tile_rows, int splits, int width)
{
	const struct cache_view *v = &j->a.v;
	int64_t rows = j->a.n * (j->a.n_head / v->n_head_kv), tiles = (rows + tile_rows - 1) / tile_rows;

	j->parts = NULL;
	if (splits > 1)
		j->parts = static_cast<float *>(cuda_scratch(c, SCRATCH_PARTS,
		    (size_t)(tiles * v->n_head_kv * splits * tile_rows * (width + 2)) * sizeof(float)));
	return splits == 1 || j->parts != NULL;
}

void
attend_join(struct cuda *c, const struct prefill_job *j, int splits, int tile_rows, int width)
{
	int rows = j->a.n * (j->a.n_head / j->a.v.n_head_kv);

	if (splits > 1)
		launch(c, true, join_kernel, dim3(rows, j->a.v.n_head_kv), 128, 0, *j, splits, tile_rows, width);
}

/* A quantised cache's layer in halves. */
static __global__ void
expand_kernel(const int8_t *x, const __half *scales, int64_t n, __half *y)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

	wait_for_predecessor();
	if (i < n)
		y[i] = __float2half_rn((float)x[i] * __half2float(scales[i / 32]));
}

static bool
attend_prefill_expand(struct cuda *c, struct cache_view *v)
{
	int64_t rows = v->slots * v->n_head_kv, k = rows * v->k_ld, n = k + rows * v->v_ld;
	__half *to = static_cast<__half *>(cuda_scratch(c, SCRATCH_KEYS, (size_t)n * sizeof *to));

	if (to == NULL)
		return false;
	launch(c, true, expand_kernel, blocks_for(k, 256), 256, 0, static_cast<const int8_t *>(v->k), v->k_scale, k,
	    to);
	launch(c, true, expand_kernel, blocks_for(n - k, 256), 256, 0, static_cast<const int8_t *>(v->v), v->v_scale,
	    n - k, to + k);
	v->type = KV_F16;
	v->k = to;
	v->v = to + k;
	return true;
}

template <int D, int M>
static void
attend_prefill_start(struct cuda *c, struct prefill_job *j)
{
	const int tile_rows = WARPS * M * 16;
	const struct cache_view *v = &j->a.v;
	int rows = j->a.n * (j->a.n_head / v->n_head_kv), tiles = (rows + tile_rows - 1) / tile_rows;
	size_t shared = (size_t)(tile_rows + 2 * COLUMNS) * (D + PAD) * sizeof(__half);
	int splits = count_splits(c, v, (int64_t)tiles * v->n_head_kv, 2, COLUMNS);
	void (*kernel)(struct prefill_job) = is_plain(j) ? prefill_kernel<D, M, true> : prefill_kernel<D, M, false>;

	if (!attend_get_parts(c, j, tile_rows, splits, D))
		return;
	allow_shared(c, kernel, shared);
	launch(c, true, kernel, dim3(tiles, v->n_head_kv, splits), THREADS, shared, *j);
	attend_join(c, j, splits, tile_rows, D);
}

void
attend_prefill(struct cuda *c, const struct attend_call *a, const __half *q_window, const __half *q_sink)
{
	int longest = a->v.d_k > a->v.d_v ? a->v.d_k : a->v.d_v;
	struct prefill_job j = { *a, q_window, q_sink, NULL };

	if (a->v.type == KV_Q8_0 && !attend_prefill_expand(c, &j.a.v))
		return;
	if (attend_hopper(c, &j))
		return;
	if (longest <= 64)
		attend_prefill_start<64, 2>(c, &j);
	else if (longest <= 96)
		attend_prefill_start<96, 2>(c, &j);
	else if (longest <= 128)
		attend_prefill_start<128, 2>(c, &j);
	else
		attend_prefill_start<256, 1>(c, &j);
}
