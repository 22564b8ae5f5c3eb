/*
 * The weights that a pass of a few tokens reads, in their order, and which of
 * them each of its kernels asks for in advance: the memory then works on while
 * one kernel ends and the next one begins. Host code only; kernels call
 * prefetch_part.
 */
#include <stdlib.h>

#include "plan.cuh"

/*
 * How far ahead to ask, bytes: what the memory gives while one kernel ends and
 * the next one begins. Twice as much is slower, since what has come is lost
 * from the cache before it is read.
 */
static const int64_t distance = 4 << 20;

/* What one kernel reads: matrices one after the other or, gated, side by side. */
struct reading {
	const struct matrix *w[LINEAR_MAX];
	int count, units;      /* units: tiles, or pairs of tiles */
	bool gated;
	size_t bytes;          /* all of it */
};

static size_t
tile_bytes(const struct matrix *w)
{
	size_t q, h, s, d;

	if (w->type == QUANT_F16)
		return (size_t)w->ld * TILE_ROWS * sizeof(__half);
	weights_plane_sizes(w->type, &q, &h, &s, &d);
	return (size_t)w->steps * (q + h + s + d / 4);
}

void
prefetcher_add(struct prefetcher *p, const struct matrix *const *w, int count, bool gated)
{
	struct reading *r;

	if (p->lost || w[0]->type == QUANT_F32)
		return;
	if (p->n == p->capacity) {
		int capacity = p->capacity > 0 ? 2 * p->capacity : 256;
		void *more = realloc(p->readings, (size_t)capacity * sizeof *r);

		p->lost = more == NULL; /* it would only have been faster */
		if (p->lost)
			return;
		p->readings = static_cast<struct reading *>(more);
		p->capacity = capacity;
	}
	r = &p->readings[p->n++];
	r->count = count;
	r->gated = gated;
	r->units = 0;
	r->bytes = 0;
	for (int i = 0; i < count; i++) {
		r->w[i] = w[i];
		r->units += (int)w[i]->tiles;
		r->bytes += tile_bytes(w[i]) * (size_t)w[i]->tiles;
	}
	if (gated)
		r->units = (int)w[0]->tiles;
	p->bytes += r->bytes;
}

void
prefetcher_free(struct prefetcher *p)
{
	free(p->readings);
	p->readings = NULL;
}

/* ---- which bytes */

static void
add_range(struct prefetch *out, const void *base, size_t from, size_t to)
{
	const size_t line = 128;

	from -= from % line;
	to -= to % line;
	if (from >= to || out->count == PREFETCH_RANGES)
		return;
	out->range[out->count].from = static_cast<const char *>(base) + from;
	out->range[out->count++].bytes = (uint32_t)(to - from);
}

static void
add_tiles(struct prefetch *out, const struct matrix *w, int64_t first, int64_t last)
{
	size_t q, h, s, d, from = (size_t)(first * w->steps), to = (size_t)(last * w->steps);

	if (w->type == QUANT_F16) {
		size_t row = (size_t)w->ld * sizeof(__half);
		int64_t end = last * TILE_ROWS < w->rows ? last * TILE_ROWS : w->rows;

		add_range(out, w->half, (size_t)(first * TILE_ROWS) * row, (size_t)end * row);
		return;
	}
	weights_plane_sizes(w->type, &q, &h, &s, &d);
	add_range(out, w->p.q, from * q, to * q);
	add_range(out, w->p.h, from * h, to * h);
	add_range(out, w->p.s, from * s, to * s);
	add_range(out, w->p.d, from * d / 4, to * d / 4);
}

static void
add_units(struct prefetch *out, const struct reading *r, int64_t first, int64_t last)
{
	for (int i = 0; i < r->count; i++) {
		int64_t tiles = r->w[i]->tiles;

		if (first < tiles && last > 0)
			add_tiles(out, r->w[i], first > 0 ? first : 0, last < tiles ? last : tiles);
		if (!r->gated) {
			first -= tiles;
			last -= tiles;
		}
	}
}

/* Where kernels read less than that it is their start that takes time, and asking would only make it longer. */
static bool
is_worth_it(const struct prefetcher *p)
{
	return !p->lost && p->n > 0 && (int64_t)p->bytes / p->n > distance;
}

/* Ask for what lies within the distance and was not asked for yet. */
static void
go_on(struct prefetcher *p, struct prefetch *out)
{
	while (p->ahead < distance && out->count < PREFETCH_RANGES - 8) {
		const struct reading *r = &p->readings[p->next];
		int64_t unit = (int64_t)r->bytes / r->units + 1, n = (distance - p->ahead + unit - 1) / unit;

		n = n < r->units - p->next_unit ? n : r->units - p->next_unit;
		if (p->ahead >= 0)
			add_units(out, r, p->next_unit, p->next_unit + n);
		p->ahead += n * unit;
		p->next_unit += n;
		if (p->next_unit == r->units) {
			p->next_unit = 0;
			p->next = (p->next + 1) % p->n;
		}
	}
}

void
prefetcher_next(struct prefetcher *p, struct prefetch *out)
{
	const struct reading *r;

	if (!is_worth_it(p))
		return;
	r = &p->readings[p->at];
	p->at = (p->at + 1) % p->n;
	p->ahead -= ((int64_t)r->bytes / r->units + 1) * r->units;
	go_on(p, out);
}
