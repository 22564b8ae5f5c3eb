/* Copies of weights; see copies.h. */
#include "engine/cpu/copies.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/memory.h"
#include "engine/cpu/cpu.h"
#include "engine/quant.h"

/* Memory comes in pieces that huge pages fit; it is given back when no weight is left. */
enum { PIECE = 32 << 20, HUGE_PAGE = 2 << 20 };

struct piece {
	struct piece *next;
	char *memory;
	size_t size, used;
};

struct copies {
	struct piece *pieces;
	size_t left;   /* bytes that may still be taken */
	size_t limit;
	int weights;
};

struct copies *
copies_new(int64_t bytes)
{
	struct copies *c = calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	if (bytes < 0)
		bytes = memory_get_share();
	c->left = c->limit = (size_t)bytes;
	return c;
}

static void
release(struct copies *c)
{
	for (struct piece *p = c->pieces, *next; p != NULL; p = next) {
		next = p->next;
		munmap(p->memory, p->size);
		free(p);
	}
	c->pieces = NULL;
	c->left = c->limit;
}

void
copies_free(struct copies *c)
{
	if (c == NULL)
		return;
	release(c);
	free(c);
}

static struct piece *
add_piece(struct copies *c, size_t size)
{
	struct piece *p = malloc(sizeof *p);

	if (p == NULL)
		return NULL;
	size = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	*p = (struct piece){ c->pieces, NULL, size > PIECE ? size : PIECE, 0 };
	p->memory = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->memory == MAP_FAILED) {
		free(p);
		return NULL;
	}
	madvise(p->memory, p->size, MADV_HUGEPAGE);
	c->pieces = p;
	return p;
}

/* 64-byte aligned memory, or NULL: none left. */
static void *
take(struct copies *c, size_t size)
{
	struct piece *p = c->pieces;

	if (size > c->left)
		return NULL;
	size = (size + 63) / 64 * 64;
	if ((p == NULL || p->size - p->used < size) && (p = add_piece(c, size)) == NULL)
		return NULL;
	p->used += size;
	c->left -= size < c->left ? size : c->left;
	return p->memory + p->used - size;
}

struct copy_job {
	struct cpu *c;
	const struct weight *w;
	char *copy;
};

static void
copy_panel(void *arg, int panel, int worker)
{
	struct copy_job *j = arg;
	int64_t first = (int64_t)panel * PANEL, rows = j->w->rows - first;

	(void)worker;
	j->c->k->transpose(j->w, first, (int)(rows < PANEL ? rows : PANEL), 0, j->w->cols,
	    (uint32_t *)j->copy + panel * kernels_count_words(j->w));
}

static void
copy_tile(void *arg, int tile, int worker)
{
	struct copy_job *j = arg;
	int64_t first = (int64_t)tile * TILE, rows = j->w->rows - first;

	j->c->library->pack(j->c->k, j->w, first, (int)(rows < TILE ? rows : TILE),
	    j->copy + (size_t)tile * j->c->library->tile_size(j->w->cols), j->c->scratch[worker].rows);
}

/* Keep a copy in so many parts of a size, if there is memory for it. */
static void
keep(struct cpu *c, struct weight *w, int64_t parts, size_t size, void (*copy)(void *arg, int part, int worker))
{
	struct copy_job j = { .c = c, .w = w, .copy = take(c->copies, (size_t)parts * size) };

	if (j.copy == NULL)
		return;
	team_run(c->team, copy, &j, (int)parts);
	w->device = j.copy;
	c->copies->weights++;
	c->base.copied = true;
}

int
cpu_load_weight(struct backend *b, struct weight *w, struct err *e)
{
	struct cpu *c = (struct cpu *)b;

	w->device = NULL;
	if (w->embeds_only)
		return 0;
	if (cpu_uses_library(c, w->type)) {
		if (c->library->prepare(c->matmul, w->cols, e) < 0)
			return -1;
		keep(c, w, (w->rows + TILE - 1) / TILE, c->library->tile_size(w->cols), copy_tile);
	} else if (c->k->wants_words(w->type)) {
		keep(c, w, (w->rows + PANEL - 1) / PANEL, (size_t)kernels_count_words(w) * sizeof(uint32_t), copy_panel);
	}
	return 0;
}

void
cpu_unload_weight(struct backend *b, struct weight *w)
{
	struct copies *c = ((struct cpu *)b)->copies;

	if (w->device == NULL)
		return;
	w->device = NULL;
	if (--c->weights == 0)
		release(c);
}
