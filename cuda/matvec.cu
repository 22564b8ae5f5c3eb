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
};

/* Row-major halves, the same way: the 16 weights of a lane are columns 8t .. 8t+7 of both halves of a step. */
struct half_rows {
	struct raw { uint4 q[2][2]; };

	static __device__ __forceinline__ raw
	load(const operand_matrix &m, int64_t tile, int64_t step, int, int lane)
	{
		const __half *base = static_cast<const __half *>(m.data) + step * STEP + lane % 4 * 8;
		int64_t row = tile * TILE_ROWS + lane / 4, last = m.rows - 1;
		const uint4 *a = (const uint4 *)(base + (row < last ? row : last) * m.ld);
		const uint4 *b = (const uint4 *)(base + (row + 8 < last ? row + 8 : last) * m.ld);

		return { { { __ldcs(a), __ldcs(a + 4) }, { __ldcs(b), __ldcs(b + 4) } } };
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

	/* Where a lane finds the activations of its first and last eight weights. */
	static __device__ __forceinline__ int first(int lane) { return lane % 4 * 8; }
	static __device__ __forceinline__ int last(int lane) { return 32 + lane % 4 * 8; }
};

template <int TYPE>
struct packed_rows {
	typedef typename form<TYPE>::raw raw;

	static __device__ __forceinline__ raw
	load(const operand_matrix &m, int64_t tile, int64_t step, int steps, int lane)
	{
		return form<TYPE>::load(m.p, tile * steps + step, lane);
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		form<TYPE>::halves(r, w);
	}

	static __device__ __forceinline__ int first(int lane) { return lane % 4 * 16; }
	static __device__ __forceinline__ int last(int lane) { return lane % 4 * 16 + 8; }
};

/* The sum of one value per thread, known to all. */
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
	__syncthreads();
	return x;
}

/* Activations to shared memory, as halves, padded with zeros to whole steps. */
static __device__ __forceinline__ void
fetch_row(const matvec_job &j, int row, __half *to, float *part)
{
	int64_t padded = (int64_t)j.steps * STEP;
	float mean = 0, scale = 1;
	const float *x = j.x32 + row * j.cols;

	if (j.x32 == NULL) {
		for (int64_t i = threadIdx.x * 8; i < padded; i += THREADS * 8) {
			if (i + 8 <= j.cols) {
				*(uint4 *)(to + i) = *(const uint4 *)(j.x16 + row * j.ld16 + i);
				continue;
			}
			for (int k = 0; k < 8; k++)
				to[i + k] = i + k < j.cols ? j.x16[row * j.ld16 + i + k] : __float2half_rn(0);
		}
		return;
	}
	if (j.norm_weight != NULL) {
		float square = 0;

		if (j.norm == NORM_LAYER) {
			for (int64_t i = threadIdx.x; i < j.cols; i += THREADS)
				mean += x[i];
			mean = sum_block(mean, part) / (float)j.cols;
		}
		for (int64_t i = threadIdx.x; i < j.cols; i += THREADS)
			square += (x[i] - mean) * (x[i] - mean);
		scale = rsqrtf(sum_block(square, part) / (float)j.cols + j.eps);
	}
	for (int64_t i = threadIdx.x; i < padded; i += THREADS) {
		float v = i < j.cols ? (x[i] - mean) * scale : 0;

		if (j.norm_weight != NULL && i < j.cols)
			v = v * j.norm_weight[i] + (j.norm_bias != NULL ? j.norm_bias[i] : 0);
		to[i] = to_half(v);
	}
}

/* A place in a block's work: unit, which matrix and tile that is, and the step. */
struct place {
	int unit, sub, round;  /* sub: gate or up; round: of WARPS steps */
};

/* The tile that (unit, sub) stands for, and its matrix. */
static __device__ __forceinline__ int
find_tile(const matvec_job &j, const place &at, int *tile)
{
	int m = 0;

	if (j.gated) {
		*tile = at.unit;
		return at.sub;
	}
	*tile = at.unit;
	while (m < j.count - 1 && *tile >= j.out[m].tiles)
		*tile -= j.out[m++].tiles;
	return m;
}

static __device__ __forceinline__ void
advance(const matvec_job &j, place *at, int rounds)
{
	if (++at->round < rounds)
		return;
	at->round = 0;
	if (++at->sub < (j.gated ? 2 : 1))
		return;
	at->sub = 0;
	at->unit += gridDim.x;
}

/* A result on its way out; held: the gate's, where this is the up matrix's. */
static __device__ __forceinline__ void
put(const matvec_job &j, int m, int64_t row, int column, float sum, float *held, int sub)
{
	const operand_matrix &o = j.out[m];
	int64_t at = column * o.rows + row;
	float v = sum * j.unscale + (o.bias != NULL ? o.bias[row] : 0);

	if (j.clamp > 0)
		v = fminf(fmaxf(v, -j.clamp), j.clamp);
	if (j.mode == MATVEC_ADD) {
		o.y[at] = o.y[at] + (j.extra != NULL ? j.extra[at] : 0) + v;
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

/*
 * Each block takes units in turn; its warps share the steps of a tile, and
 * the partial sums meet in shared memory. DEPTH loads per warp are under way
 * all the time, across tiles too.
 */
template <typename ROWS, int DEPTH>
static __global__ void __launch_bounds__(THREADS, 2)
matvec_kernel(const __grid_constant__ matvec_job j)
{
	extern __shared__ __align__(16) unsigned char shared[];
	float (*part)[WARPS][TILE_ROWS][COLUMNS] = reinterpret_cast<float (*)[WARPS][TILE_ROWS][COLUMNS]>(shared);
	__half *x = reinterpret_cast<__half *>(shared + 2 * sizeof *part);
	int warp = threadIdx.x / 32, lane = threadIdx.x % 32, rounds = (j.steps + WARPS - 1) / WARPS, phase = 0;
	const __half *mine = x + (lane / 4 < j.n ? lane / 4 : j.n - 1) * j.ldx;
	struct place ahead = { (int)blockIdx.x, 0, 0 }, here = ahead;
	typename ROWS::raw buffer[DEPTH];
	float c[4] = { 0, 0, 0, 0 }, held = 0;

#pragma unroll
	for (int d = 0; d < DEPTH; d++) {
		int step = ahead.round * WARPS + warp, tile, m;

		if (ahead.unit < j.units && step < j.steps) {
			m = find_tile(j, ahead, &tile);
			buffer[d] = ROWS::load(j.out[m], tile, step, j.steps, lane);
		}
		advance(j, &ahead, rounds);
	}
	wait_for_predecessor();
	for (int i = 0; i < j.n; i++)
		fetch_row(j, i, x + i * j.ldx, reinterpret_cast<float *>(shared));
	__syncthreads();
	while (here.unit < j.units) {
#pragma unroll
		for (int d = 0; d < DEPTH; d++) {
			int step = here.round * WARPS + warp, tile, m;

			if (here.unit >= j.units)
				break;
			if (step < j.steps) {
				const __half *b = mine + step * STEP;
				uint4 low = *(const uint4 *)(b + ROWS::first(lane)), high = *(const uint4 *)(b + ROWS::last(lane));
				__half2 w[2][8];

				ROWS::halves(buffer[d], w);
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
			if (ahead.unit < j.units && ahead.round * WARPS + warp < j.steps) {
				m = find_tile(j, ahead, &tile);
				buffer[d] = ROWS::load(j.out[m], tile, ahead.round * WARPS + warp, j.steps, lane);
			}
			advance(j, &ahead, rounds);
			if (here.round == rounds - 1) {
				float *to = &part[phase][warp][lane / 4][lane % 4 * 2];

				to[0] = c[0];
				to[1] = c[1];
				to[8 * COLUMNS] = c[2];
				to[8 * COLUMNS + 1] = c[3];
				c[0] = c[1] = c[2] = c[3] = 0;
				__syncthreads();
				m = find_tile(j, here, &tile);
				if (threadIdx.x < TILE_ROWS * COLUMNS) {
					int row = threadIdx.x % TILE_ROWS, column = threadIdx.x / TILE_ROWS;
					float sum = 0;

					for (int i = 0; i < WARPS; i++)
						sum += part[phase][i][row][column];
					if (column < j.n && (int64_t)tile * TILE_ROWS + row < j.out[m].rows)
						put(j, m, (int64_t)tile * TILE_ROWS + row, column, sum, &held, here.sub);
				}
				phase ^= 1;
			}
			advance(j, &here, rounds);
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

template <typename ROWS, int DEPTH>
static void
start(struct cuda *c, const matvec_job *j)
{
	size_t shared = shared_bytes(j->n, j->steps);
	int blocks = c->sms * 2;

	allow_shared(c, matvec_kernel<ROWS, DEPTH>, shared);
	launch(c, true, matvec_kernel<ROWS, DEPTH>, (unsigned)(blocks < j->units ? blocks : j->units), THREADS, shared, *j);
}

static void
start_type(struct cuda *c, uint32_t type, const matvec_job *j)
{
	switch (type) {
	case QUANT_F16: start<half_rows, 3>(c, j); break;
	case QUANT_Q4_0: start<packed_rows<QUANT_Q4_0>, 6>(c, j); break;
	case QUANT_Q4_1: start<packed_rows<QUANT_Q4_1>, 6>(c, j); break;
	case QUANT_Q5_0: start<packed_rows<QUANT_Q5_0>, 5>(c, j); break;
	case QUANT_Q5_1: start<packed_rows<QUANT_Q5_1>, 5>(c, j); break;
	case QUANT_Q8_0: start<packed_rows<QUANT_Q8_0>, 5>(c, j); break;
	case QUANT_Q2_K: start<packed_rows<QUANT_Q2_K>, 6>(c, j); break;
	case QUANT_Q3_K: start<packed_rows<QUANT_Q3_K>, 6>(c, j); break;
	case QUANT_Q4_K: start<packed_rows<QUANT_Q4_K>, 6>(c, j); break;
	case QUANT_Q5_K: start<packed_rows<QUANT_Q5_K>, 5>(c, j); break;
	case QUANT_Q6_K: start<packed_rows<QUANT_Q6_K>, 5>(c, j); break;
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
	start_type(c, first->type, &j);
}
