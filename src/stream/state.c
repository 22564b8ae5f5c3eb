/*
 * Checkpoints; see state.h. A file is: head, blob, the stream's state, the sum
 * of all these bytes; places, foot. Numbers are the machine's own.
 */
#include "stream/state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "stream/identity.h"

/* Format 1 had the size of the output's file where format 2 has the length of the places, and no places. */
enum { FORMAT_SIZE = 1, FORMAT = 2 };
enum { WRITE_BYTES = 1 << 16 };

static const char head_magic[8] = "sinkdchk", foot_magic[8] = "sinkdend";

struct head {
	char magic[8];
	uint64_t version;
	uint64_t model;   /* see identity.h */
	uint64_t blob_len;
};

struct foot {
	char magic[8];
	uint64_t body_sum; /* the sum that stands before the places, once more: so that they belong to this body */
	int64_t places_len; /* FORMAT_SIZE: the size of the output's file */
	uint64_t sum;      /* of the places and the members above */
};

struct state {
	char *data;       /* the mapped file */
	size_t size, end; /* end: of the stream's state */
	struct head head;
	struct foot foot;
	uint64_t model;   /* number of the model's file */
	int file;         /* that file, while it is looked at */
	struct err warning;
	bool foreign;     /* it is of another model, and that was allowed */
	enum state_file which;
};

static uint64_t
sum_foot(const char *places, const struct foot *f)
{
	uint64_t sums[2] = {0, XXH3_64bits(f, offsetof(struct foot, sum))};

	if (f->places_len == 0 || places == NULL)
		return sums[1];
	sums[0] = XXH3_64bits(places, (size_t)f->places_len);
	return XXH3_64bits(sums, sizeof sums);
}

/* ---- which model ---------------------------------------------------- */

/* Looking at a folder must change nothing in it: only who writes a checkpoint keeps the number. */
static int
identify(int fd, const char *path, const struct state_folder *f, bool keep, uint64_t *id, struct err *e)
{
	return identity_find(fd, path, state_folder_get_path(f), keep, id, e);
}

/* ---- writing -------------------------------------------------------- */

/* Bytes on their way into a sum, and into a file unless that is -1. */
struct writer {
	int fd;
	const char *path;
	XXH3_state_t *sum;
	int64_t bytes;
	size_t held;
	char buf[WRITE_BYTES];
};

static int
write_all(int fd, const char *path, const char *bytes, size_t n, struct err *e)
{
	while (n > 0) {
		ssize_t some = write(fd, bytes, n);

		if (some < 0 && errno == EINTR)
			continue;
		if (some <= 0)
			return err_set(e, EX_IOERR, "cannot write %s: %s", path, strerror(some == 0 ? ENOSPC : errno));
		bytes += some;
		n -= (size_t)some;
	}
	return 0;
}

static int
flush(struct writer *w, struct err *e)
{
	size_t n = w->held;

	w->held = 0;
	return w->fd < 0 ? 0 : write_all(w->fd, w->path, w->buf, n, e);
}

static int
put(void *arg, const void *bytes, size_t n, struct err *e)
{
	struct writer *w = arg;

	XXH3_64bits_update(w->sum, bytes, n);
	w->bytes += (int64_t)n;
	if (w->fd < 0)
		return 0;
	if (n > sizeof w->buf - w->held && flush(w, e) < 0)
		return -1;
	if (n >= sizeof w->buf)
		return write_all(w->fd, w->path, bytes, n, e);
	if (n > 0)
		memcpy(w->buf + w->held, bytes, n);
	w->held += n;
	return 0;
}

/* Takes fd. Returns NULL with *e set. */
static struct writer *
new_writer(int fd, const char *path, struct err *e)
{
	struct writer *w = malloc(sizeof *w);
	XXH3_state_t *sum = XXH3_createState();

	if (w == NULL || sum == NULL) {
		free(w);
		XXH3_freeState(sum);
		if (fd >= 0)
			close(fd);
		err_set(e, EX_OSERR, "out of memory for a checkpoint");
		return NULL;
	}
	*w = (struct writer){.fd = fd, .path = path, .sum = sum};
	XXH3_64bits_reset(sum);
	return w;
}

static int
free_writer(struct writer *w, int rc, struct err *e)
{
	XXH3_freeState(w->sum);
	if (w->fd >= 0 && close(w->fd) < 0 && rc == 0)
		rc = err_set(e, EX_IOERR, "cannot write %s: %s", w->path, strerror(errno));
	free(w);
	return rc;
}

int
state_write(struct state_folder *f, struct stream *s, const char *blob, size_t len, int64_t *bytes, struct err *e)
{
	struct head head = {.version = FORMAT, .blob_len = len};
	struct writer *w;
	uint64_t sum;
	int fd, rc = -1;

	memcpy(head.magic, head_magic, sizeof head.magic);
	if (s->identity == 0 &&
	    identify(model_get_file(s->model), model_get_info(s->model)->path, f, true, &s->identity, e) < 0)
		return -1;
	head.model = s->identity;
	if ((fd = state_folder_create(f, e)) < 0 ||
	    (w = new_writer(fd, state_folder_get_name(f, STATE_TMP), e)) == NULL)
		return -1;
	if (put(w, &head, sizeof head, e) < 0 || put(w, blob, len, e) < 0 || stream_save(s, put, w, e) < 0)
		goto out;
	sum = XXH3_64bits_digest(w->sum);
	if (put(w, &sum, sizeof sum, e) < 0 || flush(w, e) < 0)
		goto out;
	*bytes = w->bytes;
	rc = 0;
out:
	return free_writer(w, rc, e);
}

int
state_hash(struct stream *s, uint64_t *hash, struct err *e)
{
	struct writer *w = new_writer(-1, NULL, e);
	int rc;

	if (w == NULL)
		return -1;
	if ((rc = stream_save(s, put, w, e)) == 0)
		*hash = XXH3_64bits_digest(w->sum);
	return free_writer(w, rc, e);
}

/* The places and the foot, and the file on the disk. */
static int
add_foot(int fd, const char *path, const char *places, size_t len, struct err *e)
{
	struct foot foot = {.places_len = (int64_t)len};
	off_t end = lseek(fd, 0, SEEK_END);

	memcpy(foot.magic, foot_magic, sizeof foot.magic);
	if (end < (off_t)sizeof foot.body_sum ||
	    pread(fd, &foot.body_sum, sizeof foot.body_sum, end - (off_t)sizeof foot.body_sum) != sizeof foot.body_sum)
		return err_set(e, EX_IOERR, "cannot read %s: %s", path, strerror(errno));
	foot.sum = sum_foot(places, &foot);
	if (write_all(fd, path, places, len, e) < 0 || write_all(fd, path, (const char *)&foot, sizeof foot, e) < 0)
		return -1;
	if (fsync(fd) < 0)
		return err_set(e, EX_IOERR, "cannot sync %s: %s", path, strerror(errno));
	return 0;
}

int
state_finish(struct state_folder *f, const char *places, size_t len, struct err *e)
{
	const char *path = state_folder_get_name(f, STATE_TMP);
	int fd = state_folder_open_file(f, STATE_TMP, O_RDWR), rc;

	if (fd < 0)
		return err_set(e, EX_IOERR, "cannot open %s: %s", path, strerror(errno));
	rc = add_foot(fd, path, places, len, e);
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
	else if (!S_ISREG(st.st_mode) || st.st_size < (off_t)(sizeof s->head + sizeof(uint64_t) + sizeof s->foot))
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

/* Where the sum of the body and the places lie in the file. Returns false where they have no room. */
static bool
find_parts(struct state *s)
{
	size_t room = s->size - sizeof s->head - sizeof(uint64_t) - sizeof s->foot;

	memcpy(&s->head, s->data, sizeof s->head);
	memcpy(&s->foot, s->data + s->size - sizeof s->foot, sizeof s->foot);
	if (s->foot.places_len < 0 || (s->head.version != FORMAT_SIZE && (uint64_t)s->foot.places_len > room))
		return false;
	s->end = sizeof s->head + room - (s->head.version == FORMAT_SIZE ? 0 : (size_t)s->foot.places_len);
	return true;
}

/* Returns false with *e set. */
static bool
is_of_model(const struct state *s, const char *path, struct err *e)
{
	if (s->head.model == s->model || identity_was(s->file, s->head.model))
		return true;
	err_set(e, EX_CONFIG, "%s belongs to another model", path);
	return false;
}

/* any: of any model. */
static int
check(struct state *s, const char *path, bool any, struct err *e)
{
	uint64_t sum;

	assert(s->data != NULL);
	if (memcmp(s->data, head_magic, sizeof head_magic) != 0)
		return err_set(e, EX_DATAERR, "%s is no checkpoint", path);
	if (!find_parts(s) || memcmp(s->foot.magic, foot_magic, sizeof s->foot.magic) != 0)
		return err_set(e, EX_DATAERR, "%s is damaged: it has no proper end", path);
	memcpy(&sum, s->data + s->end, sizeof sum);
	if (s->foot.sum != sum_foot(s->head.version == FORMAT_SIZE ? NULL : s->data + s->end + sizeof sum, &s->foot) ||
	    s->foot.body_sum != sum || sum != XXH3_64bits(s->data, s->end))
		return err_set(e, EX_DATAERR, "%s is damaged: its checksum is not right", path);
	if (s->head.version != FORMAT_SIZE && s->head.version != FORMAT)
		return err_set(e, EX_DATAERR, "%s was written by another version of sinkd", path);
	s->foreign = !is_of_model(s, path, any ? NULL : e);
	if (s->foreign && !any)
		return -1;
	if (s->head.blob_len > s->end - sizeof s->head)
		return err_set(e, EX_DATAERR, "%s is damaged", path);
	return 0;
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
find_whole(struct state *s, struct state_folder *f, bool any, struct err *e)
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
open_state(struct state_folder *f, const char *model, bool any, struct state **result, struct err *e)
{
	struct state *s = calloc(1, sizeof *s);
	int rc;

	*result = NULL;
	if (s == NULL)
		return err_set(e, EX_OSERR, "out of memory for a checkpoint");
	if ((s->file = open(model, O_RDONLY | O_CLOEXEC)) < 0)
		rc = err_set(e, EX_NOINPUT, "cannot open the model %s: %s", model, strerror(errno));
	else
		rc = identify(s->file, model, f, false, &s->model, e) < 0 ? -1 : find_whole(s, f, any, e);
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
	return open_state(f, model, false, s, e);
}

int
state_open_any(struct state_folder *f, const char *model, struct state **s, struct err *e)
{
	return open_state(f, model, true, s, e);
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

const char *
state_get_blob(const struct state *s, size_t *len)
{
	*len = (size_t)s->head.blob_len;
	return s->data + sizeof s->head;
}

const char *
state_get_places(const struct state *s, size_t *len)
{
	if (s->head.version == FORMAT_SIZE)
		return NULL;
	*len = (size_t)s->foot.places_len;
	return s->data + s->end + sizeof(uint64_t);
}

int64_t
state_get_output_size(const struct state *s)
{
	return s->head.version == FORMAT_SIZE ? s->foot.places_len : -1;
}

const char *
state_get_warning(const struct state *s)
{
	return s->warning.code != 0 ? s->warning.text : NULL;
}

struct source {
	const char *next, *end;
};

static int
take(void *arg, void *bytes, size_t n, struct err *e)
{
	struct source *s = arg;

	if ((size_t)(s->end - s->next) < n)
		return err_set(e, EX_DATAERR, "the checkpoint is shorter than its stream's state");
	if (n > 0)
		memcpy(bytes, s->next, n);
	s->next += n;
	return 0;
}

int
state_restore(const struct state *s, struct stream *to, struct err *e)
{
	struct source source = {s->data + sizeof s->head + s->head.blob_len, s->data + s->end};

	return stream_load(to, take, &source, e);
}
