/* All destinations of the output's lines; see destination.h. Loop thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/output/output_file.h"
#include "daemon/output/output_stream.h"

struct destination {
	const struct destination_ops *ops;
	void *self;
};

struct destinations {
	struct destination all[DESTINATIONS];
	int n;
};

/* self NULL: it could not be opened. */
static int
destinations_add(struct destinations *ds, const struct destination_ops *ops, void *self)
{
	if (self == NULL)
		return -1;
	ds->all[ds->n++] = (struct destination){ops, self};
	return 0;
}

/* Which kind a path names shows when it is open. */
static int
open_output(struct destinations *ds, const struct destination_options *o,
    const struct destination_callbacks *callbacks, void *arg, struct err *e)
{
	struct stat st;
	int fd;

	if (o->output == NULL)
		return destinations_add(ds, &output_stream_ops, output_stream_new(
		    output_new_standard(o->base, STDOUT_FILENO, &callbacks->output, arg, e), e));
	if ((fd = output_file_open(o->output, e)) < 0)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return destinations_add(ds, &output_file_ops, output_file_new(o, fd, callbacks, arg, e));
	return destinations_add(ds, &output_stream_ops, output_stream_new(
	    output_new(o->base, fd, o->output, &callbacks->output, arg, e), e));
}

struct destinations *
destinations_open(const struct destination_options *o, const struct destination_callbacks *callbacks, void *arg,
    struct err *e)
{
	struct destinations *ds = calloc(1, sizeof *ds);

	if (ds == NULL) {
		err_set(e, EX_OSERR, "out of memory for the output");
		return NULL;
	}
	if (open_output(ds, o, callbacks, arg, e) == 0)
		return ds;
	destinations_close(ds);
	return NULL;
}

void
destinations_close(struct destinations *ds)
{
	for (int i = 0; ds != NULL && i < ds->n; i++)
		ds->all[i].ops->close(ds->all[i].self);
	free(ds);
}

bool
destinations_write(struct destinations *ds, const char *lines, size_t len)
{
	bool taken = true;

	for (int i = 0; i < ds->n; i++)
		taken &= ds->all[i].ops->write(ds->all[i].self, lines, len);
	return taken;
}

void
destinations_flush(struct destinations *ds)
{
	for (int i = 0; i < ds->n; i++)
		ds->all[i].ops->flush(ds->all[i].self);
}

bool
destinations_are_full(const struct destinations *ds)
{
	bool full = false;

	for (int i = 0; i < ds->n; i++)
		full |= ds->all[i].ops->is_full(ds->all[i].self);
	return full;
}

bool
destinations_are_drained(const struct destinations *ds)
{
	bool drained = true;

	for (int i = 0; i < ds->n; i++)
		drained &= ds->all[i].ops->is_drained(ds->all[i].self);
	return drained;
}

void
destinations_set_patience(struct destinations *ds, int seconds)
{
	for (int i = 0; i < ds->n; i++)
		ds->all[i].ops->set_patience(ds->all[i].self, seconds);
}

int
destinations_reopen(struct destinations *ds, struct err *e)
{
	int rc = 0;

	for (int i = 0; i < ds->n && rc == 0; i++)
		if (ds->all[i].ops->reopen != NULL)
			rc = ds->all[i].ops->reopen(ds->all[i].self, e);
	return rc;
}

int
destinations_get_file(const struct destinations *ds)
{
	int fd = -1;

	for (int i = 0; i < ds->n && fd < 0; i++)
		if (ds->all[i].ops->get_file != NULL)
			fd = ds->all[i].ops->get_file(ds->all[i].self);
	return fd;
}

/* ---- places --------------------------------------------------------- */

void
places_fini(struct places *p)
{
	for (int i = 0; i < p->n; i++)
		close(p->files[i]);
	json_decref(p->of);
	*p = (struct places){0};
}

static int
add_place(const struct destination *d, struct places *p, struct err *e)
{
	json_t *place = NULL;

	if (d->ops->place == NULL)
		return 0;
	if (d->ops->place(d->self, &place, p, e) < 0)
		return -1;
	return json_object_set_new(p->of, d->ops->name, place) == 0 ? 0 : err_set(e, EX_OSERR,
	    "out of memory for a checkpoint");
}

int
destinations_get_places(struct destinations *ds, struct places *p, struct err *e)
{
	*p = (struct places){.of = json_object()};
	if (p->of == NULL)
		return err_set(e, EX_OSERR, "out of memory for a checkpoint");
	for (int i = 0; i < ds->n; i++)
		if (add_place(&ds->all[i], p, e) < 0) {
			places_fini(p);
			return -1;
		}
	return 0;
}

int
destinations_cut(struct destinations *ds, const json_t *places, int64_t seq, struct err *e)
{
	int rc = 0;

	for (int i = 0; i < ds->n && rc == 0; i++) {
		const json_t *place = json_object_get(places, ds->all[i].ops->name);

		if (place != NULL)
			rc = ds->all[i].ops->cut(ds->all[i].self, place, seq, e);
	}
	return rc;
}
