/*
 * How rows of weights meet activations: what a warp loads of them, and the
 * products of a batch of steps with the operand. Tensor cores take 16 weight
 * rows against 8 columns at a time, 16 weights deep.
 *
 * Quantised numbers go into products as they are, a constant too large, and
 * scales come after: what is too large was multiplied by the activations once
 * for all rows (sums of struct operand), and products begin with minus that.
 * As each block has a scale of its own it has a column of its own, where the
 * activations of other blocks are zero. One row of activations fills the eight
 * columns with the blocks of several steps, more rows with the blocks of a step
 * for each: a group is what shares columns with no other.
 */
#ifndef SINKD_CUDA_MATVEC_ROWS_CUH
#define SINKD_CUDA_MATVEC_ROWS_CUH

#include "product/gemv.cuh"

/* What a lane is, (lane / 4, lane % 4). */
static __device__ __forceinline__ int
lane_g(void)
{
	return threadIdx.x % 32 / 4;
}

static __device__ __forceinline__ int
lane_t(void)
{
	return threadIdx.x % 4;
}

/* A value that is computed once: the compiler is not to do it again wherever it is used. */
static __device__ __forceinline__ uint32_t
computed(uint32_t x)
{
	asm volatile("" : "+r"(x));
	return x;
}

/* c[16, 8], a sum of two parts, += 64 columns of weights w[2][8] times the activations low and high. */
static __device__ __forceinline__ void
multiply_step(float (*c)[4], const uint32_t (*w)[8], uint4 low, uint4 high)
{
	uint32_t x[8] = { low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w };

#pragma unroll
	for (int i = 0; i < 4; i++) {
		uint32_t a[4] = { w[0][2 * i], w[1][2 * i], w[0][2 * i + 1], w[1][2 * i + 1] };

		/* One product does not wait for the one before it. */
		multiply(c[i % 2], a, x[2 * i], x[2 * i + 1]);
	}
}

/* Row-major halves: the 16 weights of a lane are columns 8t .. 8t+7 of both halves of a step. */
struct half_rows {
	static const int blocks = 0, even = 0, odd = 0, steps = 2, columns = COLUMNS, parts = 4;
	static const bool minima = false;
	/* A row of a batch in shared memory: rows begin in banks that do not meet. */
	static const int pitch = steps * STEP * (int)sizeof(__half) + 64, batch_bytes = TILE_ROWS * pitch;
	struct sums { float c[2][4]; };
	struct view { uint32_t x, w; };    /* a lane's activations of step 0, and where it finds weights in a batch */

	static __device__ __forceinline__ view
	look(const gemv_job &j, const struct operand &o)
	{
		int row = lane_g() < j.n ? lane_g() : j.n - 1;

		return { computed(shared_address(o.x + row * j.ldx + lane_t() * 8)),
		    (uint32_t)(lane_g() * pitch + lane_t() * 16) };
	}

	static __device__ __forceinline__ void
	load(const operand_matrix &m, int tile, int first, int n, int, uint32_t to, uint32_t barrier)
	{
		int bytes = n * STEP * (int)sizeof(__half), left = (int)(m.rows - (int64_t)tile * TILE_ROWS);
		int rows = left < TILE_ROWS ? left : TILE_ROWS;
		const __half *from = static_cast<const __half *>(m.data) + (int64_t)tile * TILE_ROWS * m.ld + first *
		    STEP;

		/* Rows beyond the last one are whatever was there; so are their results. */
		batch_begin(barrier, rows * bytes);
		batch_copy_rows(to, pitch, reinterpret_cast<const char *>(from), m.ld * (int)sizeof(__half), rows,
		    bytes, barrier);
		batch_end();
	}

	static __device__ __forceinline__ void
	multiply(const gemv_job &, const view &v, int first, int n, uint32_t from, sums *sum)
	{
		uint32_t x = v.x + first * STEP * (int)sizeof(__half), mine = from + v.w;

#pragma unroll
		for (int s = 0; s < steps; s++) {
			uint32_t w[2][8], at = mine + s * STEP * (int)sizeof(__half);

			if (s >= n)
				break;
#pragma unroll
			for (int r = 0; r < 2; r++)
#pragma unroll
				for (int i = 0; i < 2; i++) {
					uint4 q = load_shared<uint4>(at + r * 8 * pitch + i * 64);

					w[r][4 * i] = q.x;
					w[r][4 * i + 1] = q.y;
					w[r][4 * i + 2] = q.z;
					w[r][4 * i + 3] = q.w;
				}
			multiply_step(sum->c, w, load_shared<uint4>(x), load_shared<uint4>(x + 64));
			x += STEP * (int)sizeof(__half);
		}
	}

	static __device__ __forceinline__ void
	put(const sums &s, column_sums *to)
	{
		int g = lane_g(), t = lane_t();

		to[2 * t][g] = s.c[0][0] + s.c[1][0];
		to[2 * t + 1][g] = s.c[0][1] + s.c[1][1];
		to[2 * t][g + 8] = s.c[0][2] + s.c[1][2];
		to[2 * t + 1][g + 8] = s.c[0][3] + s.c[1][3];
	}
};

/* Packed ones. ONE: there is one row of activations, and a group is a step; else a group is a row. */
template <int TYPE, bool ONE>
struct packed_rows {
	typedef form<TYPE> F;
	static const int blocks = F::blocks, even = F::even, odd = F::odd, steps = 4, groups = COLUMNS / blocks;
	static const int columns = ONE ? 1 : COLUMNS, parts = ONE ? 4 : 2;
	static const bool minima = F::minima;
	static const int together = ONE ? groups : 1;              /* steps that share the columns of a product */
	static const int passes = ONE ? 1 : (SMALL + groups - 1) / groups; /* products for all rows of activations */
	static_assert(steps % together == 0, "whole products");
	/* In shared memory a batch is its planes, one after the other. */
	static const int h_at = steps * F::q_bytes, s_at = h_at + steps * F::h_bytes, d_at = s_at + steps * F::s_bytes;
	static const int batch_bytes = d_at + F::d_bytes;
	struct sums { float y[passes][2]; };
	/*
	 * Addresses in shared memory: a lane's activations of row and step 0, zeros, its sums; what it reads of a
	 * batch; what it gives.
	 */
	struct view { uint32_t x, zeros, sums, q, h, s, d; int given; };

	/* The group whose results a lane gets, and which two blocks of it: its columns 2t and 2t + 1. */
	static __device__ __forceinline__ int result_group(void) { return lane_t() / (blocks / 2); }
	static __device__ __forceinline__ int result_two(void) { return lane_t() % (blocks / 2); }

	/* How far the step lies whose scales a lane needs. */
	static __device__ __forceinline__ int scale_step(void) { return ONE ? result_group() : 0; }

	static __device__ __forceinline__ view
	look(const gemv_job &j, const struct operand &o)
	{
		cursor<uint32_t> lane = lane_place<TYPE>(cursor<uint32_t>{ 0, h_at, s_at, d_at }, threadIdx.x % 32,
		    result_two());
		view v;

		v.x = computed(shared_address(o.x + lane_t() * 16));
		v.zeros = computed(shared_address(o.x + j.n * j.ldx));
		v.sums = computed(shared_address(o.sums + (scale_step() * blocks + 2 * result_two()) *
		    (minima ? 2 : 1)));
		v.q = computed(lane.q);
		v.h = F::h_bytes > 0 ? computed(lane.h) : 0;
		v.s = computed(lane.s + scale_step() * F::s_bytes);
		v.d = F::d_bytes > 0 ? computed(lane.d) : 0;
		/* The group of column g, unless the column is another block's: then none, -1. */
		v.given = computed(lane_g() % blocks == lane_t() * blocks / 4 ? lane_g() / blocks : -1);
		return v;
	}

	static __device__ __forceinline__ void
	load(const operand_matrix &m, int tile, int first, int n, int all, uint32_t to, uint32_t barrier)
	{
		cursor<const char *> at = step_place<TYPE>(m.p, (int64_t)tile * all + first);

		batch_begin(barrier, n * (F::q_bytes + F::h_bytes + F::s_bytes) + F::d_bytes);
		batch_copy(to, at.q, n * F::q_bytes, barrier);
		if (F::h_bytes > 0)
			batch_copy(to + h_at, at.h, n * F::h_bytes, barrier);
		batch_copy(to + s_at, at.s, n * F::s_bytes, barrier);
		if (F::d_bytes > 0)
			batch_copy(to + d_at, at.d, F::d_bytes, barrier);
		batch_end();
	}

	static __device__ __forceinline__ scales
	scales_of(const cursor<uint32_t> &at, int s)
	{
		copied l;

		return F::expand(F::load_scales(l, at, s));
	}

	/*
	 * What a product begins with, of a lane's row and step, and the sums of activations; there: whether there is
	 * such a step.
	 */
	static __device__ __forceinline__ void
	begin_product(const gemv_job &j, const view &v, int row, int step, bool there, float (*c)[4], float *sum)
	{
		uint32_t at = v.sums + (row * j.steps + step) * (blocks * (minima ? 2 : 1) * (int)sizeof(float));
		float4 x = make_float4(0, 0, 0, 0);

		if (there && minima) {
			x = load_shared<float4>(at);
		} else if (there) {
			float2 excess = load_shared<float2>(at);

			x.x = excess.x;
			x.y = excess.y;
		}
		c[0][0] = c[0][2] = x.x;
		c[0][1] = c[0][3] = minima ? x.z : x.y;
		c[1][0] = c[1][1] = c[1][2] = c[1][3] = 0;
		sum[0] = x.y;
		sum[1] = x.w;
	}

	/* Scales come after the products. */
	static __device__ __forceinline__ void
	end_product(const scales &k, const float (*c)[4], const float *sum, float *y)
	{
#pragma unroll
		for (int r = 0; r < 2; r++)
#pragma unroll
			for (int b = 0; b < 2; b++) {
				y[r] += k.scale[r][b] * (c[0][2 * r + b] + c[1][2 * r + b]);
				if (minima)
					y[r] += k.min[r][b] * sum[b];
			}
	}

	/* Steps first .. first + n - 1 of a tile, a batch that lies at `from`; whole ones have no branches. */
	static __device__ __forceinline__ void
	multiply(const gemv_job &j, const view &v, int first, int n, uint32_t from, sums *sum)
	{
		if (ONE && n == steps)
			multiply_steps(j, v, first, steps, from, sum);
		else
			multiply_steps(j, v, first, n, from, sum);
	}

	static __device__ __forceinline__ void
	multiply_steps(const gemv_job &j, const view &v, int first, int n, uint32_t from, sums *sum)
	{
		const int x_bytes = STEP * (int)sizeof(__half);
		cursor<uint32_t> at = { from + v.q, from + v.h, from + v.s, from + v.d };
		uint32_t mine = v.x + first * x_bytes;

#pragma unroll
		for (int k = 0; k < steps / together; k++) {
			bool there = k * together + scale_step() < n;
			float c[2][4], all[2];

			if (k * together >= n)
				break;
			if (ONE)
				begin_product(j, v, 0, first + k * together, there, c, all);
#pragma unroll
			for (int i = 0; i < together; i++) {
				int s = k * together + i;
				uint32_t w[2][8], x;
				copied l;

				if (s >= n)
					break;
				F::numbers(F::load(l, at, s), w);
				if constexpr (ONE) {
					x = v.given == i ? mine + s * x_bytes : v.zeros;
					multiply_step(c, w, load_shared<uint4>(x), load_shared<uint4>(x + 16));
				} else {
#pragma unroll
					for (int p = 0; p < passes; p++) {
						int row = p * groups + v.given, result = p * groups + result_group();

						if (p * groups >= j.n)
							break;
						begin_product(j, v, result, first + s, result < j.n, c, all);
						x = v.zeros;
						if (v.given >= 0 && row < j.n)
							x = mine + s * x_bytes + row * (int)j.ldx * (int)sizeof(__half);
						multiply_step(c, w, load_shared<uint4>(x), load_shared<uint4>(x + 16));
						end_product(scales_of(at, s), c, all, sum->y[p]);
					}
				}
			}
			/* What lies in a batch behind its end may be anything. */
			if (ONE && there)
				end_product(scales_of(at, k * together), c, all, sum->y[0]);
		}
	}

	static __device__ __forceinline__ void
	put(const sums &s, column_sums *to)
	{
		int g = lane_g(), t = lane_t();

#pragma unroll
		for (int p = 0; p < passes; p++) {
			/* Lanes that have the same result have parts of it. */
			const int last = ONE ? 2 : blocks == 4 ? 1 : 0;
			float low = sum_lanes<1, last>(s.y[p][0]), high = sum_lanes<1, last>(s.y[p][1]);

			if (ONE ? t > 0 : result_two() > 0)
				continue;
			to[ONE ? 0 : p * groups + result_group()][g] = low;
			to[ONE ? 0 : p * groups + result_group()][g + 8] = high;
		}
	}
};

#endif
