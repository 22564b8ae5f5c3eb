/*
 * A bounded queue of items of one size between two threads, one that pushes
 * and one that pops, with an eventfd that wakes the one that pops. No locks.
 */
#ifndef SINKD_DAEMON_QUEUE_H
#define SINKD_DAEMON_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct queue;

/* Items of size bytes are copied in and out. Returns NULL with *e set (EX_OSERR). */
struct queue *queue_new(size_t capacity, size_t size, struct err *e);
void queue_free(struct queue *q);

/* Append and wake the other thread. Returns false when the queue is full. */
bool queue_push(struct queue *q, const void *item);

/*
 * The same, but wait while the queue is full. Returns false, and the item is
 * not in, if *stopping is set; whoever sets it calls queue_wake_pusher.
 */
bool queue_push_wait(struct queue *q, const void *item, const atomic_bool *stopping);
void queue_wake_pusher(struct queue *q);

/* The oldest item. Returns false when the queue is empty. */
bool queue_pop(struct queue *q, void *item);

size_t queue_get_count(const struct queue *q);

/* Wake the popping thread without an item. */
void queue_wake(struct queue *q);

/* The popping thread's descriptor, readable after a push or a wake until queue_clear. Clear first, then pop. */
int queue_get_fd(const struct queue *q);
void queue_clear(struct queue *q);

/* Sleep until the descriptor is readable, and clear it. */
void queue_wait(struct queue *q);

#endif
