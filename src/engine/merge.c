/*
 * Byte-pair merging with a binary heap. The heap may hold outdated pairs: an
 * entry counts only if its rank still is the rank of that symbol's pair.
 */
#include "engine/merge.h"

#include <assert.h>
#include <stdlib.h>

int
merge_start(struct merge *m, size_t max, struct err *e)
{
	size_t room = 256;

	assert(max < INT32_MAX);
	m->n = m->n_heap = 0;
	if (max <= m->room)
		return 0;
	merge_fini(m);
	m->room = m->heap_room = 0;
	while (room < max)
		room *= 2;
	/* In the heap: each pair at the start, and two new ones for each join. */
	m->symbols = malloc(room * sizeof *m->symbols);
	m->heap = malloc(3 * room * sizeof *m->heap);
	if (m->symbols == NULL || m->heap == NULL)
		return err_set(e, EX_OSERR, "no memory to find the tokens of %zu bytes of text", max);
	m->room = room;
	m->heap_room = 3 * room;
	return 0;
}

void
merge_fini(struct merge *m)
{
	free(m->symbols);
	free(m->heap);
}

void
merge_add(struct merge *m, int32_t id, size_t start, size_t len)
{
	struct merge_symbol *s = &m->symbols[m->n];

	assert(m->n < m->room && len > 0);
	s->id = id;
	s->start = (uint32_t)start;
	s->len = (uint32_t)len;
	s->prev = (int32_t)m->n - 1;
	s->next = -1;
	s->rank = MERGE_NONE;
	if (m->n > 0)
		m->symbols[m->n - 1].next = (int32_t)m->n;
	m->n++;
}

static void
push(struct merge *m, uint64_t entry)
{
	size_t i = m->n_heap++;

	assert(m->n_heap <= m->heap_room);
	for (; i > 0 && m->heap[(i - 1) / 2] > entry; i = (i - 1) / 2)
		m->heap[i] = m->heap[(i - 1) / 2];
	m->heap[i] = entry;
}

static uint64_t
pop(struct merge *m)
{
	uint64_t top = m->heap[0], last = m->heap[--m->n_heap];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < m->n_heap && m->heap[child + 1] < m->heap[child])
			child++;
		if (child >= m->n_heap || m->heap[child] >= last)
			break;
		m->heap[i] = m->heap[child];
		i = child;
	}
	m->heap[i] = last;
	return top;
}

/* Symbol left, or what follows it, is new: look up their pair. */
static void
merge_look(struct merge *m, int32_t left, merge_find_fn *find, const void *arg)
{
	struct merge_symbol *s = &m->symbols[left];

	s->rank = MERGE_NONE;
	if (s->next != -1 && find(arg, s, &m->symbols[s->next], &s->rank, &s->joined))
		push(m, (uint64_t)s->rank << 32 | (uint32_t)left);
}

void
merge_run(struct merge *m, merge_find_fn *find, const void *arg)
{
	for (size_t i = 0; i < m->n; i++)
		merge_look(m, (int32_t)i, find, arg);
	while (m->n_heap > 0) {
		uint64_t entry = pop(m);
		int32_t left = (int32_t)(entry & UINT32_MAX);
		struct merge_symbol *s = &m->symbols[left], *right;

		if (s->rank != entry >> 32)
			continue;
		right = &m->symbols[s->next];
		s->id = s->joined;
		s->len += right->len;
		s->next = right->next;
		right->len = 0;
		right->rank = MERGE_NONE;
		if (s->next != -1)
			m->symbols[s->next].prev = left;
		merge_look(m, left, find, arg);
		if (s->prev != -1)
			merge_look(m, s->prev, find, arg);
	}
}
