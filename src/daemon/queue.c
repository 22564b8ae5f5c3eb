/* A bounded queue of pointers between two threads; see queue.h. */
#include "daemon/queue.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct queue {
	atomic_size_t pushed, popped; /* counted since the start; each written by one thread only */
	size_t capacity;
	int fd;
	void *items[];
};

struct queue *
queue_new(size_t capacity, struct err *e)
{
	struct queue *q = calloc(1, sizeof *q + capacity * sizeof *q->items);

	if (q == NULL) {
		err_set(e, EX_OSERR, "out of memory for a queue of %zu", capacity);
		return NULL;
	}
	q->capacity = capacity;
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->fd < 0) {
		err_set(e, EX_OSERR, "cannot make an eventfd: %s", strerror(errno));
		free(q);
		return NULL;
	}
	return q;
}

void
queue_free(struct queue *q)
{
	if (q == NULL)
		return;
	close(q->fd);
	free(q);
}

bool
queue_push(struct queue *q, void *item)
{
	size_t pushed = atomic_load_explicit(&q->pushed, memory_order_relaxed);

	if (pushed - atomic_load_explicit(&q->popped, memory_order_acquire) == q->capacity)
		return false;
	q->items[pushed % q->capacity] = item;
	/* release: who sees the count sees the item, and all that was written before it */
	atomic_store_explicit(&q->pushed, pushed + 1, memory_order_release);
	queue_wake(q);
	return true;
}

void *
queue_pop(struct queue *q)
{
	size_t popped = atomic_load_explicit(&q->popped, memory_order_relaxed);
	void *item;

	if (popped == atomic_load_explicit(&q->pushed, memory_order_acquire))
		return NULL;
	item = q->items[popped % q->capacity];
	atomic_store_explicit(&q->popped, popped + 1, memory_order_release);
	return item;
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
	/* Fails only if the counter is at its end, and then the other thread is awake. */
	(void)!eventfd_write(q->fd, 1);
}

int
queue_get_fd(const struct queue *q)
{
	return q->fd;
}

void
queue_clear(struct queue *q)
{
	eventfd_t n;

	(void)!eventfd_read(q->fd, &n);
}

void
queue_wait(struct queue *q)
{
	struct pollfd p = {.fd = q->fd, .events = POLLIN};

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	queue_clear(q);
}
