/*
 * sinkd as a service: what the service manager hands over, and what it is
 * told. Does nothing where there is none (sd_notify(3), sd_listen_fds(3)).
 */
#ifndef SINKD_DAEMON_SERVICE_H
#define SINKD_DAEMON_SERVICE_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct service;

struct service_callbacks {
	/* Is all well? Asked several times in the time that the watchdog leaves; if not, it is not fed. */
	bool (*is_alive)(void *arg);
	/* One line on how things are. */
	void (*describe)(void *arg, char *text, size_t size);
};

/*
 * Take what was handed over. Borrows callbacks. Returns NULL with *e set
 * (EX_OSERR, EX_USAGE: sockets with names that mean nothing here).
 */
struct service *service_new(const struct service_callbacks *callbacks, void *arg, struct err *e);
void service_free(struct service *s);

/* The listening socket of that name ("events", "control", "metrics"), or -1. The caller owns it from here on. */
int service_take_socket(struct service *s, const char *name);

/* The next connection of a producer that an earlier run left with the manager, or -1. The caller's too. */
int service_take_producer(struct service *s);

/* Loading, restoring or saving may go on for so many more seconds. To be called again as it makes progress. */
void service_extend(struct service *s, int seconds);

/* The same, once service_stopping was called; before that nothing. */
void service_extend_stop(struct service *s, int seconds);

/* Is there a manager that is told things? */
bool service_is_notified(const struct service *s);

/* All is open: begin to feed the watchdog and to tell how things are, from the loop. Returns 0, or -1 with *e set. */
int service_ready(struct service *s, struct event_base *base, struct err *e);

void service_reloading(struct service *s);
void service_reloaded(struct service *s);
void service_stopping(struct service *s);

/* The manager keeps this connection of a producer, should the program end, or forgets it. */
void service_keep(struct service *s, int fd, uint64_t number);
void service_forget(struct service *s, uint64_t number);

/*
 * What there is to add to "cannot use PATH: strerror(error)" where a unit keeps
 * this process from the path: how to change the unit or the path. Elsewhere an
 * empty string. Static.
 */
const char *service_explain(const char *path, int error, bool writes);

/* Is standard error the journal, which wants priorities? */
bool service_logs_to_journal(void);

#endif
