/* What the stages remember, and their hooks called in the order of the table; see stage.h. */
#include "stream/stage.h"

#include <stdlib.h>

#include "stream/stream.h"

#define STAGE_ADDRESS(name) &name##_stage,

static const struct stage *const table[] = {STAGES(STAGE_ADDRESS)};

enum { N_STAGES = sizeof table / sizeof *table };

struct stages {
	void *states[N_STAGES];
};

struct stages *
stages_new(struct stream *s, struct err *e)
{
	struct stages *all = calloc(1, sizeof *all);

	if (all == NULL) {
		err_set(e, EX_OSERR, "out of memory for the stages of events");
		return NULL;
	}
	for (int i = 0; i < N_STAGES; i++) {
		struct section section = table[i]->section;

		if (table[i]->new != NULL && (all->states[i] = table[i]->new(e)) == NULL) {
			stages_free(all);
			return NULL;
		}
		section.object = all->states[i];
		if (section.name != NULL)
			stream_add_section(s, &section);
	}
	return all;
}

void
stages_free(struct stages *all)
{
	if (all == NULL)
		return;
	for (int i = 0; i < N_STAGES; i++)
		if (all->states[i] != NULL)
			table[i]->free(all->states[i]);
	free(all);
}

void *
stages_get(const struct stages *all, const struct stage *stage)
{
	for (int i = 0; i < N_STAGES; i++)
		if (table[i] == stage)
			return all->states[i];
	return NULL;
}

void
stages_before(struct stages *all, struct record *r)
{
	for (int i = 0; i < N_STAGES; i++)
		if (table[i]->before != NULL)
			table[i]->before(all->states[i], r);
}

void
stages_after(struct stages *all, const struct stage_event *event)
{
	for (int i = 0; i < N_STAGES; i++)
		if (table[i]->after != NULL)
			table[i]->after(all->states[i], event);
}
