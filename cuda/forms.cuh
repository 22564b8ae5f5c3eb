/*
 * How quantised weights lie in device memory, and how they become halves.
 * A matrix is cut into tiles of 16 rows and steps of 64 columns; in a step,
 * lane (g, t) = (lane / 4, lane % 4) of a warp holds the 16 weights at columns
 * 16t .. 16t+15 of the rows g and g + 8: the operand of a tensor core product.
 * Everything that a warp loads for a step is contiguous.
 */
#ifndef SINKD_CUDA_FORMS_CUH
#define SINKD_CUDA_FORMS_CUH

#include <cuda_fp16.h>
#include <stdint.h>

enum { TILE_ROWS = 16, STEP = 64 };

/* The planes of a packed matrix; what each form keeps where is told below. */
struct packed {
	const void *q, *h, *s, *d;
};

/* 32-bit operations on pairs of halves. */
static __device__ __forceinline__ __half2
pair(uint32_t bits)
{
	return *reinterpret_cast<const __half2 *>(&bits);
}

static __device__ __forceinline__ uint32_t
bits_of(__half2 h)
{
	return *reinterpret_cast<const uint32_t *>(&h);
}

/* The magic: 0x6400 | q is the half 1024 + q, for q below 1024. */
static const uint32_t magic = 0x64006400;

/* x, a half 1024 + q in both places, minus 1024 + zero. */
static __device__ __forceinline__ __half2
minus_magic(uint32_t x, uint32_t zero)
{
	return __hsub2(pair(x), pair(magic + zero * 0x10001));
}

/* The pair of 4-bit numbers p = 0..3 of v as halves 1024 + q (p even) or 1024 + 16 q (p odd). */
static __device__ __forceinline__ uint32_t
nibbles(uint32_t v, int p)
{
	uint32_t shifted = p < 2 ? v : v >> 8;

	return (shifted & (p % 2 == 0 ? 0x000f000fu : 0x00f000f0u)) | magic;
}

/* The same pair as halves q - zero. */
static __device__ __forceinline__ __half2
nibbles_minus(uint32_t v, int p, uint32_t zero)
{
	if (p % 2 == 0)
		return minus_magic(nibbles(v, p), zero);
	/* times 1/16, minus 64 + zero, whose last place is 1/16 */
	return __hfma2(pair(nibbles(v, p)), pair(0x2c002c00), pair(0xd400d400 + zero * 0x00100010));
}

/* Bytes i and j of v as halves (0 .. 255). */
static __device__ __forceinline__ __half2
bytes_pair(uint32_t v, int i, int j)
{
	return minus_magic(__byte_perm(v, 0x64646464, 0x4040 | i | j << 8), 0);
}

/* Signed bytes that were stored with 128 added. */
static __device__ __forceinline__ __half2
biased_pair(uint32_t v, int i, int j)
{
	return minus_magic(__byte_perm(v, 0x64646464, 0x4040 | i | j << 8), 128);
}

static __device__ __forceinline__ __half2
low_twice(uint32_t v)
{
	return __low2half2(pair(v));
}

static __device__ __forceinline__ __half2
high_twice(uint32_t v)
{
	return __high2half2(pair(v));
}

/* Streamed once: past the first cache. */
template <typename T>
static __device__ __forceinline__ T
load_once(const void *base, int64_t i)
{
	return __ldcs(static_cast<const T *>(base) + i);
}

/* Shared by lanes, or by the next steps. */
template <typename T>
static __device__ __forceinline__ T
load_shared(const void *base, int64_t i)
{
	return __ldg(static_cast<const T *>(base) + i);
}

/*
 * struct form<TYPE>, TYPE of enum quant_type: raw is what a lane loads for
 * step `at` (counted over all tiles), and halves() makes w[2][8] of it: for
 * rows g and g + 8, the 16 weights as pairs. Padding has scale and minimum 0.
 */
template <int TYPE> struct form;

/* Scales of 32 weights: entry [at][t / 2][g]. */
static __device__ __forceinline__ int64_t
block_entry(int64_t at, int lane)
{
	return at * 16 + (lane & 2) * 4 + (lane >> 2);
}

/* Scales of 256 weights: entry [at / 4][g]. */
static __device__ __forceinline__ int64_t
super_entry(int64_t at, int lane)
{
	return (at >> 2) * 8 + (lane >> 2);
}

/* q: 4-bit numbers, uint4 a lane: rows g (x, y) and g + 8 (z, w); s: the scales of both rows. */
template <> struct form<QUANT_Q4_0> {
	struct raw { uint4 q; uint32_t s; };

	static __device__ __forceinline__ raw
	load(const packed &p, int64_t at, int lane)
	{
		return { load_once<uint4>(p.q, at * 32 + lane), load_shared<uint32_t>(p.s, block_entry(at, lane)) };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		__half2 a = low_twice(r.s), b = high_twice(r.s);

#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = __hmul2(nibbles_minus(p < 4 ? r.q.x : r.q.y, p % 4, 8), a);
			w[1][p] = __hmul2(nibbles_minus(p < 4 ? r.q.z : r.q.w, p % 4, 8), b);
		}
	}
};

/* As Q4_0, s: scales of both rows, minima of both rows. */
template <> struct form<QUANT_Q4_1> {
	struct raw { uint4 q; uint2 s; };

	static __device__ __forceinline__ raw
	load(const packed &p, int64_t at, int lane)
	{
		return { load_once<uint4>(p.q, at * 32 + lane), load_shared<uint2>(p.s, block_entry(at, lane)) };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		__half2 a = low_twice(r.s.x), b = high_twice(r.s.x), ma = low_twice(r.s.y), mb = high_twice(r.s.y);

#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = __hfma2(nibbles_minus(p < 4 ? r.q.x : r.q.y, p % 4, 0), a, ma);
			w[1][p] = __hfma2(nibbles_minus(p < 4 ? r.q.z : r.q.w, p % 4, 0), b, mb);
		}
	}
};

/* The fifth bits of 16 weights: pair p in bits p and 16 + p of h. */
static __device__ __forceinline__ __half2
five_bits(uint32_t v, uint32_t h, int p, uint32_t zero)
{
	uint32_t low = (v >> (4 * (p % 4))) & 0x000f000f, high = (p < 4 ? h << (4 - p) : h >> (p - 4)) & 0x00100010;

	return minus_magic(low | high | magic, zero);
}

/* As Q4_0, h: fifth bits, row g in the low bytes of both halves of the word, row g + 8 in the high ones. */
template <> struct form<QUANT_Q5_0> {
	struct raw { uint4 q; uint32_t h, s; };

	static __device__ __forceinline__ raw
	load(const packed &p, int64_t at, int lane)
	{
		return { load_once<uint4>(p.q, at * 32 + lane), load_once<uint32_t>(p.h, at * 32 + lane),
			load_shared<uint32_t>(p.s, block_entry(at, lane)) };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		__half2 a = low_twice(r.s), b = high_twice(r.s);

#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = __hmul2(five_bits(p < 4 ? r.q.x : r.q.y, r.h, p, 16), a);
			w[1][p] = __hmul2(five_bits(p < 4 ? r.q.z : r.q.w, r.h >> 8, p, 16), b);
		}
	}
};

/* As Q5_0, s as in Q4_1. */
template <> struct form<QUANT_Q5_1> {
	struct raw { uint4 q; uint32_t h; uint2 s; };

	static __device__ __forceinline__ raw
	load(const packed &p, int64_t at, int lane)
	{
		return { load_once<uint4>(p.q, at * 32 + lane), load_once<uint32_t>(p.h, at * 32 + lane),
			load_shared<uint2>(p.s, block_entry(at, lane)) };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		__half2 a = low_twice(r.s.x), b = high_twice(r.s.x), ma = low_twice(r.s.y), mb = high_twice(r.s.y);

#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = __hfma2(five_bits(p < 4 ? r.q.x : r.q.y, r.h, p, 0), a, ma);
			w[1][p] = __hfma2(five_bits(p < 4 ? r.q.z : r.q.w, r.h >> 8, p, 0), b, mb);
		}
	}
};

/* q: bytes with 128 added, uint4 a lane and row: [at][row][lane]; s as in Q4_0. */
template <> struct form<QUANT_Q8_0> {
	struct raw { uint4 q[2]; uint32_t s; };

	static __device__ __forceinline__ raw
	load(const packed &p, int64_t at, int lane)
	{
		return { { load_once<uint4>(p.q, at * 64 + lane), load_once<uint4>(p.q, at * 64 + 32 + lane) },
			load_shared<uint32_t>(p.s, block_entry(at, lane)) };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
#pragma unroll
		for (int row = 0; row < 2; row++) {
			__half2 d = row == 0 ? low_twice(r.s) : high_twice(r.s);
			uint32_t v[4] = { r.q[row].x, r.q[row].y, r.q[row].z, r.q[row].w };

#pragma unroll
			for (int p = 0; p < 8; p++)
				w[row][p] = __hmul2(biased_pair(v[p / 2], p % 2 * 2, p % 2 * 2 + 1), d);
		}
	}
};

/* 2-bit numbers: pair p in bits 2p and 16 + 2p, plus extra bits, as halves q - zero. */
static __device__ __forceinline__ __half2
two_bits(uint32_t v, uint32_t extra, int p, uint32_t zero)
{
	return minus_magic(((v >> (2 * p)) & 0x00030003) | extra | magic, zero);
}

/* q: 2-bit numbers, uint2 a lane; s: 4-bit scale and minimum of both rows a lane; d: scales, minima of both rows. */
template <> struct form<QUANT_Q2_K> {
	struct raw { uint2 q; uint32_t s; uint2 d; };

	static __device__ __forceinline__ raw
	load(const packed &p, int64_t at, int lane)
	{
		return { load_once<uint2>(p.q, at * 32 + lane), load_once<uint16_t>(p.s, at * 32 + lane),
			load_shared<uint2>(p.d, super_entry(at, lane)) };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		__half2 s = __hmul2(bytes_pair(r.s & 0x0f0f, 0, 1), pair(r.d.x));
		__half2 m = __hneg2(__hmul2(bytes_pair(r.s >> 4 & 0x0f0f, 0, 1), pair(r.d.y)));

#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = __hfma2(two_bits(r.q.x, 0, p, 0), __low2half2(s), __low2half2(m));
			w[1][p] = __hfma2(two_bits(r.q.y, 0, p, 0), __high2half2(s), __high2half2(m));
		}
	}
};

/* q as in Q2_K; h: third bits as the fifth ones of Q5_0; s: scales + 128 of both rows a lane; d: scales of both rows. */
template <> struct form<QUANT_Q3_K> {
	struct raw { uint2 q; uint32_t h, s, d; };

	static __device__ __forceinline__ raw
	load(const packed &p, int64_t at, int lane)
	{
		return { load_once<uint2>(p.q, at * 32 + lane), load_once<uint32_t>(p.h, at * 32 + lane),
			load_once<uint16_t>(p.s, at * 32 + lane), load_shared<uint32_t>(p.d, super_entry(at, lane)) };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		__half2 s = __hmul2(biased_pair(r.s, 0, 1), pair(r.d));

#pragma unroll
		for (int p = 0; p < 8; p++) {
			uint32_t a = (p < 2 ? r.h << (2 - p) : r.h >> (p - 2)) & 0x00040004;
			uint32_t b = ((r.h >> 8) >> p << 2) & 0x00040004;

			w[0][p] = __hmul2(two_bits(r.q.x, a, p, 4), __low2half2(s));
			w[1][p] = __hmul2(two_bits(r.q.y, b, p, 4), __high2half2(s));
		}
	}
};

/* q as in Q4_0; s: scales of both rows, minima of both rows, a byte each; d: scales, minima of both rows. */
template <> struct form<QUANT_Q4_K> {
	struct raw { uint4 q; uint32_t s; uint2 d; };

	static __device__ __forceinline__ raw
	load(const packed &p, int64_t at, int lane)
	{
		return { load_once<uint4>(p.q, at * 32 + lane), load_shared<uint32_t>(p.s, block_entry(at, lane)),
			load_shared<uint2>(p.d, super_entry(at, lane)) };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		__half2 s = __hmul2(bytes_pair(r.s, 0, 1), pair(r.d.x));
		__half2 m = __hneg2(__hmul2(bytes_pair(r.s, 2, 3), pair(r.d.y)));

#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = __hfma2(nibbles_minus(p < 4 ? r.q.x : r.q.y, p % 4, 0), __low2half2(s), __low2half2(m));
			w[1][p] = __hfma2(nibbles_minus(p < 4 ? r.q.z : r.q.w, p % 4, 0), __high2half2(s), __high2half2(m));
		}
	}
};

/* As Q4_K, with h as in Q5_0. */
template <> struct form<QUANT_Q5_K> {
	struct raw { uint4 q; uint32_t h, s; uint2 d; };

	static __device__ __forceinline__ raw
	load(const packed &p, int64_t at, int lane)
	{
		return { load_once<uint4>(p.q, at * 32 + lane), load_once<uint32_t>(p.h, at * 32 + lane),
			load_shared<uint32_t>(p.s, block_entry(at, lane)), load_shared<uint2>(p.d, super_entry(at, lane)) };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		__half2 s = __hmul2(bytes_pair(r.s, 0, 1), pair(r.d.x));
		__half2 m = __hneg2(__hmul2(bytes_pair(r.s, 2, 3), pair(r.d.y)));

#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = __hfma2(five_bits(p < 4 ? r.q.x : r.q.y, r.h, p, 0), __low2half2(s), __low2half2(m));
			w[1][p] = __hfma2(five_bits(p < 4 ? r.q.z : r.q.w, r.h >> 8, p, 0), __high2half2(s), __high2half2(m));
		}
	}
};

/* q: low four bits as in Q4_0; h: high two bits as the numbers of Q2_K; s, d as in Q3_K. */
template <> struct form<QUANT_Q6_K> {
	struct raw { uint4 q; uint2 h; uint32_t s, d; };

	static __device__ __forceinline__ raw
	load(const packed &p, int64_t at, int lane)
	{
		return { load_once<uint4>(p.q, at * 32 + lane), load_once<uint2>(p.h, at * 32 + lane),
			load_once<uint16_t>(p.s, at * 32 + lane), load_shared<uint32_t>(p.d, super_entry(at, lane)) };
	}

	static __device__ __forceinline__ __half2
	six_bits(uint32_t v, uint32_t h, int p)
	{
		uint32_t high = (p < 2 ? h << (4 - 2 * p) : h >> (2 * p - 4)) & 0x00300030;

		return minus_magic(((v >> (4 * (p % 4))) & 0x000f000f) | high | magic, 32);
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		__half2 s = __hmul2(biased_pair(r.s, 0, 1), pair(r.d));

#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = __hmul2(six_bits(p < 4 ? r.q.x : r.q.y, r.h.x, p), __low2half2(s));
			w[1][p] = __hmul2(six_bits(p < 4 ? r.q.z : r.q.w, r.h.y, p), __high2half2(s));
		}
	}
};

#endif
