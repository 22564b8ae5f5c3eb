/*
 * How quantised weights lie in device memory, and how they become halves.
 * A matrix is cut into tiles of 16 rows and steps of 64 columns; in a step,
 * lane (g, t) = (lane / 4, lane % 4) of a warp holds the 16 weights at columns
 * 16t .. 16t+15 of the rows g and g + 8: the operand of a tensor core product.
 * Everything that a warp loads for a step is contiguous. What scales it belongs
 * to blocks of 32 or 16 columns, two or four of them in a step.
 */
#ifndef SINKD_CUDA_FORMS_CUH
#define SINKD_CUDA_FORMS_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include <type_traits>

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

/* The magic: 0x6400 | q is the half 1024 + q, for q below 1024; 0x5400 | q << 4 is the half 64 + q, for q below 64. */
static const uint32_t magic = 0x64006400, magic_16 = 0x54005400;

/* (v & mask) | x in one instruction, which the compiler makes two of where both are constants. */
static __device__ __forceinline__ uint32_t
and_or(uint32_t v, uint32_t mask, uint32_t x)
{
	uint32_t y;

	asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(v), "r"(mask), "r"(x));
	return y;
}

static __device__ __forceinline__ uint32_t
moved(uint32_t v, int left)
{
	return left < 0 ? v >> -left : v << left;
}

/* The pair of 4-bit numbers p = 0..3 of v as halves 1024 + q (p even) or 64 + q (p odd). */
static __device__ __forceinline__ uint32_t
nibbles(uint32_t v, int p)
{
	uint32_t shifted = p < 2 ? v : v >> 8;

	return p % 2 == 0 ? and_or(shifted, 0x000f000f, magic) : and_or(shifted, 0x00f000f0, magic_16);
}

/*
 * To such halves of pair p further bits, which lie `bits` times p and 16 more above bit `from` of h: mask, above 4
 * bits.
 */
static __device__ __forceinline__ uint32_t
and_higher(uint32_t low, uint32_t h, int p, int bits, int from, uint32_t mask)
{
	int place = p % 2 == 0 ? 4 : 8;

	return and_or(moved(h, place - bits * p - from), mask << place, low);
}

/* Bytes i and j of v as halves 1024 + byte. */
static __device__ __forceinline__ uint32_t
bytes_pair(uint32_t v, int i, int j)
{
	return __byte_perm(v, magic | magic >> 8, 0x4040 | i | j << 8);
}

/* Signed bytes that were stored with 128 added. */
static __device__ __forceinline__ __half2
biased_pair(uint32_t v, int i, int j)
{
	return __hsub2(pair(bytes_pair(v, i, j)), pair(magic + 0x00800080));
}

/* Byte i of v, less zero. */
static __device__ __forceinline__ float
byte_float(uint32_t v, int i, float zero)
{
	/* 0x4b000000 | q is the float 2^23 + q */
	return __uint_as_float(__byte_perm(v, 0x4b000000, 0x7440 | i)) - (8388608 + zero);
}

/* Pieces of what a form wants come from global memory, */
struct direct {
	template <typename T>
	__device__ __forceinline__ T
	get(const char *p)
	{
		return __ldg(reinterpret_cast<const T *>(p));
	}
};

static __device__ __forceinline__ void
from_shared(uint32_t address, uint32_t *v)
{
	asm volatile("ld.shared.u32 %0, [%1];" : "=r"(*v) : "r"(address));
}

static __device__ __forceinline__ void
from_shared(uint32_t address, uint2 *v)
{
	asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v->x), "=r"(v->y) : "r"(address));
}

static __device__ __forceinline__ void
from_shared(uint32_t address, uint4 *v)
{
	asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v->x), "=r"(v->y), "=r"(v->z), "=r"(v->w)
	    : "r"(address));
}

static __device__ __forceinline__ void
from_shared(uint32_t address, float2 *v)
{
	asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v->x), "=f"(v->y) : "r"(address));
}

static __device__ __forceinline__ void
from_shared(uint32_t address, float4 *v)
{
	asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v->x), "=f"(v->y), "=f"(v->z), "=f"(v->w)
	    : "r"(address));
}

template <typename T>
static __device__ __forceinline__ T
load_shared(uint32_t address)
{
	T v;

	from_shared(address, &v);
	return v;
}

/* or from shared memory, where they lie as they do there. */
struct copied {
	template <typename T>
	__device__ __forceinline__ T
	get(uint32_t address)
	{
		return load_shared<T>(address);
	}
};

/*
 * Where a lane reads numbers (q, h), and scales of rows g and g + 8 and of two
 * neighbouring blocks (s, d); those of later steps lie at constant distances.
 * P: a pointer, or an address in shared memory.
 */
template <typename P>
struct cursor {
	P q, h, s, d;
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
 * the planes (d: those of four steps); the blocks of a step; what a lane loads
 * of a step, and numbers(), which makes w[2][8] of that: for rows g and g + 8,
 * the 16 numbers q as pairs of halves, of which even and odd pairs are `even`
 * and `odd` too large. With those taken away a weight is scale * q, plus a
 * minimum where the type has any: scales() of what load_scales() got, for both
 * rows and both blocks. Padding has scale and minimum 0.
 */
template <int TYPE> struct form;

/* A lane's place behind `at`, where a step begins; two: which two blocks of the step, of those that have four. */
template <int TYPE, typename P>
static __device__ __forceinline__ cursor<P>
lane_place(const cursor<P> &at, int lane, int two)
{
	typedef form<TYPE> F;
	int g = lane / 4;

	return { at.q + lane * (F::q_bytes == 1024 ? 16 : F::q_bytes / 32), at.h + lane * (F::h_bytes / 32),
		at.s + (F::blocks == 2 ? g * (F::s_bytes / 16) : (g * 4 + two * 2) * (F::s_bytes / 32)),
		    at.d + g * (F::d_bytes / 8) };
}

/* Where step `at`, counted over all tiles, begins. */
template <int TYPE>
static __device__ __forceinline__ cursor<const char *>
step_place(const packed &p, int64_t at)
{
	typedef form<TYPE> F;

	return { static_cast<const char *>(p.q) + at * F::q_bytes, static_cast<const char *>(p.h) + at * F::h_bytes,
		static_cast<const char *>(p.s) + at * F::s_bytes,
		    static_cast<const char *>(p.d) + (at >> 2) * F::d_bytes };
}

/* ---- scales */

struct scales {
	float scale[2][2], min[2][2]; /* [row][block] */
};

/* Two blocks of 32, with a WORD for both rows of each. */
template <typename WORD>
struct block_words {
	static const int blocks = 2, s_bytes = 16 * (int)sizeof(WORD), d_bytes = 0;
	struct raw_scales { WORD s[2]; };

	template <typename L, typename P>
	static __device__ __forceinline__ raw_scales
	load_scales(L &l, const cursor<P> &c, int ahead)
	{
		return { { l.template get<WORD>(c.s + ahead * s_bytes),
		    l.template get<WORD>(c.s + ahead * s_bytes + s_bytes / 2) } };
	}
};

/* Halves. */
struct half_scales : block_words<uint32_t> {
	static const bool minima = false;

	static __device__ __forceinline__ scales
	expand(const raw_scales &r)
	{
		scales k = {};

#pragma unroll
		for (int b = 0; b < 2; b++) {
			k.scale[0][b] = __low2float(pair(r.s[b]));
			k.scale[1][b] = __high2float(pair(r.s[b]));
		}
		return k;
	}
};

/* The same, and halves of minima. */
struct half_minima : block_words<uint2> {
	static const bool minima = true;

	static __device__ __forceinline__ scales
	expand(const raw_scales &r)
	{
		scales k;

#pragma unroll
		for (int b = 0; b < 2; b++) {
			k.scale[0][b] = __low2float(pair(r.s[b].x));
			k.scale[1][b] = __high2float(pair(r.s[b].x));
			k.min[0][b] = __low2float(pair(r.s[b].y));
			k.min[1][b] = __high2float(pair(r.s[b].y));
		}
		return k;
	}
};

/* Scales of both rows, minima of both rows, a byte each; d: scales, minima of both rows, for 256 columns. */
struct super_minima {
	static const int blocks = 2, s_bytes = 64, d_bytes = 64;
	static const bool minima = true;
	struct raw_scales { uint32_t s[2]; uint2 d; };

	template <typename L, typename P>
	static __device__ __forceinline__ raw_scales
	load_scales(L &l, const cursor<P> &c, int ahead)
	{
		return { { l.template get<uint32_t>(c.s + ahead * s_bytes),
		    l.template get<uint32_t>(c.s + ahead * s_bytes + s_bytes / 2) },
			l.template get<uint2>(c.d + ahead / 4 * d_bytes) };
	}

	static __device__ __forceinline__ scales
	expand(const raw_scales &r)
	{
		float d[2] = { __low2float(pair(r.d.x)), __high2float(pair(r.d.x)) };
		float m[2] = { __low2float(pair(r.d.y)), __high2float(pair(r.d.y)) };
		scales k;

#pragma unroll
		for (int row = 0; row < 2; row++)
#pragma unroll
			for (int b = 0; b < 2; b++) {
				k.scale[row][b] = byte_float(r.s[b], row, 0) * d[row];
				k.min[row][b] = byte_float(r.s[b], 2 + row, 0) * -m[row];
			}
		return k;
	}
};

/* Blocks of 16, a signed byte of both rows for each, stored with 128 added; d: scales of both rows, for 256 columns. */
struct super_bytes {
	static const int blocks = 4, s_bytes = 64, d_bytes = 32;
	static const bool minima = false;
	struct raw_scales { uint32_t s, d; };

	template <typename L, typename P>
	static __device__ __forceinline__ raw_scales
	load_scales(L &l, const cursor<P> &c, int ahead)
	{
		return { l.template get<uint32_t>(c.s + ahead * s_bytes),
		    l.template get<uint32_t>(c.d + ahead / 4 * d_bytes) };
	}

	static __device__ __forceinline__ scales
	expand(const raw_scales &r)
	{
		float d[2] = { __low2float(pair(r.d)), __high2float(pair(r.d)) };
		scales k = {};

#pragma unroll
		for (int row = 0; row < 2; row++)
#pragma unroll
			for (int b = 0; b < 2; b++)
				k.scale[row][b] = byte_float(r.s, 2 * b + row, 128) * d[row];
		return k;
	}
};

/* Blocks of 16, a byte of 4-bit scale and minimum of both rows for each; d: scales, minima of both rows. */
struct super_nibbles {
	static const int blocks = 4, s_bytes = 64, d_bytes = 64;
	static const bool minima = true;
	struct raw_scales { uint32_t s; uint2 d; };

	template <typename L, typename P>
	static __device__ __forceinline__ raw_scales
	load_scales(L &l, const cursor<P> &c, int ahead)
	{
		return { l.template get<uint32_t>(c.s + ahead * s_bytes),
		    l.template get<uint2>(c.d + ahead / 4 * d_bytes) };
	}

	static __device__ __forceinline__ scales
	expand(const raw_scales &r)
	{
		float d[2] = { __low2float(pair(r.d.x)), __high2float(pair(r.d.x)) };
		float m[2] = { __low2float(pair(r.d.y)), __high2float(pair(r.d.y)) };
		scales k;

#pragma unroll
		for (int row = 0; row < 2; row++)
#pragma unroll
			for (int b = 0; b < 2; b++) {
				k.scale[row][b] = byte_float(r.s & 0x0f0f0f0f, 2 * b + row, 0) * d[row];
				k.min[row][b] = byte_float(r.s >> 4 & 0x0f0f0f0f, 2 * b + row, 0) * -m[row];
			}
		return k;
	}
};

/* ---- numbers */

/* 4-bit numbers, uint4 a lane: pair p of row g (x, y) or, row = 1, g + 8 (z, w). */
static __device__ __forceinline__ uint32_t
nibbles_of(const uint4 &q, int row, int p)
{
	return nibbles(row == 0 ? p < 4 ? q.x : q.y : p < 4 ? q.z : q.w, p % 4);
}

/* q: 4-bit numbers. */
template <int ZERO>
struct four_bits {
	static const int q_bytes = 512, h_bytes = 0, even = 1024 + ZERO, odd = 64 + ZERO;
	struct raw { uint4 q; };

	template <typename L, typename P>
	static __device__ __forceinline__ raw
	load(L &l, const cursor<P> &c, int ahead)
	{
		return { l.template get<uint4>(c.q + ahead * q_bytes) };
	}

	static __device__ __forceinline__ void
	numbers(const raw &r, uint32_t (*w)[8])
	{
#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = nibbles_of(r.q, 0, p);
			w[1][p] = nibbles_of(r.q, 1, p);
		}
	}
};

/* The same; h: fifth bits, pair p in bits p and 16 + p, row g + 8 in bits 8 + p and 24 + p. */
template <int ZERO>
struct five_bits {
	static const int q_bytes = 512, h_bytes = 128, even = 1024 + ZERO, odd = 64 + ZERO;
	struct raw { uint4 q; uint32_t h; };

	template <typename L, typename P>
	static __device__ __forceinline__ raw
	load(L &l, const cursor<P> &c, int ahead)
	{
		return { l.template get<uint4>(c.q + ahead * q_bytes),
		    l.template get<uint32_t>(c.h + ahead * h_bytes) };
	}

	static __device__ __forceinline__ void
	numbers(const raw &r, uint32_t (*w)[8])
	{
#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = and_higher(nibbles_of(r.q, 0, p), r.h, p, 1, 0, 0x00010001);
			w[1][p] = and_higher(nibbles_of(r.q, 1, p), r.h, p, 1, 8, 0x00010001);
		}
	}
};

/* The same; h: the two higher bits of pair p in bits 2p and 16 + 2p, uint2 a lane: rows g and g + 8. */
struct six_bits {
	static const int q_bytes = 512, h_bytes = 256, even = 1024 + 32, odd = 64 + 32;
	struct raw { uint4 q; uint2 h; };

	template <typename L, typename P>
	static __device__ __forceinline__ raw
	load(L &l, const cursor<P> &c, int ahead)
	{
		return { l.template get<uint4>(c.q + ahead * q_bytes), l.template get<uint2>(c.h + ahead * h_bytes) };
	}

	static __device__ __forceinline__ void
	numbers(const raw &r, uint32_t (*w)[8])
	{
#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = and_higher(nibbles_of(r.q, 0, p), r.h.x, p, 2, 0, 0x00030003);
			w[1][p] = and_higher(nibbles_of(r.q, 1, p), r.h.y, p, 2, 0, 0x00030003);
		}
	}
};

/* q: bytes with 128 added, uint4 a lane and row: [at][row][lane]. */
struct eight_bits {
	static const int q_bytes = 1024, h_bytes = 0, even = 1024 + 128, odd = 1024 + 128;
	struct raw { uint4 q[2]; };

	template <typename L, typename P>
	static __device__ __forceinline__ raw
	load(L &l, const cursor<P> &c, int ahead)
	{
		return { { l.template get<uint4>(c.q + ahead * q_bytes),
		    l.template get<uint4>(c.q + ahead * q_bytes + 512) } };
	}

	static __device__ __forceinline__ void
	numbers(const raw &r, uint32_t (*w)[8])
	{
#pragma unroll
		for (int row = 0; row < 2; row++) {
			uint32_t v[4] = { r.q[row].x, r.q[row].y, r.q[row].z, r.q[row].w };

#pragma unroll
			for (int p = 0; p < 8; p++)
				w[row][p] = bytes_pair(v[p / 2], p % 2 * 2, p % 2 * 2 + 1);
		}
	}
};

/* q: 2-bit numbers, pair p in bits 2p and 16 + 2p, uint2 a lane: rows g and g + 8. */
struct two_bits {
	static const int q_bytes = 256, h_bytes = 0, even = 1024, odd = 1024;
	struct raw { uint2 q; };

	template <typename L, typename P>
	static __device__ __forceinline__ raw
	load(L &l, const cursor<P> &c, int ahead)
	{
		return { l.template get<uint2>(c.q + ahead * q_bytes) };
	}

	static __device__ __forceinline__ void
	numbers(const raw &r, uint32_t (*w)[8])
	{
#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = and_or(r.q.x >> (2 * p), 0x00030003, magic);
			w[1][p] = and_or(r.q.y >> (2 * p), 0x00030003, magic);
		}
	}
};

/* The same; h: third bits, as the fifth ones above. */
struct three_bits {
	static const int q_bytes = 256, h_bytes = 128, even = 1024 + 4, odd = 1024 + 4;
	struct raw { uint2 q; uint32_t h; };

	template <typename L, typename P>
	static __device__ __forceinline__ raw
	load(L &l, const cursor<P> &c, int ahead)
	{
		return { l.template get<uint2>(c.q + ahead * q_bytes),
		    l.template get<uint32_t>(c.h + ahead * h_bytes) };
	}

	static __device__ __forceinline__ void
	numbers(const raw &r, uint32_t (*w)[8])
	{
#pragma unroll
		for (int p = 0; p < 8; p++) {
			w[0][p] = and_or(r.q.x >> (2 * p), 0x00030003, and_or(moved(r.h, 2 - p), 0x00040004, magic));
			w[1][p] = and_or(r.q.y >> (2 * p), 0x00030003, and_or(moved(r.h, -6 - p), 0x00040004, magic));
		}
	}
};

template <> struct form<QUANT_Q4_0> : four_bits<8>, half_scales { };
template <> struct form<QUANT_Q4_1> : four_bits<0>, half_minima { };
template <> struct form<QUANT_Q5_0> : five_bits<16>, half_scales { };
template <> struct form<QUANT_Q5_1> : five_bits<0>, half_minima { };
template <> struct form<QUANT_Q8_0> : eight_bits, half_scales { };
template <> struct form<QUANT_Q2_K> : two_bits, super_nibbles { };
template <> struct form<QUANT_Q3_K> : three_bits, super_bytes { };
template <> struct form<QUANT_Q4_K> : four_bits<0>, super_minima { };
template <> struct form<QUANT_Q5_K> : five_bits<0>, super_minima { };
template <> struct form<QUANT_Q6_K> : six_bits, super_bytes { };

/* action(std::integral_constant of the type) for a type that has a form. */
template <typename Action>
static void
with_form(uint32_t type, Action action)
{
	switch (type) {
	case QUANT_Q4_0: action(std::integral_constant<int, QUANT_Q4_0>()); break;
	case QUANT_Q4_1: action(std::integral_constant<int, QUANT_Q4_1>()); break;
	case QUANT_Q5_0: action(std::integral_constant<int, QUANT_Q5_0>()); break;
	case QUANT_Q5_1: action(std::integral_constant<int, QUANT_Q5_1>()); break;
	case QUANT_Q8_0: action(std::integral_constant<int, QUANT_Q8_0>()); break;
	case QUANT_Q2_K: action(std::integral_constant<int, QUANT_Q2_K>()); break;
	case QUANT_Q3_K: action(std::integral_constant<int, QUANT_Q3_K>()); break;
	case QUANT_Q4_K: action(std::integral_constant<int, QUANT_Q4_K>()); break;
	case QUANT_Q5_K: action(std::integral_constant<int, QUANT_Q5_K>()); break;
	case QUANT_Q6_K: action(std::integral_constant<int, QUANT_Q6_K>()); break;
	}
}

#endif
