/* A destination that is a regular file; see output_file.h. Loop thread. */
#include "daemon/output/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "daemon/output/output_stream.h"
#include "daemon/output/resume.h"
#include "daemon/service.h"

enum {
	BEFORE = 7,       /* files that were left, and wait for a checkpoint */
	LOOK_SECONDS = 5, /* between looks whether the file is still there */
};

struct output_file {
	struct output_stream stream; /* first */
	const char *path, *key;
	int fd;             /* the stream's */
	int before[BEFORE]; /* files that were renamed, written to and not synced yet */
	int n_before;
	struct event *look;
	const struct destination_callbacks *callbacks;
	void *arg;
};

static int
output_file_refuse(const char *path, struct err *e)
{
	return err_set(e, EX_CANTCREAT, "cannot open %s for the output: %s%s", path, strerror(errno),
	    service_explain(path, errno, true));
}

int
output_file_open(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);

	return fd >= 0 ? fd : output_file_refuse(path, e);
}

int
output_file_check(const char *path, struct err *e)
{
	return file_check_write(path) == 0 ? 0 : output_file_refuse(path, e);
}

/* ---- another file ---------------------------------------------------- */

/* The file that is left now is to be synced with the next checkpoint. */
static int
keep_before(struct output_file *f, struct err *e)
{
	int fd;

	if (f->n_before == BEFORE) {
		/* So many without a checkpoint: the loop waits for the disk this once. */
		if (fdatasync(f->before[0]) < 0)
			return err_set(e, EX_IOERR, "cannot sync %s: %s", f->path, strerror(errno));
		close(f->before[0]);
		memmove(f->before, f->before + 1, sizeof f->before - sizeof *f->before);
		f->n_before--;
	}
	if ((fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0)) < 0)
		return err_set(e, EX_OSERR, "cannot open %s again: %s", f->path, strerror(errno));
	f->before[f->n_before++] = fd;
	return 0;
}

static int
replace(struct output_file *f, int fd, struct err *e)
{
	struct stat now, before;

	if (fstat(fd, &now) < 0 || fstat(f->fd, &before) < 0)
		return err_set(e, EX_CANTCREAT, "cannot open %s again: %s", f->path, strerror(errno));
	if (!S_ISREG(now.st_mode))
		return err_set(e, EX_DATAERR, "%s is no regular file any more: lines still go to the file that had the "
		    "name", f->path);
	if (now.st_dev == before.st_dev && now.st_ino == before.st_ino)
		return 0;
	if (keep_before(f, e) < 0)
		return -1;
	/* The same number, so that what waits on it need not know. */
	if (dup3(fd, f->fd, O_CLOEXEC) < 0)
		return err_set(e, EX_CANTCREAT, "cannot open %s again: %s", f->path, strerror(errno));
	return 0;
}

/* It was renamed or removed. What was gathered is flushed first, as far as the disk takes it. */
static int
output_file_reopen(void *self, struct err *e)
{
	struct output_file *f = self;
	int fd, rc;

	output_flush(f->stream.output);
	if ((fd = output_file_open(f->path, e)) < 0)
		return -1;
	rc = replace(f, fd, e);
	close(fd);
	return rc;
}

/* A file that was removed cannot be gone on with after a restart: the next lines go to one that can. */
static bool
reopen_if_removed(struct output_file *f)
{
	struct stat st;
	struct err e;

	if (fstat(f->fd, &st) < 0 || st.st_nlink > 0)
		return false;
	log_message(LOG_WARNING, "%s was removed, with the lines in it: the next ones go to a new file of that name",
	    f->path);
	if (output_file_reopen(f, &e) == 0)
		return true;
	log_message(LOG_ERR, "%s", e.text);
	return false;
}

static void
output_file_on_look(evutil_socket_t fd, short what, void *arg)
{
	struct output_file *f = arg;

	(void)fd;
	(void)what;
	output_flush(f->stream.output);
	if (output_is_drained(f->stream.output) && reopen_if_removed(f))
		f->callbacks->moved(f->arg);
}

/* ---- places ---------------------------------------------------------- */

static int
output_file_place(void *self, json_t **place, struct places *p, struct err *e)
{
	struct output_file *f = self;

	(void)reopen_if_removed(f);
	if ((*place = resume_mark_file(f->fd, f->path, f->key, e)) == NULL)
		return -1;
	if (p->n + f->n_before >= DESTINATION_FILES || (p->files[p->n] = fcntl(f->fd, F_DUPFD_CLOEXEC, 0)) < 0) {
		json_decref(*place);
		return err_set(e, EX_OSERR, "cannot sync %s: %s", f->path, strerror(errno));
	}
	memcpy(p->files + p->n + 1, f->before, (size_t)f->n_before * sizeof *f->before);
	p->n += f->n_before + 1;
	f->n_before = 0;
	return 0;
}

static int
output_file_cut(void *self, const json_t *place, int64_t seq, struct err *e)
{
	const struct output_file *f = self;
	const struct resume r = {.path = f->path, .fd = f->fd, .seq = seq, .mark = place};

	return resume_output(&r, e);
}

static int
output_file_get_file(const void *self)
{
	return ((const struct output_file *)self)->fd;
}

/* ---- from open to close ---------------------------------------------- */

static void
output_file_close(void *self)
{
	struct output_file *f = self;

	if (f->look != NULL)
		event_free(f->look);
	for (int i = 0; i < f->n_before; i++)
		close(f->before[i]);
	output_free(f->stream.output);
	free(f);
}

struct output_file *
output_file_new(const struct destination_options *o, int fd, const struct destination_callbacks *callbacks, void *arg,
    struct err *e)
{
	static const struct timeval interval = {.tv_sec = LOOK_SECONDS};
	struct output *output = output_new(o->base, fd, o->output, &callbacks->output, arg, e);
	struct output_file *f = output == NULL ? NULL : calloc(1, sizeof *f);

	if (f == NULL || (f->look = event_new(o->base, -1, EV_PERSIST, output_file_on_look, f)) == NULL ||
	    event_add(f->look, &interval) < 0) {
		if (output != NULL)
			err_set(e, EX_OSERR, "out of memory for the output");
		output_free(output);
		free(f);
		return NULL;
	}
	f->stream.output = output;
	f->path = o->output;
	f->key = o->key;
	f->fd = fd;
	f->callbacks = callbacks;
	f->arg = arg;
	return f;
}

const struct destination_ops output_file_ops = {
	.name = "output",
	.write = output_stream_write,
	.flush = output_stream_flush,
	.is_full = output_stream_is_full,
	.is_drained = output_stream_is_drained,
	.set_patience = output_stream_set_patience,
	.close = output_file_close,
	.place = output_file_place,
	.reopen = output_file_reopen,
	.get_file = output_file_get_file,
	.cut = output_file_cut,
};
