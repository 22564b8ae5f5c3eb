/*
 * Products of a few rows with weights as they are stored, at the speed of
 * memory: tensor cores take 16 weight rows against up to 8 activation rows at
 * a time, so that unpacking is all there is to compute. Norms run on the way
 * in, residual sums and activations on the way out. Weights are fetched while
 * the kernel before still runs.
 */
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32, COLUMNS = 8, SHARED_PAD = 8 };

struct operand_matrix {
	struct packed p;
	const void *data;     /* halves or floats, row-major */
	const float *bias;
	float *y;
	int64_t rows, ld;
	int tiles;
};

struct matvec_job {
	struct operand_matrix out[LINEAR_MAX];
	int count, units;          /* units: tiles, or pairs of tiles for a gated activation */
	int n, steps;
	int64_t cols, ldx;         /* ldx: from row to row in shared memory, halves */
	const float *x32;
	const __half *x16;
	int64_t ld16;
	enum norm_kind norm;
	float eps;
	const float *norm_weight, *norm_bias;
	float unscale, clamp;
	enum matvec_mode mode;
	bool gated;
	const float *extra;
	enum activation act;
	__half *y16;
	int64_t y16_ld;
	float y16_scale;
	struct prefetch ahead;
};

/* Row-major halves, the same way: the 16 weights of a lane are columns 8t .. 8t+7 of both halves of a step. */
struct half_rows {
	struct raw { uint4 q[2][2]; };
	struct place { const uint4 *a, *b; };

	static __device__ __forceinline__ place
	begin(const operand_matrix &m, int64_t tile, int64_t step, int, int lane)
	{
		const __half *base = static_cast<const __half *>(m.data) + step * STEP + lane % 4 * 8;
		int64_t row = tile * TILE_ROWS + lane / 4, last = m.rows - 1;

		return { (const uint4 *)(base + (row < last ? row : last) * m.ld),
			(const uint4 *)(base + (row + 8 < last ? row + 8 : last) * m.ld) };
	}

	static __device__ __forceinline__ raw
	load(const place &p, int ahead)
	{
		return { { { __ldcs(p.a + ahead * (STEP / 8)), __ldcs(p.a + (ahead * (STEP / 8) + 4)) },
			{ __ldcs(p.b + ahead * (STEP / 8)), __ldcs(p.b + (ahead * (STEP / 8) + 4)) } } };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
#pragma unroll
		for (int row = 0; row < 2; row++)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				w[row][4 * i] = pair(r.q[row][i].x);
				w[row][4 * i + 1] = pair(r.q[row][i].y);
				w[row][4 * i + 2] = pair(r.q[row][i].z);
				w[row][4 * i + 3] = pair(r.q[row][i].w);
			}
	}

	/* Where a lane finds the activations of its first eight weights, and from there those of the second eight. */
	static __device__ __forceinline__ int first(int lane) { return lane % 4 * 8; }
	static const int second = 32;
};

template <int TYPE>
struct packed_rows {
	typedef typename form<TYPE>::raw raw;
	typedef cursor place;

	static __device__ __forceinline__ place
	begin(const operand_matrix &m, int64_t tile, int64_t step, int steps, int lane)
	{
		return cursor_at<TYPE>(m.p, tile * steps + step, lane);
	}

	static __device__ __forceinline__ raw
	load(const place &p, int ahead)
	{
		return form<TYPE>::load(p, ahead);
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		form<TYPE>::halves(r, w);
	}

	static __device__ __forceinline__ int first(int lane) { return lane % 4 * 16; }
	static const int second = 8;
};

/* The sum of one value per thread, known to all; part is not used again before another barrier. */
static __device__ __forceinline__ float
sum_block(float x, float *part)
{
	x = sum_lanes<1, 16>(x);
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = x;
	__syncthreads();
	x = 0;
	for (int i = 0; i < WARPS; i++)
		x += part[i];
	return x;
}

/* Four halves at once. */
static __device__ __forceinline__ void
put_four(__half *to, float4 v)
{
	*(uint2 *)to = make_uint2(to_pair(v.x, v.y), to_pair(v.z, v.w));
}

/* Values of a row that a thread keeps in registers while they are normalised: rows of up to KEPT * 4 * THREADS. */
enum { KEPT = 4 };

static __device__ __forceinline__ bool
can_keep(const matvec_job &j)
{
	return j.cols % 4 == 0 && j.cols <= KEPT * 4 * THREADS;
}

/* A row of floats to shared memory as halves, normalised or not; weights: the norm's, fetched before. */
static __device__ __forceinline__ void
fetch_kept(const matvec_job &j, int row, __half *to, float *part, const float4 *weights)
{
	const float4 *x = (const float4 *)(j.x32 + row * j.cols);
	float mean = 0, square = 0, scale;
	float4 v[KEPT];

#pragma unroll
	for (int k = 0; k < KEPT; k++) {
		int i = threadIdx.x + k * THREADS;

		v[k] = i * 4 < j.cols ? x[i] : make_float4(0, 0, 0, 0);
	}
	if (j.norm_weight != NULL) {
		if (j.norm == NORM_LAYER) {
#pragma unroll
			for (int k = 0; k < KEPT; k++)
				mean += v[k].x + v[k].y + v[k].z + v[k].w;
			mean = sum_block(mean, part) / (float)j.cols;
		}
#pragma unroll
		for (int k = 0; k < KEPT; k++) {
			if ((threadIdx.x + k * THREADS) * 4 >= j.cols)
				continue;
			v[k] = make_float4(v[k].x - mean, v[k].y - mean, v[k].z - mean, v[k].w - mean);
			square += v[k].x * v[k].x + v[k].y * v[k].y + v[k].z * v[k].z + v[k].w * v[k].w;
		}
		scale = rsqrtf(sum_block(square, part + WARPS) / (float)j.cols + j.eps);
#pragma unroll
		for (int k = 0; k < KEPT; k++) {
			int i = threadIdx.x + k * THREADS;
			float4 b = make_float4(0, 0, 0, 0);

			if (j.norm_bias != NULL && i * 4 < j.cols)
				b = ((const float4 *)j.norm_bias)[i];
			v[k] = make_float4(v[k].x * scale * weights[k].x + b.x, v[k].y * scale * weights[k].y + b.y,
			    v[k].z * scale * weights[k].z + b.z, v[k].w * scale * weights[k].w + b.w);
		}
	}
#pragma unroll
	for (int k = 0; k < KEPT; k++)
		if ((threadIdx.x + k * THREADS) * 4 < j.steps * STEP)
			put_four(to + (threadIdx.x + k * THREADS) * 4, v[k]);
}

/* The same for rows of any length. */
static __device__ __forceinline__ void
fetch_floats(const matvec_job &j, int row, __half *to, float *part)
{
	const float *x = j.x32 + row * j.cols;
	float mean = 0, square = 0, scale = 1;

	if (j.norm_weight != NULL) {
		if (j.norm == NORM_LAYER) {
			for (int64_t i = threadIdx.x; i < j.cols; i += THREADS)
				mean += x[i];
			mean = sum_block(mean, part) / (float)j.cols;
		}
		for (int64_t i = threadIdx.x; i < j.cols; i += THREADS)
			square += (x[i] - mean) * (x[i] - mean);
		scale = rsqrtf(sum_block(square, part + WARPS) / (float)j.cols + j.eps);
	}
	for (int64_t i = threadIdx.x; i < j.steps * STEP; i += THREADS) {
		float v = i < j.cols ? (x[i] - mean) * scale : 0;

		if (j.norm_weight != NULL && i < j.cols)
			v = v * j.norm_weight[i] + (j.norm_bias != NULL ? j.norm_bias[i] : 0);
		to[i] = to_half(v);
	}
}

/* A row that is in halves already; it is padded with zeros to whole steps, as all are. */
static __device__ __forceinline__ void
fetch_halves(const matvec_job &j, int row, __half *to)
{
	const __half *x = j.x16 + row * j.ld16;

	for (int64_t i = threadIdx.x * 8; i < j.steps * STEP; i += THREADS * 8) {
		if (i + 8 <= j.cols || i >= j.cols) {
			copy_async(shared_address(to + i), x + (i < j.cols ? i : 0), i < j.cols);
			continue;
		}
		for (int k = 0; k < 8; k++)
			to[i + k] = i + k < j.cols ? x[i + k] : __float2half_rn(0);
	}
	copy_commit();
	copy_wait<0>();
}

/* A place in a block's work: unit, gate or up matrix of it, and batch of steps. */
struct place {
	int unit, sub, batch;
};

/* The tile that (unit, sub) stands for; returns its matrix. */
static __device__ __forceinline__ int
find_tile(const matvec_job &j, const place &at, int *tile)
{
	int m = 0;

	*tile = at.unit;
	if (j.gated)
		return at.sub;
	while (m < j.count - 1 && *tile >= j.out[m].tiles)
		*tile -= j.out[m++].tiles;
	return m;
}

static __device__ __forceinline__ void
advance(const matvec_job &j, place *at, int batches)
{
	if (++at->batch < batches)
		return;
	at->batch = 0;
	if (++at->sub < (j.gated ? 2 : 1))
		return;
	at->sub = 0;
	at->unit += gridDim.x;
}

/* A result on its way out; held: the gate's, where this is the up matrix's, or what it is added to. */
static __device__ __forceinline__ void
put(const matvec_job &j, int m, int64_t row, int column, float sum, float *held, int sub)
{
	const operand_matrix &o = j.out[m];
	int64_t at = column * o.rows + row;
	float v = sum * j.unscale + (o.bias != NULL ? o.bias[row] : 0);

	if (j.clamp > 0)
		v = fminf(fmaxf(v, -j.clamp), j.clamp);
	if (j.mode == MATVEC_ADD) {
		o.y[at] = *held + v;
		return;
	}
	if (j.mode == MATVEC_ACTIVATE) {
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

/* The warps' sums of a tile, joined and put where they belong. */
static __device__ __forceinline__ void
finish_tile(const matvec_job &j, const place &at, float (*part)[TILE_ROWS][COLUMNS], float *held)
{
	int row = threadIdx.x % TILE_ROWS, column = threadIdx.x / TILE_ROWS, tile, m;
	float sum = 0;

	if (column >= j.n)
		return;
	for (int i = 0; i < WARPS; i++)
		sum += part[i][row][column];
	m = find_tile(j, at, &tile);
	if ((int64_t)tile * TILE_ROWS + row < j.out[m].rows)
		put(j, m, (int64_t)tile * TILE_ROWS + row, column, sum, held, at.sub);
}

/* What a tile's results will be added to, fetched early. */
static __device__ __forceinline__ void
fetch_residual(const matvec_job &j, const place &at, float *held)
{
	int64_t row = (int64_t)at.unit * TILE_ROWS + threadIdx.x % TILE_ROWS, i;
	int column = threadIdx.x / TILE_ROWS;

	if (j.mode != MATVEC_ADD || column >= j.n || row >= j.out[0].rows)
		return;
	i = column * j.out[0].rows + row;
	*held = j.out[0].y[i] + (j.extra != NULL ? j.extra[i] : 0);
}

/* The loads of one batch: BATCH steps of a warp, WARPS apart. */
template <typename ROWS, int BATCH>
static __device__ __forceinline__ void
load_batch(const matvec_job &j, const place &at, typename ROWS::raw *r)
{
	int warp = threadIdx.x / 32, lane = threadIdx.x % 32, tile, first = at.batch * BATCH * WARPS + warp, which;

	if (at.unit >= j.units)
		return;
	which = find_tile(j, at, &tile);
	typename ROWS::place p = ROWS::begin(j.out[which], tile, first, j.steps, lane);
	if (first + (BATCH - 1) * WARPS < j.steps) {
#pragma unroll
		for (int b = 0; b < BATCH; b++)
			r[b] = ROWS::load(p, b * WARPS);
		return;
	}
#pragma unroll
	for (int b = 0; b < BATCH - 1; b++)
		if (first + b * WARPS < j.steps)
			r[b] = ROWS::load(p, b * WARPS);
}

/* c += the batch's weights times the activations; `mine` is where a lane's are in shared memory. */
template <typename ROWS, int BATCH>
static __device__ __forceinline__ void
multiply_batch(const matvec_job &j, const place &at, const typename ROWS::raw *r, uint32_t mine, float *c)
{
	int first = at.batch * BATCH * WARPS + threadIdx.x / 32;

	mine += first * STEP * (int)sizeof(__half);
#pragma unroll
	for (int b = 0; b < BATCH; b++)
		if (first + b * WARPS < j.steps) {
			uint4 low = load_16(mine + b * WARPS * STEP * (int)sizeof(__half));
			uint4 high = load_16(mine + b * WARPS * STEP * (int)sizeof(__half) + ROWS::second * (int)sizeof(__half));
			__half2 w[2][8];

			ROWS::halves(r[b], w);
			{
				uint32_t a0[4] = { bits_of(w[0][0]), bits_of(w[1][0]), bits_of(w[0][1]), bits_of(w[1][1]) };
				uint32_t a1[4] = { bits_of(w[0][2]), bits_of(w[1][2]), bits_of(w[0][3]), bits_of(w[1][3]) };
				uint32_t a2[4] = { bits_of(w[0][4]), bits_of(w[1][4]), bits_of(w[0][5]), bits_of(w[1][5]) };
				uint32_t a3[4] = { bits_of(w[0][6]), bits_of(w[1][6]), bits_of(w[0][7]), bits_of(w[1][7]) };

				multiply(c, a0, low.x, low.y);
				multiply(c, a1, low.z, low.w);
				multiply(c, a2, high.x, high.y);
				multiply(c, a3, high.z, high.w);
			}
		}
}

/*
 * Each block takes units in turn; its warps share the steps of a tile, and
 * the partial sums meet in shared memory. While one batch of a warp is
 * multiplied the next one is on its way, across tiles too.
 */
template <typename ROWS, int BATCH, int BLOCKS>
static __global__ void __launch_bounds__(THREADS, BLOCKS)
matvec_kernel(const __grid_constant__ matvec_job j)
{
	extern __shared__ __align__(16) unsigned char shared[];
	float (*part)[WARPS][TILE_ROWS][COLUMNS] = reinterpret_cast<float (*)[WARPS][TILE_ROWS][COLUMNS]>(shared);
	__half *x = reinterpret_cast<__half *>(shared + 2 * sizeof *part);
	int warp = threadIdx.x / 32, lane = threadIdx.x % 32, batches = (j.steps + WARPS * BATCH - 1) / (WARPS * BATCH);
	uint32_t mine = shared_address(x + (lane / 4 < j.n ? lane / 4 : j.n - 1) * j.ldx + ROWS::first(lane));
	struct place here = { (int)blockIdx.x, 0, 0 }, ahead = here;
	typename ROWS::raw buffer[2][BATCH];
	float c[4] = { 0, 0, 0, 0 }, held = 0;
	float4 weights[KEPT];
	bool keep = can_keep(j) && j.x32 != NULL;
	int phase = 0;

	load_batch<ROWS, BATCH>(j, ahead, buffer[0]);
	advance(j, &ahead, batches);
	if (warp == 0)
		prefetch_part(j.ahead, here.unit);
	if (keep && j.norm_weight != NULL)
#pragma unroll
		for (int k = 0; k < KEPT; k++) {
			int i = threadIdx.x + k * THREADS;

			/* Padding is multiplied too, and has to stay zero. */
			weights[k] = i * 4 < j.cols ? ((const float4 *)j.norm_weight)[i] : make_float4(0, 0, 0, 0);
		}
	wait_for_predecessor();
	fetch_residual(j, here, &held);
	for (int i = 0; i < j.n; i++) {
		/* Two rows in turn use sums of their own. */
		float *sums = reinterpret_cast<float *>(shared) + i % 2 * 2 * WARPS;

		if (j.x16 != NULL)
			fetch_halves(j, i, x + i * j.ldx);
		else if (keep)
			fetch_kept(j, i, x + i * j.ldx, sums, weights);
		else
			fetch_floats(j, i, x + i * j.ldx, sums);
	}
	__syncthreads();
	while (here.unit < j.units) {
#pragma unroll
		for (int k = 0; k < 2; k++) {
			struct place next = ahead;

			if (here.unit >= j.units)
				break;
			load_batch<ROWS, BATCH>(j, ahead, buffer[1 - k]);
			advance(j, &ahead, batches);
			multiply_batch<ROWS, BATCH>(j, here, buffer[k], mine, c);
			if (here.batch == batches - 1) {
				float *to = &part[phase][warp][lane / 4][lane % 4 * 2];

				to[0] = c[0];
				to[1] = c[1];
				to[8 * COLUMNS] = c[2];
				to[8 * COLUMNS + 1] = c[3];
				c[0] = c[1] = c[2] = c[3] = 0;
				__syncthreads();
				finish_tile(j, here, part[phase], &held);
				phase ^= 1;
			}
			here = next;
			if (here.batch > 0 || here.sub > 0 || here.unit >= j.units)
				continue;
			fetch_residual(j, here, &held);
			if (warp == 0)
				prefetch_part(j.ahead, here.unit);
		}
	}
}

/* Plain float32 weights: a warp takes a row. */
static __global__ void __launch_bounds__(THREADS)
matvec_f32_kernel(const __grid_constant__ matvec_job j)
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

		if (j.mode == MATVEC_ADD)
			held = j.out[m].y[i * j.out[m].rows + row] + (j.extra != NULL ? j.extra[i * j.out[m].rows + row] : 0);
		for (int64_t k = lane; k < j.cols; k += 32)
			sum += w[k] * j.x32[i * j.cols + k];
		sum = sum_lanes<1, 16>(sum);
		if (lane == 0)
			put(j, m, row, i, sum, &held, 0);
	}
}

static size_t
shared_bytes(int n, int64_t steps)
{
	return 2 * WARPS * TILE_ROWS * COLUMNS * sizeof(float) + (size_t)n * (size_t)(steps * STEP + SHARED_PAD) * 2;
}

bool
matvec_can(const struct cuda *c, const struct matrix *m, int n)
{
	(void)c;
	return n <= SMALL && (m->type == QUANT_F32 || shared_bytes(n, m->steps) <= 96 * 1024);
}

template <typename ROWS, int BATCH, int BLOCKS>
static void
start(struct cuda *c, const matvec_job *j)
{
	size_t shared = shared_bytes(j->n, j->steps);
	int blocks = c->sms * BLOCKS;

	allow_shared(c, matvec_kernel<ROWS, BATCH, BLOCKS>, shared);
	launch(c, true, matvec_kernel<ROWS, BATCH, BLOCKS>, (unsigned)(blocks < j->units ? blocks : j->units), THREADS,
	    shared, *j);
}

/* Steps on their way per warp, and blocks per multiprocessor: as many as there are registers for. */
static void
start_type(struct cuda *c, uint32_t type, const matvec_job *j)
{
	switch (type) {
	case QUANT_F16: start<half_rows, 2, 2>(c, j); break;
	case QUANT_Q4_0: start<packed_rows<QUANT_Q4_0>, 4, 3>(c, j); break;
	case QUANT_Q4_1: start<packed_rows<QUANT_Q4_1>, 4, 3>(c, j); break;
	case QUANT_Q5_0: start<packed_rows<QUANT_Q5_0>, 4, 3>(c, j); break;
	case QUANT_Q5_1: start<packed_rows<QUANT_Q5_1>, 4, 3>(c, j); break;
	case QUANT_Q8_0: start<packed_rows<QUANT_Q8_0>, 4, 2>(c, j); break;
	case QUANT_Q2_K: start<packed_rows<QUANT_Q2_K>, 4, 3>(c, j); break;
	case QUANT_Q3_K: start<packed_rows<QUANT_Q3_K>, 4, 3>(c, j); break;
	case QUANT_Q4_K: start<packed_rows<QUANT_Q4_K>, 4, 2>(c, j); break;
	case QUANT_Q5_K: start<packed_rows<QUANT_Q5_K>, 4, 2>(c, j); break;
	case QUANT_Q6_K: start<packed_rows<QUANT_Q6_K>, 4, 2>(c, j); break;
	}
}

void
matvec_run(struct cuda *c, const struct matvec_call *m)
{
	const struct matrix *first = m->out[0].m;
	struct matvec_job j = {};

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
	j.gated = m->mode == MATVEC_ACTIVATE && m->count == 2;
	j.extra = m->extra;
	j.act = m->act;
	j.y16 = m->y16;
	j.y16_ld = m->y16_ld;
	j.y16_scale = m->y16_scale;
	j.ahead = m->ahead;
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
		launch(c, false, matvec_f32_kernel, blocks_for(rows, WARPS), THREADS, 0, j);
		return;
	}
	if (j.gated)
		j.units = (int)first->tiles;
	prefetch_cut(&j.ahead, j.units);
	start_type(c, first->type, &j);
}
