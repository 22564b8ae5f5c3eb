/* Checkpoints made of sections: their bytes in a file; see section_file.h. */
#include "stream/section_file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { WRITE_BYTES = 1 << 16 };

const char section_file_begins[8] = "sinkdchk", section_file_ends[8] = "sinkdend";

_Static_assert(sizeof(struct section_head) == 64 && sizeof(struct section_file_head) == 16 &&
    sizeof(struct section_file_foot) == 24, "no bytes of a checkpoint are padding");

/* ---- writing -------------------------------------------------------- */

struct section_writer {
	int fd;
	const char *path;
	XXH3_state_t *sum;
	int64_t bytes;
	size_t held;
	char buf[WRITE_BYTES];
};

static int
write_file(int fd, const char *path, const void *from, size_t n, struct err *e)
{
	const char *bytes = from;

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
flush_writer(struct section_writer *w, struct err *e)
{
	size_t n = w->held;

	w->held = 0;
	return w->fd < 0 ? 0 : write_file(w->fd, w->path, w->buf, n, e);
}

static int
append(struct section_writer *w, const void *bytes, size_t n, struct err *e)
{
	w->bytes += (int64_t)n;
	if (w->fd < 0)
		return 0;
	if (n > sizeof w->buf - w->held && flush_writer(w, e) < 0)
		return -1;
	if (n >= sizeof w->buf)
		return write_file(w->fd, w->path, bytes, n, e);
	if (n > 0)
		memcpy(w->buf + w->held, bytes, n);
	w->held += n;
	return 0;
}

static int
append_summed(void *arg, const void *bytes, size_t n, struct err *e)
{
	struct section_writer *w = arg;

	XXH3_64bits_update(w->sum, bytes, n);
	return append(w, bytes, n, e);
}

struct section_writer *
section_writer_new(int fd, const char *path, struct err *e)
{
	struct section_writer *w = malloc(sizeof *w);
	XXH3_state_t *sum = XXH3_createState();

	if (w == NULL || sum == NULL) {
		free(w);
		XXH3_freeState(sum);
		if (fd >= 0)
			close(fd);
		err_set(e, EX_OSERR, "out of memory for a checkpoint");
		return NULL;
	}
	w->fd = fd;
	w->path = path;
	w->sum = sum;
	w->bytes = 0;
	w->held = 0;
	XXH3_64bits_reset(sum);
	return w;
}

int
section_writer_close(struct section_writer *w, int rc, struct err *e)
{
	if (rc == 0)
		rc = flush_writer(w, e);
	XXH3_freeState(w->sum);
	if (w->fd >= 0 && close(w->fd) < 0 && rc == 0)
		rc = err_set(e, EX_IOERR, "cannot write %s: %s", w->path, strerror(errno));
	free(w);
	return rc;
}

static void
fill_head(struct section_head *h, const char *name, uint32_t version, unsigned flags)
{
	size_t len = strlen(name);

	assert(len > 0 && len < sizeof h->name);
	*h = (struct section_head){.version = version, .flags = flags};
	memcpy(h->name, name, len);
}

int
section_writer_begin(struct section_writer *w, struct err *e)
{
	struct section_file_head head = {.format = SECTION_FILE_FORMAT};

	memcpy(head.magic, section_file_begins, sizeof head.magic);
	return append(w, &head, sizeof head, e);
}

/* How long a section is shows only when its owner has written it: the head comes first, and is filled in then. */
static int
fill_in(struct section_writer *w, int64_t at, struct section_head *head, struct err *e)
{
	head->len = (uint64_t)(w->bytes - at) - sizeof *head;
	head->sum = XXH3_64bits_digest(w->sum);
	if (flush_writer(w, e) < 0)
		return -1;
	if (w->fd >= 0 && pwrite(w->fd, head, sizeof *head, (off_t)at) != (ssize_t)sizeof *head)
		return err_set(e, EX_IOERR, "cannot write %s: %s", w->path, strerror(errno));
	return 0;
}

int
section_writer_add(struct section_writer *w, const struct section *s, struct err *e)
{
	int64_t at = w->bytes;
	struct section_head head;

	fill_head(&head, s->name, s->version, s->flags);
	if (append(w, &head, sizeof head, e) < 0 || section_writer_put(w, s, e) < 0)
		return -1;
	return fill_in(w, at, &head, e);
}

int
section_writer_add_bytes(struct section_writer *w, const char *name, const void *bytes, size_t len, struct err *e)
{
	struct section_head head;

	fill_head(&head, name, 1, 0);
	head.len = len;
	head.sum = XXH3_64bits(bytes, len);
	return append(w, &head, sizeof head, e) < 0 ? -1 : append(w, bytes, len, e);
}

int
section_writer_put(struct section_writer *w, const struct section *s, struct err *e)
{
	const struct bytes_out to = {append_summed, w};

	if (w->fd >= 0)
		XXH3_64bits_reset(w->sum);
	return s->save(s->object, &to, e);
}

uint64_t
section_writer_get_sum(const struct section_writer *w)
{
	return XXH3_64bits_digest(w->sum);
}

int64_t
section_writer_get_bytes(const struct section_writer *w)
{
	return w->bytes;
}

/* ---- the end of a file ---------------------------------------------- */

/* The heads of a file that has no foot yet. Its bytes are not read. */
static int
read_heads(int fd, const char *path, struct section_file *f, struct section_file_head *head, struct err *e)
{
	off_t at = sizeof *head, end = lseek(fd, 0, SEEK_END);

	f->n = 0;
	if (end < 0 || pread(fd, head, sizeof *head, 0) != (ssize_t)sizeof *head)
		return err_set(e, EX_IOERR, "cannot read %s: %s", path, strerror(errno));
	while (at < end && f->n < SECTION_FILE_MAX - 1) {
		struct section_head *h = &f->sections[f->n].head;

		if (pread(fd, h, sizeof *h, at) != (ssize_t)sizeof *h || h->len > (uint64_t)(end - at) - sizeof *h)
			break;
		at += (off_t)(sizeof *h + h->len);
		f->n++;
	}
	return at == end ? 0 : err_set(e, EX_IOERR, "cannot complete %s: it was changed by others", path);
}

int
section_file_finish(int fd, const char *path, const char *name, const void *bytes, size_t len, struct err *e)
{
	struct section_file f;
	struct section_file_head head;
	struct section_file_foot foot = {0};
	struct section_head *last;

	if (read_heads(fd, path, &f, &head, e) < 0)
		return -1;
	last = &f.sections[f.n++].head;
	fill_head(last, name, 1, 0);
	last->len = len;
	last->sum = XXH3_64bits(bytes, len);
	memcpy(foot.magic, section_file_ends, sizeof foot.magic);
	foot.sections = (uint64_t)f.n;
	foot.sum = section_file_sum(&head, f.sections, f.n, &foot);
	if (write_file(fd, path, last, sizeof *last, e) < 0 || write_file(fd, path, bytes, len, e) < 0 ||
	    write_file(fd, path, &foot, sizeof foot, e) < 0)
		return -1;
	if (fsync(fd) < 0)
		return err_set(e, EX_IOERR, "cannot sync %s: %s", path, strerror(errno));
	return 0;
}

/* ---- reading -------------------------------------------------------- */

uint64_t
section_file_sum(const struct section_file_head *head, const struct section_view *sections, int n,
    const struct section_file_foot *foot)
{
	uint64_t sums[SECTION_FILE_MAX + 2];

	sums[0] = XXH3_64bits(head, sizeof *head);
	sums[1] = XXH3_64bits(foot, offsetof(struct section_file_foot, sum));
	for (int i = 0; i < n; i++)
		sums[i + 2] = XXH3_64bits(&sections[i].head, sizeof sections[i].head);
	return XXH3_64bits(sums, (size_t)(n + 2) * sizeof *sums);
}

bool
section_file_walk(struct section_file *f, const char *data, size_t size)
{
	size_t at = sizeof(struct section_file_head), end;

	f->n = 0;
	if (size < at + sizeof(struct section_file_foot))
		return false;
	for (end = size - sizeof(struct section_file_foot); at < end; f->n++) {
		struct section_view *v = &f->sections[f->n];

		if (f->n == SECTION_FILE_MAX || end - at < sizeof v->head)
			return false;
		memcpy(&v->head, data + at, sizeof v->head);
		at += sizeof v->head;
		if (v->head.len > end - at)
			return false;
		v->bytes = data + at;
		at += (size_t)v->head.len;
	}
	return true;
}

/* Names come into sentences. */
static bool
name_is_proper(const char name[SECTION_NAME])
{
	size_t len = strnlen(name, SECTION_NAME);

	if (len == 0 || len == SECTION_NAME || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-./") != len)
		return false;
	while (len < SECTION_NAME)
		if (name[len++] != '\0')
			return false;
	return true;
}

static int
check_sections(const struct section_file *f, const char *path, struct err *e)
{
	for (int i = 0; i < f->n; i++) {
		const struct section_view *v = &f->sections[i];

		if (!name_is_proper(v->head.name) || section_file_find(f, v->head.name) != v || v->head.version == 0)
			return err_set(e, EX_DATAERR, "%s is damaged: its section %d has no proper head", path, i + 1);
		if (v->head.sum != XXH3_64bits(v->bytes, (size_t)v->head.len))
			return err_set(e, EX_DATAERR, "%s is damaged: the checksum of its section %s is not right",
			    path, v->head.name);
	}
	return 0;
}

int
section_file_read(struct section_file *f, const char *data, size_t size, const char *path, struct err *e)
{
	struct section_file_head head;
	struct section_file_foot foot;

	if (!section_file_walk(f, data, size))
		return err_set(e, EX_DATAERR, "%s is damaged: it has no proper end", path);
	memcpy(&head, data, sizeof head);
	memcpy(&foot, data + size - sizeof foot, sizeof foot);
	if (memcmp(foot.magic, section_file_ends, sizeof foot.magic) != 0 || foot.sections != (uint64_t)f->n)
		return err_set(e, EX_DATAERR, "%s is damaged: it has no proper end", path);
	if (foot.sum != section_file_sum(&head, f->sections, f->n, &foot))
		return err_set(e, EX_DATAERR, "%s is damaged: its checksum is not right", path);
	return check_sections(f, path, e);
}

const struct section_view *
section_file_find(const struct section_file *f, const char *name)
{
	for (int i = 0; i < f->n; i++)
		if (strncmp(f->sections[i].head.name, name, SECTION_NAME) == 0)
			return &f->sections[i];
	return NULL;
}
