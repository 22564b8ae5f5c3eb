/*
 * The control socket: requests come in, answers go out to who asked, and what
 * the stream gives to who subscribed. Requests for the engine thread are
 * handed on; what needs the rest of the loop is asked for by callbacks.
 */
#ifndef SINKD_DAEMON_CONTROL_H
#define SINKD_DAEMON_CONTROL_H

#include <event2/event.h>
#include <jansson.h>

#include "daemon/peers/peers.h"
#include "daemon/worker.h"

struct control;

struct control_options {
	struct peers_options peers;
	int32_t time_limit; /* of generating an answer, ms, for requests without a shorter one; 0: none */
};

/* What it is joined to. All but the listener is borrowed. */
struct control_links {
	struct listener listener; /* taken over, also on failure */
	const char *key;          /* the member's name as a JSON string */
	struct worker *worker;
};

struct control_callbacks {
	/* Add the members of a status. */
	void (*add_status)(void *arg, json_t *status);
	/* Begin a checkpoint; control_end_checkpoint is called when it is done. Returns 0, or -1 with *e set. */
	int (*checkpoint)(void *arg, struct err *e);
};

/* Borrows options and callbacks. Returns NULL with *e set (EX_OSERR). */
struct control *control_new(struct event_base *base, const struct control_options *o, struct control_links *links,
    const struct control_callbacks *callbacks, void *arg, struct err *e);

/* Before the worker, to which the requests belong that clients still wait for. */
void control_free(struct control *c);

/* Take no more requests. */
void control_stop(struct control *c);

/* A line of a request's, or its end; the request is freed. */
void control_take_result(struct control *c, struct result *r);

/* A record and the line it became, or a line of another kind, for those who subscribed. */
void control_publish_record(struct control *c, const struct record *r, const char *line, size_t len);
void control_publish_line(struct control *c, const char *line, size_t len);

/* The checkpoint is done, in so many seconds; e->code is 0, or why it failed. */
void control_end_checkpoint(struct control *c, const struct err *e, int64_t bytes, double seconds);

/* Requests that wait and were not handed to the engine thread yet. */
size_t control_get_waiting(const struct control *c);

struct peers *control_get_peers(struct control *c);

#endif
