/* Memory of the CPU backend: it begins where a cache line does, and so do rows in it. */
#ifndef SINKD_ENGINE_ALIGNED_H
#define SINKD_ENGINE_ALIGNED_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNED_LINE = 64 }; /* bytes of a cache line */

/* Memory that begins at a line, all zero; release with free. NULL when there is none. */
static inline void *
aligned_new(size_t bytes)
{
	size_t rounded = (bytes + ALIGNED_LINE) / ALIGNED_LINE * ALIGNED_LINE;
	void *p = aligned_alloc(ALIGNED_LINE, rounded);

	if (p != NULL)
		memset(p, 0, rounded);
	return p;
}

/* Columns of a row of 16-bit numbers, rounded up to whole lines. */
static inline int64_t
aligned_pad(int64_t columns)
{
	const int64_t n = ALIGNED_LINE / (int64_t)sizeof(uint16_t);

	return (columns + n - 1) / n * n;
}

#endif
