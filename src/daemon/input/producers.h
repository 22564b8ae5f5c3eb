/*
 * A feed: a Unix socket that any number of producers give lines to. Each gets
 * its own annotations back, or everybody's, or none.
 */
#ifndef SINKD_DAEMON_PRODUCERS_H
#define SINKD_DAEMON_PRODUCERS_H

#include "daemon/input/feed.h"
#include "daemon/peers/peers.h"
#include "daemon/service.h"

struct producers;

enum producers_answer { ANSWER_OWN, ANSWER_ALL, ANSWER_NONE };

/* Names of enum producers_answer in its order, then NULL. */
extern const char *const producers_answer_names[];

struct producers_options {
	struct peers_options peers;
	enum reader_format format;
	enum producers_answer answer;
};

/* What producers are joined to. All but the listener is borrowed. */
struct producers_links {
	struct listener listener; /* taken over, also on failure */
	const char *name;         /* of the socket, for errors */
	const char *key;          /* the member's name as a JSON string */
	struct service *service;  /* keeps connections, should the program end; NULL: nobody does */
};

extern const struct feed_ops producers_ops;

/* Borrows options and callbacks. Returns NULL with *e set (EX_OSERR). */
struct producers *producers_new(struct event_base *base, const struct producers_options *o,
    struct producers_links *links, const struct feed_callbacks *callbacks, void *arg, struct err *e);

/* A record of peer number (0: of no producer) became these lines. */
void producers_give(struct producers *p, uint64_t number, const char *lines, size_t len);

/* Nothing more comes for this record: it was left out. */
void producers_release(struct producers *p, uint64_t number);

/* The connections, for counts and for those that are to outlive the program. */
struct peers *producers_get_peers(struct producers *p);

#endif
