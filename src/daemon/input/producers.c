/* Producers on a Unix socket; see producers.h. Loop thread. */
#include "daemon/input/producers.h"

#include <stdlib.h>

const char *const producers_answer_names[] = {"own", "all", "none", NULL};

struct producers {
	const struct producers_options *options;
	char *name; /* valid UTF-8 */
	struct service *service;
	const struct feed_callbacks *callbacks;
	void *arg;
	struct peers *peers;
};

static bool
producers_on_line(void *arg, struct peer *peer, const struct line *line)
{
	struct producers *p = arg;
	struct origin *from = peer_get_origin(peer);
	int64_t before = from->records;

	if (!p->callbacks->line(p->arg, from, line))
		return false;
	if (from->records != before)
		peer_hold(peer); /* its annotation is still to come */
	return true;
}

static void
producers_on_come(void *arg, struct peer *peer)
{
	struct producers *p = arg;
	struct origin *from = peer_get_origin(peer);

	from->name = p->name;
	from->format = p->options->format;
	if (p->service != NULL)
		service_keep(p->service, peer_get_fd(peer), peer_get_number(peer));
}

static void
producers_on_gone(void *arg, struct peer *peer)
{
	struct producers *p = arg;

	if (p->service != NULL && peer_is_closing(peer))
		service_forget(p->service, peer_get_number(peer));
}

/* Who gets everybody's annotations may be there for these alone. */
static bool
producers_is_listening(void *arg, const struct peer *peer)
{
	const struct producers *p = arg;

	(void)peer;
	return p->options->answer == ANSWER_ALL;
}

static const struct peers_callbacks peers_callbacks = {producers_on_line, producers_on_come, producers_on_gone,
    producers_is_listening};

struct producers *
producers_new(struct event_base *base, const struct producers_options *o, struct producers_links *links,
    const struct feed_callbacks *callbacks, void *arg, struct err *e)
{
	struct producers *p = calloc(1, sizeof *p);

	if (p == NULL || (p->name = feed_make_name(links->name)) == NULL) {
		err_set(e, EX_OSERR, "out of memory for the producers");
		listener_close(&links->listener);
		free(p);
		return NULL;
	}
	p->options = o;
	p->service = links->service;
	p->callbacks = callbacks;
	p->arg = arg;
	p->peers = peers_new(base, &links->listener, links->key, &o->peers, &peers_callbacks, p, e);
	if (p->peers == NULL) {
		free(p->name);
		free(p);
		return NULL;
	}
	return p;
}

void
producers_give(struct producers *p, uint64_t number, const char *lines, size_t len)
{
	struct peer *peer = NULL;

	if (p->options->answer == ANSWER_ALL) {
		while ((peer = peers_next(p->peers, peer)) != NULL)
			peer_send(peer, lines, len, false);
	} else if (p->options->answer == ANSWER_OWN && number != 0 && (peer = peers_find(p->peers, number)) != NULL)
		peer_send(peer, lines, len, false);
	producers_release(p, number);
}

void
producers_release(struct producers *p, uint64_t number)
{
	struct peer *peer = number == 0 ? NULL : peers_find(p->peers, number);

	if (peer != NULL)
		peer_release(peer);
}

struct peers *
producers_get_peers(struct producers *p)
{
	return p->peers;
}

/* ---- as a feed ------------------------------------------------------ */

static void
producers_resume(void *feed)
{
	peers_resume(((struct producers *)feed)->peers);
}

static void
producers_stop(void *feed)
{
	peers_stop(((struct producers *)feed)->peers);
}

static void
producers_free(void *feed)
{
	struct producers *p = feed;

	peers_free(p->peers);
	free(p->name);
	free(p);
}

const struct feed_ops producers_ops = {producers_resume, producers_stop, producers_free, NULL};
