/* Checkpoints; see checkpoint.h. Loop thread, but for sync. */
#include "daemon/checkpoint.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

enum { RETRY_FIRST = 1, RETRY_MOST = 60 }; /* seconds from a failure to the next try; doubled each time */

struct checkpoint {
	struct state_folder *folder;
	const struct checkpoint_callbacks *callbacks;
	void *arg;
	struct worker *worker;
	int64_t seq;    /* of the last one begun */
	bool busy, again;
	struct request *written; /* by the engine thread: it waits for the outputs */
	double began;
	int64_t bytes;
	struct checkpoint_numbers numbers;
	struct event *timer, *retry;
	int delay;      /* before the next try, seconds; 0: the last one worked */
	/* of the thread that syncs, while it runs */
	pthread_t thread;
	bool syncing;
	struct places places; /* with descriptors of its own: an output may be opened anew meanwhile */
	char *text;           /* of places */
	struct err failure;
	int fd;         /* eventfd that says it is done */
	struct event *synced;
};

static void on_synced(evutil_socket_t fd, short what, void *arg);
static void checkpoint_on_timer(evutil_socket_t fd, short what, void *arg);
static void checkpoint_on_retry(evutil_socket_t fd, short what, void *arg);

struct checkpoint *
checkpoint_new(struct event_base *base, struct state_folder *folder, const struct checkpoint_callbacks *callbacks,
    void *arg, struct err *e)
{
	struct checkpoint *c = calloc(1, sizeof *c);

	if (c == NULL)
		goto fail;
	c->fd = -1;
	c->folder = folder;
	c->callbacks = callbacks;
	c->arg = arg;
	if ((c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ||
	    (c->synced = event_new(base, c->fd, EV_READ | EV_PERSIST, on_synced, c)) == NULL ||
	    event_add(c->synced, NULL) < 0 || (c->retry = evtimer_new(base, checkpoint_on_retry, c)) == NULL ||
	    (c->timer = event_new(base, -1, EV_PERSIST, checkpoint_on_timer, c)) == NULL)
		goto fail;
	return c;
fail:
	err_set(e, EX_OSERR, "out of memory for checkpoints");
	checkpoint_free(c);
	return NULL;
}

static void
checkpoint_join(struct checkpoint *c)
{
	if (c->syncing)
		pthread_join(c->thread, NULL);
	c->syncing = false;
	places_fini(&c->places);
	free(c->text);
	c->text = NULL;
}

void
checkpoint_free(struct checkpoint *c)
{
	if (c == NULL)
		return;
	checkpoint_join(c);
	request_free(c->written);
	if (c->timer != NULL)
		event_free(c->timer);
	if (c->retry != NULL)
		event_free(c->retry);
	if (c->synced != NULL)
		event_free(c->synced);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

static struct request *
checkpoint_make_request(struct checkpoint *c, struct err *e)
{
	struct request *q = request_new(REQUEST_CHECKPOINT);
	json_t *o = q == NULL ? NULL : c->callbacks->save(c->arg);

	c->seq = c->callbacks->get_seq(c->arg);

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

/* ---- failure -------------------------------------------------------- */

static void
retry_later(struct checkpoint *c)
{
	struct timeval wait;

	c->delay = c->delay == 0 ? RETRY_FIRST : 2 * c->delay < RETRY_MOST ? 2 * c->delay : RETRY_MOST;
	wait = (struct timeval){c->delay, 0};
	evtimer_add(c->retry, &wait);
}

/* If one reason makes many checkpoints fail, such as a full disk, report it once. */
static void
checkpoint_note_failure(struct checkpoint *c, const struct err *e)
{
	c->numbers.failed++;
	if (strcmp(e->text, c->numbers.failure.text) != 0)
		log_message(LOG_ERR, "the checkpoint failed, and is tried again: %s", e->text);
	c->numbers.failure = *e;
	retry_later(c);
}

static void
note_success(struct checkpoint *c)
{
	if (c->numbers.failure.code != 0)
		log_message(LOG_NOTICE, "checkpoints work again");
	c->numbers.failure = (struct err){0};
	c->delay = 0;
	evtimer_del(c->retry);
	c->numbers.made++;
	c->numbers.bytes = c->bytes;
	c->numbers.time = clock_get_seconds();
	c->numbers.seconds = c->numbers.time - c->began;
}

static void
checkpoint_on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct checkpoint *c = arg;
	struct err e;

	(void)fd;
	(void)what;
	/* A failure arms the timer again, and counts as a try that has come to its end. */
	if (!c->busy && checkpoint_begin(c, &e) < 0)
		c->callbacks->done(c->arg, &e);
}

static void
checkpoint_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct checkpoint *c = arg;
	struct err e;

	(void)fd;
	(void)what;
	if (c->callbacks->get_seq(c->arg) != c->seq && !c->busy)
		(void)checkpoint_begin(c, &e);
}

void
checkpoint_set_worker(struct checkpoint *c, struct worker *w, int64_t seq)
{
	c->worker = w;
	c->seq = seq;
}

int
checkpoint_set_interval(struct checkpoint *c, int64_t seconds, struct err *e)
{
	struct timeval interval = {(time_t)seconds, 0};

	event_del(c->timer);
	return seconds == 0 || event_add(c->timer, &interval) == 0 ? 0 : err_set(e, EX_OSERR, "cannot set timers");
}

void
checkpoint_hurry(struct checkpoint *c)
{
	c->delay = 0;
}

/* ---- one checkpoint ------------------------------------------------- */

int
checkpoint_begin(struct checkpoint *c, struct err *e)
{
	struct request *q;

	if (c->busy) {
		c->again = true;
		return 0;
	}
	if ((q = checkpoint_make_request(c, e)) == NULL) {
		checkpoint_note_failure(c, e);
		return -1;
	}
	if (!worker_submit_request(c->worker, q)) {
		request_free(q);
		err_set(e, ERR_BUSY, "there are too many requests waiting for a checkpoint");
		checkpoint_note_failure(c, e);
		return -1;
	}
	c->busy = true;
	c->began = clock_get_seconds();
	return 0;
}

static void
checkpoint_finish(struct checkpoint *c)
{
	struct err failure = c->failure;

	c->busy = false;
	if (failure.code != 0)
		checkpoint_note_failure(c, &failure);
	else
		note_success(c);
	if (c->again) {
		struct err again;

		c->again = false;
		if (checkpoint_begin(c, &again) == 0)
			return; /* who asked while this one was on its way is told of that one */
		failure = again;
	}
	c->callbacks->done(c->arg, &failure);
}

/* Its end comes by way of the loop in every case, so that nobody who calls us is called back meanwhile. */
static void
say_done(struct checkpoint *c)
{
	(void)!eventfd_write(c->fd, 1);
}

/* On a thread of its own: a disk may take long. */
static void *
sync_all(void *arg)
{
	struct checkpoint *c = arg;

	for (int i = 0; i < c->places.n && c->failure.code == 0; i++)
		if (fdatasync(c->places.files[i]) < 0 && errno != EINVAL)
			err_set(&c->failure, EX_IOERR, "cannot sync the output: %s", strerror(errno));
	if (c->failure.code == 0)
		state_finish(c->folder, c->text, strlen(c->text), &c->failure);
	say_done(c);
	return NULL;
}

static int
start_syncing(struct checkpoint *c, struct err *e)
{
	int rc;

	if (c->callbacks->get_places(c->arg, &c->places, e) < 0)
		return -1;
	if ((c->text = json_dumps(c->places.of, JSON_COMPACT)) == NULL)
		return err_set(e, EX_OSERR, "out of memory for a checkpoint");
	if ((rc = pthread_create(&c->thread, NULL, sync_all, c)) != 0)
		return err_set(e, EX_OSERR, "cannot start a thread for a checkpoint: %s", strerror(rc));
	c->syncing = true;
	return 0;
}

void
checkpoint_take(struct checkpoint *c, struct request *q)
{
	c->written = q;
}

bool
checkpoint_waits(const struct checkpoint *c)
{
	return c->written != NULL;
}

void
checkpoint_go_on(struct checkpoint *c)
{
	struct request *q = c->written;

	c->written = NULL;
	c->failure = q->failure;
	c->bytes = q->bytes;
	request_free(q);
	if (c->failure.code != 0 || start_syncing(c, &c->failure) < 0)
		say_done(c);
}

static void
on_synced(evutil_socket_t fd, short what, void *arg)
{
	struct checkpoint *c = arg;
	eventfd_t n;

	(void)what;
	(void)!eventfd_read(fd, &n);
	checkpoint_join(c);
	checkpoint_finish(c);
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
