/*
 * Checkpoints; see state.h. A file is: head, blob, the stream's state, the sum
 * of all these bytes; foot. Numbers are the machine's own.
 */
#include "stream/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { FORMAT = 1, PATH_BYTES = 4096 + 32 };

static const char head_magic[8] = "sinkdchk", foot_magic[8] = "sinkdend";

struct head {
	char magic[8];
	uint64_t version;
	uint64_t model;   /* see identify */
	uint64_t blob_len;
};

struct foot {
	char magic[8];
	uint64_t body_sum; /* the sum that stands before it, once more: so that the foot belongs to this body */
	int64_t output;
	uint64_t sum;      /* of the members above */
};

struct state {
	char *data;       /* the mapped file */
	size_t size, end; /* end: of the stream's state */
	struct head head;
	struct foot foot;
	struct err warning;
};

static void
make_path(char path[PATH_BYTES], const char *dir, const char *name)
{
	snprintf(path, PATH_BYTES, "%s/%s", dir, name);
}

static uint64_t
sum_foot(const struct foot *f)
{
	return XXH3_64bits(f, offsetof(struct foot, sum));
}

int
state_lock(const char *dir, struct err *e)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char path[PATH_BYTES];
	int fd;

	make_path(path, dir, "lock");
	if ((fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0)
		return err_set(e, EX_CANTCREAT, "cannot open %s: %s", path, strerror(errno));
	if (fcntl(fd, F_SETLK, &lock) == 0)
		return fd;
	if (fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		err_set(e, EX_TEMPFAIL, "the state in %s is in use", dir);
	else
		err_set(e, EX_TEMPFAIL, "the state in %s is in use by process %ld", dir, (long)lock.l_pid);
	close(fd);
	return -1;
}

/* ---- which model ---------------------------------------------------- */

/*
 * A number of the model's file: its size, and 4 KiB of every MiB, which tells
 * any two models apart without reading gigabytes.
 */
static int
identify(const char *path, uint64_t *id, struct err *e)
{
	static const off_t every = 1 << 20;
	char bytes[4096];
	XXH3_state_t *x = XXH3_createState();
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = -1;
	struct stat st;
	ssize_t n = 0;

	if (x == NULL || fd < 0 || fstat(fd, &st) < 0) {
		err_set(e, EX_NOINPUT, "cannot open the model %s: %s", path, strerror(errno));
		goto out;
	}
	XXH3_64bits_reset(x);
	XXH3_64bits_update(x, &st.st_size, sizeof st.st_size);
	for (off_t at = 0; at < st.st_size && n >= 0; at += every)
		if ((n = pread(fd, bytes, sizeof bytes, at)) > 0)
			XXH3_64bits_update(x, bytes, (size_t)n);
	if (n < 0) {
		err_set(e, EX_IOERR, "cannot read the model %s: %s", path, strerror(errno));
		goto out;
	}
	*id = XXH3_64bits_digest(x);
	rc = 0;
out:
	if (fd >= 0)
		close(fd);
	XXH3_freeState(x);
	return rc;
}

/* ---- writing -------------------------------------------------------- */

/* Bytes on their way into a sum, and into a file unless that is NULL. */
struct sink {
	FILE *file;
	const char *path;
	XXH3_state_t *sum;
	int64_t bytes;
};

static int
put(void *arg, const void *bytes, size_t n, struct err *e)
{
	struct sink *s = arg;

	XXH3_64bits_update(s->sum, bytes, n);
	s->bytes += (int64_t)n;
	if (s->file != NULL && n > 0 && fwrite(bytes, 1, n, s->file) != n)
		return err_set(e, EX_IOERR, "cannot write %s: %s", s->path, strerror(errno));
	return 0;
}

static int
open_sink(struct sink *s, const char *path, struct err *e)
{
	int fd;

	*s = (struct sink){.path = path, .sum = XXH3_createState()};
	if (s->sum == NULL)
		return err_set(e, EX_OSERR, "out of memory for a checkpoint");
	XXH3_64bits_reset(s->sum);
	if (path == NULL)
		return 0;
	if ((fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) < 0 || (s->file = fdopen(fd, "w")) == NULL) {
		err_set(e, EX_CANTCREAT, "cannot write %s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		XXH3_freeState(s->sum);
		return -1;
	}
	return 0;
}

static int
close_sink(struct sink *s, int rc, struct err *e)
{
	XXH3_freeState(s->sum);
	if (s->file != NULL && fclose(s->file) != 0 && rc == 0)
		return err_set(e, EX_IOERR, "cannot write %s: %s", s->path, strerror(errno));
	return rc;
}

int
state_write(const char *dir, struct stream *s, const char *blob, size_t len, int64_t *bytes, struct err *e)
{
	struct head head = {.version = FORMAT, .blob_len = len};
	char path[PATH_BYTES];
	struct sink sink;
	uint64_t sum;
	int rc = -1;

	make_path(path, dir, "checkpoint.tmp");
	memcpy(head.magic, head_magic, sizeof head.magic);
	if (s->identity == 0 && identify(model_get_info(s->model)->path, &s->identity, e) < 0)
		return -1;
	head.model = s->identity;
	if (open_sink(&sink, path, e) < 0)
		return -1;
	if (put(&sink, &head, sizeof head, e) < 0 || put(&sink, blob, len, e) < 0 || stream_save(s, put, &sink, e) < 0)
		goto out;
	sum = XXH3_64bits_digest(sink.sum);
	rc = put(&sink, &sum, sizeof sum, e);
	*bytes = sink.bytes;
out:
	return close_sink(&sink, rc, e);
}

int
state_hash(struct stream *s, uint64_t *hash, struct err *e)
{
	struct sink sink;
	int rc;

	if (open_sink(&sink, NULL, e) < 0)
		return -1;
	if ((rc = stream_save(s, put, &sink, e)) == 0)
		*hash = XXH3_64bits_digest(sink.sum);
	return close_sink(&sink, rc, e);
}

/* The foot, and the file on the disk. */
static int
add_foot(const char *path, int64_t output, struct err *e)
{
	struct foot foot = {.output = output};
	int fd = open(path, O_RDWR | O_CLOEXEC), rc = 0;
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	memcpy(foot.magic, foot_magic, sizeof foot.magic);
	if (end < (off_t)sizeof foot.body_sum ||
	    pread(fd, &foot.body_sum, sizeof foot.body_sum, end - (off_t)sizeof foot.body_sum) != sizeof foot.body_sum)
		rc = err_set(e, EX_IOERR, "cannot read %s: %s", path, strerror(errno));
	foot.sum = sum_foot(&foot);
	if (rc == 0 && (pwrite(fd, &foot, sizeof foot, end) != sizeof foot || fsync(fd) < 0))
		rc = err_set(e, EX_IOERR, "cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return rc;
}

/* At every moment there is a whole checkpoint under one of the two names. */
static int
put_in_place(const char *dir, const char *tmp, struct err *e)
{
	char path[PATH_BYTES], old[PATH_BYTES];
	int fd, rc = 0;

	make_path(path, dir, "checkpoint");
	make_path(old, dir, "checkpoint.old");
	if (rename(path, old) < 0 && errno != ENOENT)
		return err_set(e, EX_IOERR, "cannot rename %s: %s", path, strerror(errno));
	if (rename(tmp, path) < 0)
		return err_set(e, EX_IOERR, "cannot rename %s: %s", tmp, strerror(errno));
	if ((fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || fsync(fd) < 0)
		rc = err_set(e, EX_IOERR, "cannot sync %s: %s", dir, strerror(errno));
	if (fd >= 0)
		close(fd);
	return rc;
}

int
state_finish(const char *dir, int64_t output, struct err *e)
{
	char tmp[PATH_BYTES];

	make_path(tmp, dir, "checkpoint.tmp");
	return add_foot(tmp, output, e) < 0 ? -1 : put_in_place(dir, tmp, e);
}

/* ---- reading -------------------------------------------------------- */

/* Returns 1, 0 if there is no such file, or -1 with *e set. */
static int
map_file(struct state *s, const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 1;
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

static int
check(struct state *s, const char *path, uint64_t model, struct err *e)
{
	uint64_t sum;

	s->end = s->size - sizeof s->foot - sizeof sum;
	memcpy(&s->head, s->data, sizeof s->head);
	memcpy(&sum, s->data + s->end, sizeof sum);
	memcpy(&s->foot, s->data + s->end + sizeof sum, sizeof s->foot);
	if (memcmp(s->head.magic, head_magic, sizeof s->head.magic) != 0)
		return err_set(e, EX_DATAERR, "%s is no checkpoint", path);
	if (memcmp(s->foot.magic, foot_magic, sizeof s->foot.magic) != 0 || s->foot.sum != sum_foot(&s->foot) ||
	    s->foot.body_sum != sum || sum != XXH3_64bits(s->data, s->end) || s->foot.output < 0)
		return err_set(e, EX_DATAERR, "%s is damaged: its checksum is not right", path);
	if (s->head.version != FORMAT)
		return err_set(e, EX_DATAERR, "%s was written by another version of sinkd", path);
	if (s->head.model != model)
		return err_set(e, EX_DATAERR, "%s belongs to another model", path);
	if (s->head.blob_len > s->end - sizeof s->head)
		return err_set(e, EX_DATAERR, "%s is damaged", path);
	return 0;
}

/* Returns 1, 0 if there is no such file, or -1 with *e set. */
static int
open_one(struct state *s, const char *dir, const char *name, uint64_t model, struct err *e)
{
	char path[PATH_BYTES];
	int rc;

	make_path(path, dir, name);
	if ((rc = map_file(s, path, e)) > 0 && check(s, path, model, e) < 0)
		rc = -1;
	if (rc <= 0 && s->data != NULL) {
		munmap(s->data, s->size);
		s->data = NULL;
	}
	return rc;
}

int
state_open(const char *dir, const char *model, struct state **result, struct err *e)
{
	struct state *s = calloc(1, sizeof *s);
	uint64_t id;
	int last, before = 0;

	*result = NULL;
	if (s == NULL)
		return err_set(e, EX_OSERR, "out of memory for a checkpoint");
	if (identify(model, &id, e) < 0) {
		state_close(s);
		return -1;
	}
	last = open_one(s, dir, "checkpoint", id, &s->warning);
	if (last <= 0)
		before = open_one(s, dir, "checkpoint.old", id, last < 0 ? NULL : &s->warning);
	if (last > 0 || before > 0) {
		*result = s;
		return 0;
	}
	*e = s->warning;
	state_close(s);
	return last < 0 || before < 0 ? -1 : 0;
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

int64_t
state_get_output(const struct state *s)
{
	return s->foot.output;
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

	to->identity = s->head.model;
	return stream_load(to, take, &source, e);
}
