/* Memory for copies of weights; see copies.h. */
#include "engine/cpu/copies.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/memory.h"

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
copies_release(struct copies *c)
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
	copies_release(c);
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

void *
copies_take(struct copies *c, size_t size)
{
	struct piece *p = c->pieces;

	if (size > c->left)
		return NULL;
	size = (size + 63) / 64 * 64;
	if ((p == NULL || p->size - p->used < size) && (p = add_piece(c, size)) == NULL)
		return NULL;
	c->weights++;
	p->used += size;
	c->left -= size < c->left ? size : c->left;
	return p->memory + p->used - size;
}

void
copies_drop(struct copies *c)
{
	if (--c->weights == 0)
		copies_release(c);
}
