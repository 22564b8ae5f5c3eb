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

/* (v & mask) | x in one instruction, which the compiler makes two of where both are constants. */
static __device__ __forceinline__ uint32_t
and_or(uint32_t v, uint32_t mask, uint32_t x)
{
	uint32_t y;

	asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(v), "r"(mask), "r"(x));
	return y;
}

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

	return and_or(shifted, p % 2 == 0 ? 0x000f000f : 0x00f000f0, magic);
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
load_once(const char *p, int offset)
{
	return __ldcs(reinterpret_cast<const T *>(p + offset));
}

/* Shared by lanes, or by the next steps. */
template <typename T>
static __device__ __forceinline__ T
load_shared(const char *p, int offset)
{
	return __ldg(reinterpret_cast<const T *>(p + offset));
}

/* Where a lane reads the planes of a step; those of later steps lie at constant distances. */
struct cursor {
	const char *q, *h, *s, *d;
};

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

/*
 * struct form<TYPE>, TYPE of enum quant_type: the bytes that a step takes in
 * the planes (d: those of four steps), what of it a lane loads, and halves(),
 * which makes w[2][8] of that: for rows g and g + 8, the 16 weights as pairs.
 * Padding has scale and minimum 0.
 */
template <int TYPE> struct form;

/* A lane's place in step `at`, counted over all tiles. Q_LANE ... are bytes of a lane in a plane that lanes do not share. */
template <int TYPE>
static __device__ __forceinline__ cursor
cursor_at(const packed &p, int64_t at, int lane)
{
	typedef form<TYPE> F;
	cursor c = {};

	c.q = static_cast<const char *>(p.q) + at * F::q_bytes + lane * (F::q_bytes == 1024 ? 16 : F::q_bytes / 32);
	if (F::h_bytes > 0)
		c.h = static_cast<const char *>(p.h) + at * F::h_bytes + lane * (F::h_bytes / 32);
	c.s = static_cast<const char *>(p.s) + at * F::s_bytes + (F::s_shared ? block_entry(0, lane) * (F::s_bytes / 16)
	                                                                      : lane * (F::s_bytes / 32));
	if (F::d_bytes > 0)
		c.d = static_cast<const char *>(p.d) + super_entry(at, lane) * (F::d_bytes / 8);
	return c;
}

/* q: 4-bit numbers, uint4 a lane: rows g (x, y) and g + 8 (z, w); s: the scales of both rows. */
template <> struct form<QUANT_Q4_0> {
	static const int q_bytes = 512, h_bytes = 0, s_bytes = 64, d_bytes = 0;
	static const bool s_shared = true;
	struct raw { uint4 q; uint32_t s; };

	static __device__ __forceinline__ raw
	load(const cursor &c, int ahead)
	{
		return { load_once<uint4>(c.q, ahead * q_bytes), load_shared<uint32_t>(c.s, ahead * s_bytes) };
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
	static const int q_bytes = 512, h_bytes = 0, s_bytes = 128, d_bytes = 0;
	static const bool s_shared = true;
	struct raw { uint4 q; uint2 s; };

	static __device__ __forceinline__ raw
	load(const cursor &c, int ahead)
	{
		return { load_once<uint4>(c.q, ahead * q_bytes), load_shared<uint2>(c.s, ahead * s_bytes) };
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
	uint32_t low = and_or(v >> (4 * (p % 4)), 0x000f000f, magic);

	return minus_magic(and_or(p < 4 ? h << (4 - p) : h >> (p - 4), 0x00100010, low), zero);
}

/* As Q4_0, h: fifth bits, row g in the low bytes of both halves of the word, row g + 8 in the high ones. */
template <> struct form<QUANT_Q5_0> {
	static const int q_bytes = 512, h_bytes = 128, s_bytes = 64, d_bytes = 0;
	static const bool s_shared = true;
	struct raw { uint4 q; uint32_t h, s; };

	static __device__ __forceinline__ raw
	load(const cursor &c, int ahead)
	{
		return { load_once<uint4>(c.q, ahead * q_bytes), load_once<uint32_t>(c.h, ahead * h_bytes),
			load_shared<uint32_t>(c.s, ahead * s_bytes) };
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
	static const int q_bytes = 512, h_bytes = 128, s_bytes = 128, d_bytes = 0;
	static const bool s_shared = true;
	struct raw { uint4 q; uint32_t h; uint2 s; };

	static __device__ __forceinline__ raw
	load(const cursor &c, int ahead)
	{
		return { load_once<uint4>(c.q, ahead * q_bytes), load_once<uint32_t>(c.h, ahead * h_bytes),
			load_shared<uint2>(c.s, ahead * s_bytes) };
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
	static const int q_bytes = 1024, h_bytes = 0, s_bytes = 64, d_bytes = 0;
	static const bool s_shared = true;
	struct raw { uint4 q[2]; uint32_t s; };

	static __device__ __forceinline__ raw
	load(const cursor &c, int ahead)
	{
		return { { load_once<uint4>(c.q, ahead * q_bytes), load_once<uint4>(c.q, ahead * q_bytes + 512) },
			load_shared<uint32_t>(c.s, ahead * s_bytes) };
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

/* 2-bit numbers: pair p in bits 2p and 16 + 2p, with further bits and the magic in extra, as halves q - zero. */
static __device__ __forceinline__ __half2
two_bits(uint32_t v, uint32_t extra, int p, uint32_t zero)
{
	return minus_magic(and_or(v >> (2 * p), 0x00030003, extra), zero);
}

/* q: 2-bit numbers, uint2 a lane; s: 4-bit scale and minimum of both rows a lane; d: scales, minima of both rows. */
template <> struct form<QUANT_Q2_K> {
	static const int q_bytes = 256, h_bytes = 0, s_bytes = 64, d_bytes = 64;
	static const bool s_shared = false;
	struct raw { uint2 q; uint32_t s; uint2 d; };

	static __device__ __forceinline__ raw
	load(const cursor &c, int ahead)
	{
		return { load_once<uint2>(c.q, ahead * q_bytes), load_once<uint16_t>(c.s, ahead * s_bytes),
			load_shared<uint2>(c.d, ahead / 4 * d_bytes) };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		__half2 s = __hmul2(bytes_pair(r.s & 0x0f0f, 0, 1), pair(r.d.x));
		__half2 m = __hneg2(__hmul2(bytes_pair(r.s >> 4 & 0x0f0f, 0, 1), pair(r.d.y)));

#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = __hfma2(two_bits(r.q.x, magic, p, 0), __low2half2(s), __low2half2(m));
			w[1][p] = __hfma2(two_bits(r.q.y, magic, p, 0), __high2half2(s), __high2half2(m));
		}
	}
};

/* q as in Q2_K; h: third bits as the fifth ones of Q5_0; s: scales + 128 of both rows a lane; d: scales of both rows. */
template <> struct form<QUANT_Q3_K> {
	static const int q_bytes = 256, h_bytes = 128, s_bytes = 64, d_bytes = 32;
	static const bool s_shared = false;
	struct raw { uint2 q; uint32_t h, s, d; };

	static __device__ __forceinline__ raw
	load(const cursor &c, int ahead)
	{
		return { load_once<uint2>(c.q, ahead * q_bytes), load_once<uint32_t>(c.h, ahead * h_bytes),
			load_once<uint16_t>(c.s, ahead * s_bytes), load_shared<uint32_t>(c.d, ahead / 4 * d_bytes) };
	}

	static __device__ __forceinline__ void
	halves(const raw &r, __half2 (*w)[8])
	{
		__half2 s = __hmul2(biased_pair(r.s, 0, 1), pair(r.d));

#pragma unroll
		for (int p = 0; p < 8; p++) {
			uint32_t a = and_or(p < 2 ? r.h << (2 - p) : r.h >> (p - 2), 0x00040004, magic);
			uint32_t b = and_or(r.h >> (6 + p), 0x00040004, magic);

			w[0][p] = __hmul2(two_bits(r.q.x, a, p, 4), __low2half2(s));
			w[1][p] = __hmul2(two_bits(r.q.y, b, p, 4), __high2half2(s));
		}
	}
};

/* q as in Q4_0; s: scales of both rows, minima of both rows, a byte each; d: scales, minima of both rows. */
template <> struct form<QUANT_Q4_K> {
	static const int q_bytes = 512, h_bytes = 0, s_bytes = 64, d_bytes = 64;
	static const bool s_shared = true;
	struct raw { uint4 q; uint32_t s; uint2 d; };

	static __device__ __forceinline__ raw
	load(const cursor &c, int ahead)
	{
		return { load_once<uint4>(c.q, ahead * q_bytes), load_shared<uint32_t>(c.s, ahead * s_bytes),
			load_shared<uint2>(c.d, ahead / 4 * d_bytes) };
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
	static const int q_bytes = 512, h_bytes = 128, s_bytes = 64, d_bytes = 64;
	static const bool s_shared = true;
	struct raw { uint4 q; uint32_t h, s; uint2 d; };

	static __device__ __forceinline__ raw
	load(const cursor &c, int ahead)
	{
		return { load_once<uint4>(c.q, ahead * q_bytes), load_once<uint32_t>(c.h, ahead * h_bytes),
			load_shared<uint32_t>(c.s, ahead * s_bytes), load_shared<uint2>(c.d, ahead / 4 * d_bytes) };
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
	static const int q_bytes = 512, h_bytes = 256, s_bytes = 64, d_bytes = 32;
	static const bool s_shared = false;
	struct raw { uint4 q; uint2 h; uint32_t s, d; };

	static __device__ __forceinline__ raw
	load(const cursor &c, int ahead)
	{
		return { load_once<uint4>(c.q, ahead * q_bytes), load_once<uint2>(c.h, ahead * h_bytes),
			load_once<uint16_t>(c.s, ahead * s_bytes), load_shared<uint32_t>(c.d, ahead / 4 * d_bytes) };
	}

	static __device__ __forceinline__ __half2
	six_bits(uint32_t v, uint32_t h, int p)
	{
		uint32_t low = and_or(v >> (4 * (p % 4)), 0x000f000f, magic);

		return minus_magic(and_or(p < 2 ? h << (4 - 2 * p) : h >> (2 * p - 4), 0x00300030, low), 32);
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
