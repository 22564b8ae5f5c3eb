/* Checkpoints: which file, of which model, and who loads which section; see state.h. */
#include "stream/state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stream/identity.h"
#include "stream/section_file.h"
#include "stream/state_old.h"

/* The sections that belong to no part of the stream. */
static const char model_name[] = "model", progress_name[] = "progress", places_name[] = "places";

struct state {
	char *data;       /* the mapped file */
	size_t size;
	struct section_file sections;
	uint64_t model;   /* number of the model's file */
	int file;         /* that file, while it is looked at */
	struct err warning;
	bool foreign;     /* it is of another model, and that was allowed */
	enum state_file which;
};

/* ---- which model ---------------------------------------------------- */

/* Looking at a folder must change nothing in it: only who writes a checkpoint keeps the number. */
static int
identify(int fd, const char *path, const struct state_folder *f, bool keep, uint64_t *id, struct err *e)
{
	return identity_find(fd, path, state_folder_get_path(f), keep, id, e);
}

/* ---- writing -------------------------------------------------------- */

static int
write_sections(struct section_writer *w, struct stream *s, const char *blob, size_t len, struct err *e)
{
	if (section_writer_begin(w, e) < 0 ||
	    section_writer_add_bytes(w, model_name, &s->identity, sizeof s->identity, e) < 0 ||
	    section_writer_add_bytes(w, progress_name, blob, len, e) < 0)
		return -1;
	for (int i = 0; i < s->n_sections; i++)
		if (section_writer_add(w, &s->sections[i], e) < 0)
			return -1;
	return 0;
}

int
state_write(struct state_folder *f, struct stream *s, const char *blob, size_t len, int64_t *bytes, struct err *e)
{
	struct section_writer *w;
	int fd, rc;

	if (s->identity == 0 &&
	    identify(model_get_file(s->model), model_get_info(s->model)->path, f, true, &s->identity, e) < 0)
		return -1;
	if ((fd = state_folder_create(f, e)) < 0 ||
	    (w = section_writer_new(fd, state_folder_get_name(f, STATE_TMP), e)) == NULL)
		return -1;
	rc = write_sections(w, s, blob, len, e);
	*bytes = section_writer_get_bytes(w);
	return section_writer_close(w, rc, e);
}

int
state_hash(struct stream *s, uint64_t *hash, struct err *e)
{
	struct section_writer *w = section_writer_new(-1, NULL, e);
	int rc = 0;

	if (w == NULL)
		return -1;
	for (int i = 0; i < s->n_sections && rc == 0; i++)
		rc = section_writer_put(w, &s->sections[i], e);
	*hash = section_writer_get_sum(w);
	return section_writer_close(w, rc, e);
}

int
state_finish(struct state_folder *f, const char *places, size_t len, struct err *e)
{
	const char *path = state_folder_get_name(f, STATE_TMP);
	int fd = state_folder_open_file(f, STATE_TMP, O_RDWR), rc;

	if (fd < 0)
		return err_set(e, EX_IOERR, "cannot open %s: %s", path, strerror(errno));
	rc = section_file_finish(fd, path, places_name, places, len, e);
	if (close(fd) < 0 && rc == 0)
		rc = err_set(e, EX_IOERR, "cannot write %s: %s", path, strerror(errno));
	return rc < 0 ? -1 : state_folder_commit(f, e);
}

/* ---- reading -------------------------------------------------------- */

/* Returns 1, 0 if there is no such file, or -1 with *e set. */
static int
map_file(struct state *s, const struct state_folder *f, enum state_file which, struct err *e)
{
	const char *path = state_folder_get_name(f, which);
	int fd = state_folder_open_file(f, which, O_RDONLY), rc = 1;
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		rc = err_set(e, EX_IOERR, "cannot read %s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct section_file_head))
		rc = err_set(e, EX_DATAERR, "%s is no checkpoint: it is too short", path);
	else {
		s->size = (size_t)st.st_size;
		s->data = mmap(NULL, s->size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (s->data == MAP_FAILED) {
			s->data = NULL;
			rc = err_set(e, EX_IOERR, "cannot read %s: %s", path, strerror(errno));
		}
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Returns false with *e set. */
static bool
is_of_model(const struct state *s, const char *path, struct err *e)
{
	const struct section_view *v = section_file_find(&s->sections, model_name);
	uint64_t model;

	memcpy(&model, v->bytes, sizeof model);
	if (model == s->model || identity_was(s->file, model))
		return true;
	err_set(e, EX_CONFIG, "%s belongs to another model", path);
	return false;
}

static int
read_sections(struct state *s, const char *path, struct err *e)
{
	struct section_file_head head;

	assert(s->data != NULL);
	memcpy(&head, s->data, sizeof head);
	if (memcmp(head.magic, section_file_begins, sizeof head.magic) != 0)
		return err_set(e, EX_DATAERR, "%s is no checkpoint", path);
	if (head.format == STATE_OLD_SIZE || head.format == STATE_OLD_PLACES)
		return state_old_read(&s->sections, s->data, s->size, path, e);
	if (head.format != SECTION_FILE_FORMAT)
		return err_set(e, EX_DATAERR, "%s is damaged, or another version of sinkd wrote it", path);
	return section_file_read(&s->sections, s->data, s->size, path, e);
}

/* any: of any model. */
static int
check(struct state *s, const char *path, bool any, struct err *e)
{
	const struct section_view *v;

	if (read_sections(s, path, e) < 0)
		return -1;
	v = section_file_find(&s->sections, model_name);
	if (v == NULL || v->head.len != sizeof s->model || section_file_find(&s->sections, progress_name) == NULL)
		return err_set(e, EX_DATAERR, "%s is damaged: it does not say to which model it belongs", path);
	/* One of the two ways, and not both. */
	if ((section_file_find(&s->sections, places_name) != NULL) == (state_get_output_size(s) >= 0))
		return err_set(e, EX_DATAERR, "%s is damaged: it does not say where the output was", path);
	s->foreign = !is_of_model(s, path, any ? NULL : e);
	return s->foreign && !any ? -1 : 0;
}

/* Returns 1, 0 if there is no such file, or -1 with *e set. */
static int
open_one(struct state *s, const struct state_folder *f, enum state_file which, bool any, struct err *e)
{
	int rc = map_file(s, f, which, e);

	if (rc > 0 && check(s, state_folder_get_name(f, which), any, e) < 0)
		rc = -1;
	s->which = which;
	if (rc <= 0 && s->data != NULL) {
		munmap(s->data, s->size);
		s->data = NULL;
	}
	return rc;
}

/*
 * The first whole one in the order of enum state_file. A whole checkpoint.tmp is
 * found where the process ended before it had its name; it gets that now, since
 * the next one will be written over it. Returns 1, 0 if there is none at all, or
 * -1 with *e set: why the newest of them cannot be used.
 */
static int
state_find_whole(struct state *s, struct state_folder *f, bool any, struct err *e)
{
	struct err why[STATE_FILES] = {{0}};
	bool wrong = false;

	for (int i = 0; i < STATE_FILES; i++) {
		int rc = open_one(s, f, (enum state_file)i, any, &why[i]);

		if (rc > 0 && i == STATE_TMP && state_folder_commit(f, e) < 0)
			return -1;
		if (rc > 0) {
			if (i == STATE_TMP)
				s->which = STATE_LAST;
			state_folder_set_whole(f, i != STATE_OLD);
			s->warning = why[STATE_LAST];
			return 1;
		}
		/* An unfinished checkpoint.tmp is nothing to speak of. */
		wrong |= rc < 0 && i != STATE_TMP;
	}
	*e = why[STATE_LAST].code != 0 ? why[STATE_LAST] : why[STATE_OLD];
	return wrong ? -1 : 0;
}

static int
open_newest(struct state_folder *f, const char *model, bool any, struct state **result, struct err *e)
{
	struct state *s = calloc(1, sizeof *s);
	int rc;

	*result = NULL;
	if (s == NULL)
		return err_set(e, EX_OSERR, "out of memory for a checkpoint");
	if ((s->file = open(model, O_RDONLY | O_CLOEXEC)) < 0)
		rc = err_set(e, EX_NOINPUT, "cannot open the model %s: %s", model, strerror(errno));
	else
		rc = identify(s->file, model, f, false, &s->model, e) < 0 ? -1 : state_find_whole(s, f, any, e);
	if (s->file >= 0)
		close(s->file);
	if (rc > 0)
		*result = s;
	else
		state_close(s);
	return rc < 0 ? -1 : 0;
}

int
state_open(struct state_folder *f, const char *model, struct state **s, struct err *e)
{
	return open_newest(f, model, false, s, e);
}

int
state_open_any(struct state_folder *f, const char *model, struct state **s, struct err *e)
{
	return open_newest(f, model, true, s, e);
}

bool
state_is_foreign(const struct state *s, struct err *e)
{
	if (s->foreign)
		err_set(e, EX_CONFIG, "the state was saved with another model");
	return s->foreign;
}

int
state_keep(const struct state *s, struct state_folder *f, int64_t seq, char *name, size_t size, struct err *e)
{
	return state_folder_keep(f, s->which, seq, name, size, e);
}

void
state_close(struct state *s)
{
	if (s == NULL)
		return;
	if (s->data != NULL)
		munmap(s->data, s->size);
	free(s);
}

static const char *
get_bytes(const struct state *s, const char *name, size_t *len)
{
	const struct section_view *v = section_file_find(&s->sections, name);

	*len = v == NULL ? 0 : (size_t)v->head.len;
	return v == NULL ? NULL : v->bytes;
}

const char *
state_get_blob(const struct state *s, size_t *len)
{
	return get_bytes(s, progress_name, len);
}

const char *
state_get_places(const struct state *s, size_t *len)
{
	return get_bytes(s, places_name, len);
}

int64_t
state_get_output_size(const struct state *s)
{
	size_t len;
	const char *bytes = get_bytes(s, STATE_OLD_OUTPUT_SIZE, &len);
	int64_t size = -1;

	if (len == sizeof size)
		memcpy(&size, bytes, sizeof size);
	return size;
}

const char *
state_get_warning(const struct state *s)
{
	return s->warning.code != 0 ? s->warning.text : NULL;
}

/* ---- who loads which section ---------------------------------------- */

struct source {
	const struct section_view *section;
	size_t at;
};

static int
state_take(void *arg, void *bytes, size_t n, struct err *e)
{
	struct source *s = arg;

	if ((size_t)s->section->head.len - s->at < n)
		return err_set(e, EX_DATAERR, "the section %s of the checkpoint is too short", s->section->head.name);
	if (n > 0)
		memcpy(bytes, s->section->bytes + s->at, n);
	s->at += n;
	return 0;
}

static int
load_section(const struct section *to, struct source *from, struct err *e)
{
	const struct section_head *head = &from->section->head;
	const struct bytes_in in = {state_take, from};

	if (head->version > to->version)
		return err_set(e, EX_CONFIG, "the section %s of the checkpoint was written by a later version of sinkd",
		    head->name);
	return to->load(to->object, head->version, &in, e);
}

/* Every section has an owner, or is one that may be ignored. */
static int
find_owners(const struct state *s, const struct stream *to, struct err *e)
{
	static const char *const ours[] = {
		model_name, progress_name, places_name, STATE_OLD_RUN, STATE_OLD_OUTPUT_SIZE,
	};

	for (int i = 0; i < s->sections.n; i++) {
		const struct section_head *h = &s->sections.sections[i].head;
		bool known = (h->flags & SECTION_OPTIONAL) != 0;

		for (size_t j = 0; j < sizeof ours / sizeof *ours; j++)
			known |= strcmp(h->name, ours[j]) == 0;
		for (int j = 0; j < to->n_sections; j++)
			known |= strcmp(h->name, to->sections[j].name) == 0;
		if (!known)
			return err_set(e, EX_CONFIG, "the checkpoint has a section %s, which is unknown to this "
			    "sinkd or these options", h->name);
	}
	return 0;
}

int
state_restore(const struct state *s, struct stream *to, struct err *e)
{
	struct source run = {.section = section_file_find(&s->sections, STATE_OLD_RUN)};

	if (find_owners(s, to, e) < 0)
		return -1;
	for (int i = 0; i < to->n_sections; i++) {
		const struct section *owner = &to->sections[i];
		struct source one = {.section = section_file_find(&s->sections, owner->name)}, *from = &one;

		if (run.section != NULL && state_old_has(owner->name))
			from = &run;
		if (from->section == NULL && (owner->flags & SECTION_OPTIONAL) != 0)
			continue;
		if (from->section == NULL)
			return err_set(e, EX_CONFIG, "the checkpoint has no section %s: it was saved without it",
			    owner->name);
		if (load_section(owner, from, e) < 0)
			return -1;
		if (from == &one && one.at != one.section->head.len)
			return err_set(e, EX_DATAERR, "the section %s of the checkpoint is too long", owner->name);
	}
	return 0;
}
