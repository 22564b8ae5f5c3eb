/*
 * Weights are kept in the order in which products read them (words, see
 * transpose in kernels.h) where memory allows; else every product rearranges
 * what it reads from the file. The results are the same bits.
 */
#include "engine/cpu/copies.h"
#include "engine/cpu/cpu.h"

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

int
cpu_load_weight(struct backend *b, struct weight *w, struct err *e)
{
	struct cpu *c = (struct cpu *)b;
	int64_t panels = (w->rows + PANEL - 1) / PANEL;
	struct copy_job j = { .c = c, .w = w };

	(void)e;
	w->device = NULL;
	if (w->embeds_only || !c->k->wants_words(w->type))
		return 0;
	j.copy = copies_take(c->copies, (size_t)(panels * kernels_count_words(w)) * sizeof(uint32_t));
	if (j.copy == NULL)
		return 0;
	team_run(c->team, copy_panel, &j, (int)panels);
	w->device = j.copy;
	c->base.copied = true;
	return 0;
}

void
cpu_unload_weight(struct backend *b, struct weight *w)
{
	if (w->device == NULL)
		return;
	w->device = NULL;
	copies_drop(((struct cpu *)b)->copies);
}
