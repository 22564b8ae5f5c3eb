/* A bounded queue of items between two threads; see queue.h. */
#include "daemon/queue.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/memory.h"

struct queue {
	atomic_size_t pushed, popped; /* counted since the start; each written by one thread only */
	atomic_bool full;             /* the pushing thread sleeps until something is popped */
	size_t capacity, size;
	int fd, room_fd;              /* what wakes the popping and the pushing thread */
	char items[];
};

struct queue *
queue_new(size_t capacity, size_t size, struct err *e)
{
	struct queue *q = calloc(1, sizeof *q + capacity * size);

	if (q == NULL) {
		err_set(e, EX_OSERR, "out of memory for a queue of %zu", capacity);
		return NULL;
	}
	memory_touch(q, sizeof *q + capacity * size);
	q->capacity = capacity;
	q->size = size;
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->fd < 0 || q->room_fd < 0) {
		err_set(e, EX_OSERR, "cannot make an eventfd: %s", strerror(errno));
		queue_free(q);
		return NULL;
	}
	return q;
}

void
queue_free(struct queue *q)
{
	if (q == NULL)
		return;
	if (q->fd >= 0)
		close(q->fd);
	if (q->room_fd >= 0)
		close(q->room_fd);
	free(q);
}

static void
queue_wake_fd(int fd)
{
	/* Fails only if the counter is at its end, and then the other thread is awake. */
	(void)!eventfd_write(fd, 1);
}

static void
queue_clear_fd(int fd)
{
	eventfd_t n;

	(void)!eventfd_read(fd, &n);
}

static void
sleep_on(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	queue_clear_fd(fd);
}

bool
queue_push(struct queue *q, const void *item)
{
	size_t pushed = atomic_load_explicit(&q->pushed, memory_order_relaxed);

	if (pushed - atomic_load(&q->popped) == q->capacity)
		return false;
	memcpy(q->items + pushed % q->capacity * q->size, item, q->size);
	/* release: who sees the count sees the item, and all that was written before it */
	atomic_store_explicit(&q->pushed, pushed + 1, memory_order_release);
	queue_wake(q);
	return true;
}

bool
queue_push_wait(struct queue *q, const void *item, const atomic_bool *stopping)
{
	while (!queue_push(q, item)) {
		if (atomic_load(stopping))
			return false;
		/* In the order that all threads see: either the popping one sees the flag, or we see its room. */
		atomic_store(&q->full, true);
		if (atomic_load(&q->pushed) - atomic_load(&q->popped) == q->capacity)
			sleep_on(q->room_fd);
		atomic_store(&q->full, false);
	}
	return true;
}

void
queue_wake_pusher(struct queue *q)
{
	queue_wake_fd(q->room_fd);
}

bool
queue_pop(struct queue *q, void *item)
{
	size_t popped = atomic_load_explicit(&q->popped, memory_order_relaxed);

	if (popped == atomic_load_explicit(&q->pushed, memory_order_acquire))
		return false;
	memcpy(item, q->items + popped % q->capacity * q->size, q->size);
	atomic_store(&q->popped, popped + 1);
	if (atomic_load(&q->full))
		queue_wake_fd(q->room_fd);
	return true;
}

size_t
queue_get_count(const struct queue *q)
{
	size_t popped = atomic_load(&q->popped);

	return atomic_load(&q->pushed) - popped;
}

void
queue_wake(struct queue *q)
{
	queue_wake_fd(q->fd);
}

int
queue_get_fd(const struct queue *q)
{
	return q->fd;
}

void
queue_clear(struct queue *q)
{
	queue_clear_fd(q->fd);
}

void
queue_wait(struct queue *q)
{
	sleep_on(q->fd);
}
