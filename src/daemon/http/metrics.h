/* Metrics for Prometheus and a page for people, over HTTP on a Unix socket or a port of the loopback interface. */
#ifndef SINKD_DAEMON_METRICS_H
#define SINKD_DAEMON_METRICS_H

#include <event2/buffer.h>
#include <event2/event.h>
#include <jansson.h>

#include "base/err.h"
#include "daemon/stats.h"

struct metrics;

/*
 * handed: a listening socket to take over, or -1; then address is a path
 * or a port, see metrics_is_path. add_status adds the members of a status. Borrows
 * address and stats. Returns NULL with *e set.
 */
struct metrics *metrics_new(struct event_base *base, int handed, const char *address, unsigned mode,
    const struct stats *stats, void (*add_status)(void *arg, json_t *status), void *arg, struct err *e);
void metrics_free(struct metrics *m);

/* Is the address a path? It has a slash then; any other is a port. */
bool metrics_is_path(const char *address);

/* An address without a slash as a port. Returns -1 with *e set (EX_USAGE) if it is none. */
long metrics_read_port(const char *address, struct err *e);

/* The two documents, of a status. */
void metrics_write(struct evbuffer *out, const json_t *status);
void page_write(struct evbuffer *out, const json_t *status, const struct stats *stats);

#endif
