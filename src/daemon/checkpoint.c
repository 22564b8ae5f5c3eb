/* Checkpoints; see checkpoint.h. Loop thread, but for sync. */
#include "daemon/checkpoint.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

struct checkpoint {
	const char *dir;
	const struct checkpoint_callbacks *callbacks;
	void *arg;
	struct worker *worker;
	bool busy, again;
	double began;
	int64_t bytes;
	struct checkpoint_numbers numbers;
	/* of the thread that syncs, while it runs */
	pthread_t thread;
	bool syncing;
	int file;       /* a descriptor of its own: the output may be opened anew meanwhile */
	int64_t size;
	struct err failure;
	int fd;         /* eventfd that says it is done */
	struct event *synced;
};

static void on_synced(evutil_socket_t fd, short what, void *arg);

struct checkpoint *
checkpoint_new(struct event_base *base, const char *dir, const struct checkpoint_callbacks *callbacks,
    void *arg, struct err *e)
{
	struct checkpoint *c = calloc(1, sizeof *c);

	if (c == NULL)
		goto fail;
	c->dir = dir;
	c->callbacks = callbacks;
	c->arg = arg;
	c->file = -1;
	if ((c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ||
	    (c->synced = event_new(base, c->fd, EV_READ | EV_PERSIST, on_synced, c)) == NULL ||
	    event_add(c->synced, NULL) < 0)
		goto fail;
	return c;
fail:
	err_set(e, EX_OSERR, "out of memory for checkpoints");
	checkpoint_free(c);
	return NULL;
}

static void
join(struct checkpoint *c)
{
	if (!c->syncing)
		return;
	pthread_join(c->thread, NULL);
	c->syncing = false;
	if (c->file >= 0)
		close(c->file);
	c->file = -1;
}

void
checkpoint_free(struct checkpoint *c)
{
	if (c == NULL)
		return;
	join(c);
	if (c->synced != NULL)
		event_free(c->synced);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

static struct request *
make_request(struct checkpoint *c, struct err *e)
{
	struct request *q = request_new(REQUEST_CHECKPOINT);
	json_t *o = q == NULL ? NULL : c->callbacks->save(c->arg);

	if (o != NULL)
		q->blob = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (q == NULL || q->blob == NULL) {
		request_free(q);
		err_set(e, EX_OSERR, "out of memory for a checkpoint");
		return NULL;
	}
	q->blob_len = strlen(q->blob);
	return q;
}

int
checkpoint_begin(struct checkpoint *c, struct worker *w, struct err *e)
{
	struct request *q;

	if (c->busy) {
		c->again = true;
		return 0;
	}
	if ((q = make_request(c, e)) == NULL)
		return -1;
	if (!worker_submit_request(w, q)) {
		request_free(q);
		return err_set(e, EX_TEMPFAIL, "there are too many requests waiting for a checkpoint");
	}
	c->worker = w;
	c->busy = true;
	c->began = clock_get_seconds();
	return 0;
}

static void
finish(struct checkpoint *c, const struct err *e)
{
	struct err failure = *e;

	c->busy = false;
	if (e->code != 0)
		c->numbers.failed++;
	else {
		c->numbers.made++;
		c->numbers.bytes = c->bytes;
		c->numbers.time = clock_get_seconds();
		c->numbers.seconds = c->numbers.time - c->began;
	}
	if (c->again) {
		struct err again;

		c->again = false;
		if (checkpoint_begin(c, c->worker, &again) == 0)
			return; /* who asked while this one was on its way is told of that one */
		failure = again;
	}
	c->callbacks->done(c->arg, &failure);
}

/* On a thread of its own: a disk may take long. */
static void *
sync_all(void *arg)
{
	struct checkpoint *c = arg;

	if (c->file >= 0 && fdatasync(c->file) < 0 && errno != EINVAL)
		err_set(&c->failure, EX_IOERR, "cannot sync the output: %s", strerror(errno));
	else
		state_finish(c->dir, c->size, &c->failure);
	(void)!eventfd_write(c->fd, 1);
	return NULL;
}

void
checkpoint_take(struct checkpoint *c, struct worker *w, const struct request *q)
{
	int file = -1, rc;
	struct err e;

	c->worker = w;
	if (q->failure.code != 0) {
		finish(c, &q->failure);
		return;
	}
	c->bytes = q->bytes;
	c->size = c->callbacks->measure(c->arg, &file);
	c->file = file < 0 ? -1 : dup(file);
	c->failure = (struct err){0};
	if ((rc = pthread_create(&c->thread, NULL, sync_all, c)) != 0) {
		err_set(&e, EX_OSERR, "cannot start a thread: %s", strerror(rc));
		finish(c, &e);
		return;
	}
	c->syncing = true;
}

static void
on_synced(evutil_socket_t fd, short what, void *arg)
{
	struct checkpoint *c = arg;
	eventfd_t n;

	(void)what;
	(void)!eventfd_read(fd, &n);
	join(c);
	finish(c, &c->failure);
}

bool
checkpoint_is_busy(const struct checkpoint *c)
{
	return c->busy;
}

const struct checkpoint_numbers *
checkpoint_get_numbers(const struct checkpoint *c)
{
	return &c->numbers;
}
