/*
 * Checkpoints of earlier versions; see state_old.h. A file is: head, the
 * daemon's progress, the stream's state, the sum of all these bytes; places,
 * foot.
 */
#include "stream/state_old.h"

#include <string.h>
#include <xxhash.h>

struct head {
	struct section_file_head file;
	uint64_t model;
	uint64_t progress_len;
};

struct foot {
	char magic[8];
	uint64_t body_sum;  /* the sum that stands before the places, once more: so that they belong to this body */
	int64_t places_len; /* STATE_OLD_SIZE: the size of the output's file */
	uint64_t sum;       /* of the places and the members above */
};

static uint64_t
sum_foot(const char *places, const struct foot *f)
{
	uint64_t sums[2] = {0, XXH3_64bits(f, offsetof(struct foot, sum))};

	if (places == NULL || f->places_len == 0)
		return sums[1];
	sums[0] = XXH3_64bits(places, (size_t)f->places_len);
	return XXH3_64bits(sums, sizeof sums);
}

static void
state_old_add_view(struct section_file *f, const char *name, const char *bytes, size_t len)
{
	struct section_view *v = &f->sections[f->n++];

	*v = (struct section_view){.head = {.version = 1, .len = len}, .bytes = bytes};
	strncpy(v->head.name, name, sizeof v->head.name - 1);
}

int
state_old_read(struct section_file *f, const char *data, size_t size, const char *path, struct err *e)
{
	struct head h;
	struct foot foot;
	size_t room = sizeof h + sizeof(uint64_t) + sizeof foot, end, places;
	const char *tail = data + size - sizeof foot;
	uint64_t sum;

	if (size < room)
		return err_set(e, EX_DATAERR, "%s is no checkpoint: it is too short", path);
	memcpy(&h, data, sizeof h);
	memcpy(&foot, tail, sizeof foot);
	places = h.file.format == STATE_OLD_SIZE ? 0 : (size_t)foot.places_len;
	if (foot.places_len < 0 || places > size - room ||
	    memcmp(foot.magic, section_file_ends, sizeof foot.magic) != 0)
		return err_set(e, EX_DATAERR, "%s is damaged: it has no proper end", path);
	end = size - sizeof foot - places - sizeof sum;
	memcpy(&sum, data + end, sizeof sum);
	if (foot.sum != sum_foot(h.file.format == STATE_OLD_SIZE ? NULL : tail - places, &foot) ||
	    foot.body_sum != sum || sum != XXH3_64bits(data, end) || h.progress_len > end - sizeof h)
		return err_set(e, EX_DATAERR, "%s is damaged: its checksum is not right", path);
	f->n = 0;
	state_old_add_view(f, "model", data + offsetof(struct head, model), sizeof h.model);
	state_old_add_view(f, "progress", data + sizeof h, (size_t)h.progress_len);
	state_old_add_view(f, STATE_OLD_RUN, data + sizeof h + h.progress_len, end - sizeof h - (size_t)h.progress_len);
	if (h.file.format == STATE_OLD_SIZE)
		state_old_add_view(f, STATE_OLD_OUTPUT_SIZE, tail + offsetof(struct foot, places_len),
		    sizeof foot.places_len);
	else
		state_old_add_view(f, "places", tail - places, places);
	return 0;
}

bool
state_old_has(const char *name)
{
	return strcmp(name, "context") == 0 || strcmp(name, "tokens") == 0 || strcmp(name, "memory") == 0;
}
