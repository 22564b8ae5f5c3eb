/*
 * A bounded queue of pointers between two threads, one that pushes and one
 * that pops, with an eventfd that wakes the one that pops. No locks.
 */
#ifndef SINKD_DAEMON_QUEUE_H
#define SINKD_DAEMON_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct queue;

/* Returns NULL with *e set (EX_OSERR). */
struct queue *queue_new(size_t capacity, struct err *e);
void queue_free(struct queue *q);

/* Append and wake the other thread. Returns false when the queue is full. */
bool queue_push(struct queue *q, void *item);

/* The oldest item, or NULL when the queue is empty. */
void *queue_pop(struct queue *q);

size_t queue_get_count(const struct queue *q);

/* Wake the popping thread without an item. */
void queue_wake(struct queue *q);

/* The popping thread's descriptor, readable after a push or a wake until queue_clear. Clear first, then pop. */
int queue_get_fd(const struct queue *q);
void queue_clear(struct queue *q);

/* Sleep until the descriptor is readable, and clear it. */
void queue_wait(struct queue *q);

#endif
