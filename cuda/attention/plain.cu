/*
 * Attention over float32 keys and values, exact to float32: for models whose
 * weights are float32, and where that cache was asked for. A block takes one
 * token and head; its warps share the columns.
 */
#include "rows.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

struct plain_job {
	struct attend_call a;
	const float *q_window, *q_sink;
};

static __global__ void __launch_bounds__(THREADS)
plain_kernel(const __grid_constant__ plain_job j)
{
	extern __shared__ float shared[]; /* both forms of the query, then each warp's sum of values */
	__shared__ float largest[WARPS], total[WARPS];
	const struct cache_view &v = j.a.v;
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32, token = blockIdx.x, head = blockIdx.y;
	int head_kv = head / (j.a.n_head / v.n_head_kv);
	int64_t t = *j.a.first + token, q = ((int64_t)token * j.a.n_head + head) * v.d_k;
	const float *keys = static_cast<const float *>(v.k) + (int64_t)head_kv * v.slots * v.k_ld;
	const float *values = static_cast<const float *>(v.v) + (int64_t)head_kv * v.slots * v.v_ld;
	float *sum = shared + 2 * v.d_k + warp * v.d_v, m = -INFINITY, l = 0;
	float slope = j.a.slopes != NULL ? j.a.slopes[head] : 0;
	struct sight s = sight_of(v, t);
	int64_t sinks = s.to - s.from, columns = sinks + (t >= s.begin ? t + 1 - s.begin : 0);

	for (int d = threadIdx.x; d < v.d_k; d += THREADS) {
		shared[d] = j.q_window[q + d] * j.a.scale;
		shared[v.d_k + d] = v.sinks > 0 ? j.q_sink[q + d] * j.a.scale : 0;
	}
	for (int d = lane; d < v.d_v; d += 32)
		sum[d] = 0;
	__syncthreads();
	for (int64_t base = warp * 32; base < columns; base += THREADS) {
		int64_t i = base + lane, u = i < sinks ? s.from + i : s.begin + i - sinks,
		    slot = slot_of(v, i < columns ? u : t);
		float score = -INFINITY, before = m, p;

		if (i < columns) {
			const float *query = shared + (i < sinks ? v.d_k : 0), *key = keys + slot * v.k_ld;

			score = 0;
			for (int d = 0; d < v.d_k; d++)
				score += query[d] * key[d];
			score = shape_score(score, j.a.softcap, slope, (i < sinks ? s.here : t) - u);
		}
		m = fmaxf(m, max_lanes<1, 16>(score));
		p = expf(score - m);
		l = l * expf(before - m) + sum_lanes<1, 16>(p);
		for (int d = lane; d < v.d_v; d += 32)
			sum[d] *= expf(before - m);
		for (int k = 0; k < 32 && base + k < columns; k++) {
			float weight = __shfl_sync(0xffffffffu, p, k);
			int64_t at = __shfl_sync(0xffffffffu, slot, k) * v.v_ld;

			for (int d = lane; d < v.d_v; d += 32)
				sum[d] += weight * values[at + d];
		}
	}
	if (lane == 0) {
		largest[warp] = m;
		total[warp] = l;
	}
	__syncthreads();
	for (int d = threadIdx.x; d < v.d_v; d += THREADS) {
		float all = largest[0], x = 0, y = 0;

		for (int w = 1; w < WARPS; w++)
			all = fmaxf(all, largest[w]);
		for (int w = 0; w < WARPS; w++) {
			/* A warp without columns has nothing to say. */
			float f = largest[w] == -INFINITY ? 0 : expf(largest[w] - all);

			x += f * shared[2 * v.d_k + w * v.d_v + d];
			y += f * total[w];
		}
		x /= y;
		if (j.a.out32 != NULL)
			j.a.out32[((int64_t)token * j.a.n_head + head) * v.d_v + d] = x;
		if (j.a.out16 != NULL)
			j.a.out16[token * j.a.ld16 + head * v.d_v + d] = to_half(x);
	}
}

void
attend_plain(struct cuda *c, const struct attend_call *a, const float *q_window, const float *q_sink)
{
	struct plain_job j = { *a, q_window, q_sink };
	size_t shared = (size_t)(2 * a->v.d_k + WARPS * a->v.d_v) * sizeof(float);

	launch(c, false, plain_kernel, dim3((unsigned)a->n, (unsigned)a->n_head), THREADS, shared, j);
}
