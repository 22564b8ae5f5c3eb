/*
 * The inside of peers.h, for peers.c (lines in, lines out) and peers_accept.c
 * (connections come, and make room for others). Loop thread.
 */
#ifndef SINKD_DAEMON_PEERS_INNER_H
#define SINKD_DAEMON_PEERS_INNER_H

#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "daemon/peers/peers.h"
#include "stream/lines.h"

enum {
	PEERS_READ = 1 << 16,    /* bytes read at once, for all peers in one place */
	PEERS_TURNS = 64,        /* turns in one go of the loop */
	PEERS_BUCKETS = 1024,
};

/* How many connections a user has. */
struct peers_user {
	uid_t uid;
	size_t count;
	LIST_ENTRY(peers_user) link;
};

struct peer {
	struct peers *owner;
	uint64_t number;
	int fd;
	struct peers_user *user;
	struct event *readable, *writable;
	struct lines *lines;
	size_t unfinished;      /* bytes held in lines */
	struct origin origin;
	struct buf out;
	size_t written;         /* of out */
	int64_t skipped;        /* lines left out and not told yet */
	double progress;        /* when it last took something, or something began to wait */
	double active;          /* when it last gave a whole line or took something, or connected */
	bool spoke;             /* it has given a whole line */
	int holds;
	bool queued;            /* in the line of those with something to give */
	bool eof;               /* gives nothing more */
	bool deaf;              /* takes nothing more */
	bool closing;           /* to be closed, but not inside its own callbacks */
	void *data;
	TAILQ_ENTRY(peer) link, turn;
	LIST_ENTRY(peer) bucket;
};

TAILQ_HEAD(peer_list, peer);

struct peers {
	struct event_base *base;
	struct listener listener;
	const char *key;
	const struct peers_options *options;
	const struct peers_callbacks *callbacks;
	void *arg;
	struct event *accept, *retry, *turn, *patience;
	struct peer_list all, queue;
	LIST_HEAD(, peer) buckets[PEERS_BUCKETS]; /* by number */
	size_t closing;         /* that wait to be freed */
	size_t count;
	LIST_HEAD(, peers_user) users;
	uint64_t numbers;
	size_t unfinished;
	int64_t skipped;
	bool blocked;           /* a line was not taken: wait for peers_resume */
	bool stopped;
	char read[PEERS_READ];
};

/* peers_accept.c */
void peers_on_accept(evutil_socket_t fd, short what, void *arg);
void peers_on_retry(evutil_socket_t fd, short what, void *arg);
void peers_forget_user(struct peers_user *u); /* one connection less */

/* peers.c */
void peers_on_readable(evutil_socket_t fd, short what, void *arg);
void peers_on_writable(evutil_socket_t fd, short what, void *arg);
void peers_reap(struct peers *s); /* free those that are to be closed; not inside the callbacks of one */

#endif
