/*
 * The connections of one listening socket: lines in, lines out, bounded both
 * ways, whatever a peer does or fails to do. What lines mean is the user's.
 */
#ifndef SINKD_DAEMON_PEERS_H
#define SINKD_DAEMON_PEERS_H

#include <event2/event.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/input/feed.h"
#include "daemon/peers/listener.h"

struct peers;
struct peer;

struct peers_options {
	size_t max_line;
	/* connections at once; for a further one an idle one makes room, or it is told so and closed */
	int most;
	int idle;        /* seconds after its last line in which one that gave lines does not make room */
	size_t backlog;  /* bytes that may wait for one to read them before lines are left out */
	int patience;    /* seconds in which one must read something of what waits, before it is closed */
};

struct peers_callbacks {
	/* A line. Returns false when there is no room: it is given again after peers_resume. */
	bool (*line)(void *arg, struct peer *p, const struct line *line);
	/* p has connected, or is about to be closed: its first and its last mention. NULL: not interested. */
	void (*come)(void *arg, struct peer *p);
	void (*gone)(void *arg, struct peer *p);
	/* Does p wait for lines that nobody knows of here? Then it is not idle. */
	bool (*is_listening)(void *arg, const struct peer *p);
};

/*
 * key: the member's name as a JSON string, for what is said here. Takes the listener over, also on failure; borrows all
 * else. Returns NULL with *e set (EX_OSERR).
 */
struct peers *peers_new(struct event_base *base, struct listener *listener, const char *key,
    const struct peers_options *o, const struct peers_callbacks *callbacks, void *arg, struct err *e);
void peers_free(struct peers *s);

/* There is room for lines again. */
void peers_resume(struct peers *s);

/* Accept and read no more. What waits to be written still is. */
void peers_stop(struct peers *s);

/* Write what can be written at once; false while something still waits. */
bool peers_flush(struct peers *s);

/* A connection that was made elsewhere. */
void peers_adopt(struct peers *s, int fd);

size_t peers_get_count(const struct peers *s);
int64_t peers_get_skipped(const struct peers *s); /* lines left out, for all there ever were */

/* A peer that is there has a number that no other one ever had. NULL: it is gone. */
uint64_t peer_get_number(const struct peer *p);
struct peer *peers_find(const struct peers *s, uint64_t number);
struct peer *peers_next(const struct peers *s, const struct peer *p); /* NULL: the first one; ends with NULL */

/* The user behind it, as the kernel says. */
uid_t peer_get_uid(const struct peer *p);
int peer_get_fd(const struct peer *p);

/* The user's own. */
void *peer_get_data(const struct peer *p);
void peer_set_data(struct peer *p, void *data);
struct origin *peer_get_origin(struct peer *p); /* format as it was set, name NULL, peer its number */

/*
 * Give it whole lines. While too much waits for it they are left out and
 * counted, and it is told so when it has read on; with `must` it is closed
 * only when far more waits. line may hold several lines.
 */
void peer_send(struct peer *p, const char *lines, size_t len, bool must);

/* Something is still to come for it: after the end of its input it is not closed before as many peer_release. */
void peer_hold(struct peer *p);
void peer_release(struct peer *p);

/* Closed soon. What is not, when the program ends, is left open for whoever else has the descriptor. */
void peer_close(struct peer *p);

/* The same, for a reason that the peer cannot know: a message says why. */
void peer_break_off(struct peer *p, const char *why);
bool peer_is_closing(const struct peer *p);

#endif
