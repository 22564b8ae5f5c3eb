/*
 * Products of a few rows with weights as they are stored, at the speed of
 * memory: tensor cores take 16 weight rows against up to 8 activation rows at
 * a time, so that unpacking is all there is to compute. Norms run on the way
 * in, residual sums and activations on the way out. Weights are fetched while
 * the kernel before still runs.
 */
#include "product/gemv_operand.cuh"
#include "product/gemv_rows.cuh"

/* A place in a block's work: unit, gate or up matrix of it, and batch of steps. */
struct place {
	int unit, sub, batch;
};

/* The tile that (unit, sub) stands for; returns its matrix. */
static __device__ __forceinline__ int
find_tile(const gemv_job &j, const place &at, int *tile)
{
	int m = 0;

	*tile = at.unit;
	if (j.gated)
		return at.sub;
	while (m < j.count - 1 && *tile >= j.out[m].tiles)
		*tile -= j.out[m++].tiles;
	return m;
}

/* A result on its way out; held: the gate's, where this is the up matrix's, or what it is added to. */
static __device__ __forceinline__ void
gemv_put(const gemv_job &j, int m, int64_t row, int column, float sum, float *held, int sub)
{
	const operand_matrix &o = j.out[m];
	int64_t at = column * o.rows + row;
	float v = sum * j.unscale + (o.bias != NULL ? o.bias[row] : 0);

	if (j.clamp > 0)
		v = limit(v, j.clamp);
	if (j.mode == GEMV_ADD) {
		o.y[at] = *held + v;
		return;
	}
	if (j.mode == GEMV_ACTIVATE) {
		if (j.gated && sub == 0) {
			*held = v;
			return;
		}
		v = j.gated ? activation(j.act, *held) * v : activation(j.act, v);
		if (j.y16 != NULL) {
			j.y16[column * j.y16_ld + row] = to_half(v * j.y16_scale);
			return;
		}
		at = column * j.out[0].rows + row;
		j.out[0].y[at] = v;
		return;
	}
	o.y[at] = v;
}

/* A warp finishes a tile: its lanes have 16 rows of two columns at a time. */
enum { TURNS = (SMALL + 1) / 2 };

/* The warps' parts of a tile, joined and put where they belong, by one warp. */
template <int COLUMNS_USED>
static __device__ __forceinline__ void
gemv_finish_tile(const gemv_job &j, const place &at, const column_sums (*part)[COLUMNS_USED], float *held)
{
	int row = threadIdx.x % TILE_ROWS, half = threadIdx.x % 32 / TILE_ROWS, tile, m = find_tile(j, at, &tile);
	bool inside = (int64_t)tile * TILE_ROWS + row < j.out[m].rows;

	if constexpr (COLUMNS_USED == 1) {
		float sum = 0;

#pragma unroll
		for (int i = 0; i < WARPS / 2; i++)
			sum += part[i * 2 + half][0][row];
		sum = sum_lanes<TILE_ROWS, TILE_ROWS>(sum);
		if (inside && half == 0)
			gemv_put(j, m, (int64_t)tile * TILE_ROWS + row, 0, sum, held, at.sub);
	} else {
#pragma unroll
		for (int k = 0; k < TURNS; k++) {
			int column = 2 * k + half;
			float sum = 0;

			if (!inside || column >= j.n)
				break;
			for (int i = 0; i < WARPS; i++)
				sum += part[i][column][row];
			gemv_put(j, m, (int64_t)tile * TILE_ROWS + row, column, sum, held + k, at.sub);
		}
	}
}

/* What a tile's results will be added to, fetched early by the warp that finishes it. */
static __device__ __forceinline__ void
fetch_residual(const gemv_job &j, int unit, float *held)
{
	int64_t row = (int64_t)unit * TILE_ROWS + threadIdx.x % TILE_ROWS;

	if (j.mode != GEMV_ADD || row >= j.out[0].rows)
		return;
#pragma unroll
	for (int k = 0; k < TURNS; k++) {
		int column = 2 * k + threadIdx.x % 32 / TILE_ROWS;
		int64_t i = column * j.out[0].rows + row;

		if (column >= j.n)
			break;
		held[k] = j.out[0].y[i];
		if (j.extra != NULL)
			held[k] += j.extra[i];
	}
}

/* A warp's batches: which of a tile's steps are its own, and what it loads next. */
struct reader {
	struct place next;
	int batches;           /* of a tile */
	/* where the next one to be used lies in the ring, and how often that has been used before */
	int slot, phase;
};

/* The first step of a warp's batch. */
static __device__ __forceinline__ int
first_step(const gemv_job &j, int warp, int batch)
{
	return (batch * WARPS + warp) * j.each;
}

/* The loads of a warp's next batch, to a slot that is new or was released. */
template <typename ROWS>
static __device__ __forceinline__ void
load_batch(const gemv_job &j, int warp, struct reader *r, uint32_t to, uint32_t barrier)
{
	struct place *at = &r->next;
	int first = first_step(j, warp, at->batch), tile, m;

	if (r->batches == 0 || at->unit >= j.units) {
		batch_end();
		return;
	}
	m = find_tile(j, *at, &tile);
	ROWS::load(j.out[m], tile, first, min(j.each, j.steps - first), j.steps, to, barrier);
	if (++at->batch < r->batches)
		return;
	at->batch = 0;
	if (++at->sub < (j.gated ? 2 : 1))
		return;
	at->sub = 0;
	at->unit += gridDim.x;
}

/*
 * Each block takes units in turn; its warps share the steps of a tile, and
 * the partial sums meet in shared memory, where one warp after the other joins
 * those of a tile: no warp waits for another, unless it is some tiles ahead.
 * While one batch of a warp is multiplied the next ones are on their way,
 * across tiles too, and the first one from before the predecessor's end.
 */
template <typename ROWS>
static __global__ void __launch_bounds__(THREADS, BLOCKS)
gemv_kernel(const __grid_constant__ gemv_job j)
{
	extern __shared__ __align__(128) unsigned char shared[];
	typedef column_sums tile_sums[WARPS][ROWS::columns];
	const int subs = j.gated ? 2 : 1, parts = ROWS::parts;
	/* The same for all lanes of a warp, which the compiler is to know. */
	int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
	unsigned char *rings = shared + RING_AT, *behind = rings + WARPS * j.depth * ROWS::batch_bytes;
	tile_sums *part = reinterpret_cast<tile_sums *>(behind);
	struct operand x = operand_at(j, behind + parts * sizeof *part);
	uint32_t ring = computed(shared_address(rings + warp * j.depth * ROWS::batch_bytes));
	uint32_t met = computed(shared_address(shared)), barriers = computed(met + (PARTS_MAX + warp * DEPTH_MAX) * 8);
	struct reader r = { { (int)blockIdx.x, 0, 0 }, 0, 0, 0 };
	float4 weights[KEPT];
	float held[TURNS];
	int tile = 0;          /* counted over all of the block's */

	/* Before much else is under way. */
	fetch_weights(j, weights);
	r.batches = (j.steps + j.each * (WARPS - warp) - 1) / (j.each * WARPS);
	if (threadIdx.x % 32 == 0) {
		batch_init(barriers, DEPTH_MAX);
		if (warp < parts)
			barrier_init(met + warp * 8, THREADS);
	}
	__syncwarp();
	auto fill_ring = [&](int from, int to) {
		for (int i = from; i < to; i++)
			load_batch<ROWS>(j, warp, &r, ring + i * ROWS::batch_bytes, barriers + i * 8);
	};
	fill_ring(0, j.early);
	typename ROWS::view view = ROWS::look(j, x);
	wait_for_predecessor();
	if (warp == 0)
		fetch_residual(j, blockIdx.x, held);
	fetch_operand<ROWS>(j, x, reinterpret_cast<float *>(behind), weights, [&]() {
		fill_ring(j.early, j.depth);
		prefetch_start(j.prefetch, blockIdx.x * WARPS + warp);
	});
	__syncthreads();
	for (int unit = blockIdx.x, count = 0; unit < j.units; unit += gridDim.x, count++) {
		bool mine = count % WARPS == warp;

		if (mine && count > 0)
			fetch_residual(j, unit, held);
		for (int sub = 0; sub < subs; sub++, tile++) {
			typename ROWS::sums sums = {};

			for (int batch = 0; batch < r.batches; batch++) {
				int first = first_step(j, warp, batch);
				uint32_t from = ring + r.slot * ROWS::batch_bytes, barrier = barriers + r.slot * 8;

				batch_wait(barrier, r.phase, j.depth);
				ROWS::multiply(j, view, first, min(j.each, j.steps - first), from, &sums);
				release_shared();
				load_batch<ROWS>(j, warp, &r, from, barrier);
				if (++r.slot == j.depth) {
					r.slot = 0;
					r.phase ^= 1;
				}
			}
			/* The warp that joined what was here has arrived for the next tile since. */
			if (tile >= parts)
				barrier_wait(met + (tile + 1) % parts * 8, (tile + 1 - parts) / parts);
			ROWS::put(sums, part[tile % parts][warp]);
			barrier_arrive(met + tile % parts * 8);
			if (mine) {
				barrier_wait(met + tile % parts * 8, tile / parts);
				gemv_finish_tile<ROWS::columns>(j, { unit, sub, 0 }, part[tile % parts], held);
			}
		}
	}
}

/* Plain float32 weights: a warp takes a row. */
static __global__ void __launch_bounds__(THREADS)
gemv_f32_kernel(const __grid_constant__ gemv_job j)
{
	int lane = threadIdx.x % 32, m = 0;
	int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
	const float *w;

	while (m < j.count && row >= j.out[m].rows)
		row -= j.out[m++].rows;
	if (m == j.count)
		return;
	w = static_cast<const float *>(j.out[m].data) + row * j.out[m].ld;
	for (int i = 0; i < j.n; i++) {
		float sum = 0, held = 0;

		if (j.mode == GEMV_ADD)
			held = j.out[m].y[i * j.out[m].rows + row] +
			    (j.extra != NULL ? j.extra[i * j.out[m].rows + row] : 0);
		for (int64_t k = lane; k < j.cols; k += 32)
			sum += w[k] * j.x32[i * j.cols + k];
		sum = sum_lanes<1, 16>(sum);
		if (lane == 0)
			gemv_put(j, m, row, i, sum, &held, 0);
	}
}

template <typename ROWS>
static size_t
shared_bytes(int n, int64_t steps, int depth)
{
	size_t sums = ROWS::blocks * (ROWS::minima ? 2 : 1) * sizeof(float);

	return RING_AT + (size_t)(WARPS * depth * ROWS::batch_bytes) + ROWS::parts * WARPS * ROWS::columns *
	    sizeof(column_sums) +
	    operand_bytes(n, steps, sums);
}

/* A product's kernel is started, */
struct starter {
	struct cuda *c;
	gemv_job *j;
	const struct matrix *const *next;

	/* Of a depth of DEPTH_MAX as much as there is work and shared memory for. */
	template <typename ROWS>
	void
	run(void)
	{
		int blocks = c->sms * BLOCKS < j->units ? c->sms * BLOCKS : j->units, batches;
		size_t shared, most = c->shared_all / BLOCKS - BLOCK_RESERVED;

		for (j->each = 1; j->each < ROWS::steps && j->each * WARPS < j->steps;)
			j->each *= 2;
		batches = (j->steps + j->each * WARPS - 1) / (j->each * WARPS);
		batches *= (j->units + blocks - 1) / blocks * (j->gated ? 2 : 1);
		for (j->depth = DEPTH_MAX < batches ? DEPTH_MAX : batches;; j->depth--) {
			shared = shared_bytes<ROWS>(j->n, j->steps, j->depth);
			if (j->depth == 1 || shared <= most)
				break;
		}
		/*
		 * What all blocks have under way delays their operands: as little as keeps
		 * the memory busy until those are asked for, or all there is.
		 */
		j->early = batches <= j->depth || j->x16 != NULL ? j->depth : 1;
		if (batches <= j->depth && blocks > c->sms)
			j->prefetch = prefetch_of(next, blocks * WARPS);
		allow_shared(c, gemv_kernel<ROWS>, shared);
		launch(c, true, gemv_kernel<ROWS>, (unsigned)blocks, THREADS, shared, *j);
	}
};

/* or asked for the shared memory that it needs at least. */
struct sizer {
	int n;
	int64_t steps;
	size_t bytes;

	template <typename ROWS>
	void
	run(void)
	{
		bytes = shared_bytes<ROWS>(n, steps, 1);
	}
};

/* What is done with n rows and weights of a type. */
template <typename Action>
static void
with_rows(uint32_t type, int n, Action *action)
{
	if (type == QUANT_F16)
		action->template run<half_rows>();
	else
		with_form(type, [=](auto t) {
			if (n == 1)
				action->template run<packed_rows<decltype(t)::value, true>>();
			else
				action->template run<packed_rows<decltype(t)::value, false>>();
		});
}

bool
gemv_can(const struct cuda *c, const struct matrix *m, int n)
{
	struct sizer need = { n, m->steps, 0 };

	with_rows(m->type, n, &need);
	return n <= SMALL && need.bytes <= c->shared;
}

void
gemv_run(struct cuda *c, const struct gemv_call *m)
{
	const struct matrix *first = m->out[0].m;
	struct gemv_job j = {};
	struct starter start = { c, &j, m->next };

	j.count = m->count;
	j.n = m->n;
	j.steps = (int)first->steps;
	j.cols = first->cols;
	j.ldx = first->steps * STEP + SHARED_PAD;
	j.x32 = m->x32;
	j.x16 = m->x16;
	j.ld16 = m->ld16;
	j.norm = m->norm;
	j.eps = m->eps;
	j.norm_weight = m->norm_weight;
	j.norm_bias = m->norm_bias;
	j.unscale = m->unscale;
	j.clamp = m->clamp;
	j.mode = m->mode;
	j.gated = m->mode == GEMV_ACTIVATE && m->count == 2;
	j.extra = m->extra;
	j.act = m->act;
	j.y16 = m->y16;
	j.y16_ld = m->y16_ld;
	j.y16_scale = m->y16_scale;
	for (int i = 0; i < m->count; i++) {
		const struct matrix *w = m->out[i].m;

		j.out[i].p = w->p;
		j.out[i].data = w->type == QUANT_F32 ? (const void *)w->f32 : (const void *)w->half;
		j.out[i].bias = m->out[i].bias;
		j.out[i].y = m->out[i].y;
		j.out[i].rows = w->rows;
		j.out[i].ld = w->ld;
		j.out[i].tiles = (int)w->tiles;
		j.units += (int)w->tiles;
	}
	if (first->type == QUANT_F32) {
		int64_t rows = 0;

		for (int i = 0; i < m->count; i++)
			rows += m->out[i].m->rows;
		launch(c, false, gemv_f32_kernel, blocks_for(rows, WARPS), THREADS, 0, j);
		return;
	}
	if (j.gated)
		j.units = (int)first->tiles;
	with_rows(first->type, j.n, &start);
}
