/* The control socket; see control.h. Loop thread. */
#include "daemon/control/control.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/control/command.h"
#include "daemon/control/turns.h"
#include "daemon/control/watch.h"
#include "stream/fault.h"
#include "stream/json_write.h"

enum { REQUESTS = 8, WATCHES = 16 }; /* of one connection */

struct client {
	struct peer *peer;
	bool subscribed;
	double min_surprise;
	int n_requests;      /* that wait for the engine thread, or that it has */
	struct watch watches[WATCHES];
	int n_watches;
	int64_t watch_number;
	bool checkpoint;     /* it waits for one, */
	char *checkpoint_id; /* asked for with this id, or NULL */
	LIST_ENTRY(client) link;
};

struct control {
	const struct control_options *options;
	const char *key;
	const struct control_callbacks *callbacks;
	void *arg;
	struct worker *worker;
	struct turns *answers, *looks; /* requests for the engine thread: the short ones do not wait for the others */
	struct peers *peers;
	LIST_HEAD(, client) clients;
	struct event *look; /* for silence, while somebody watches for it */
	struct buf line;    /* scratch */
	bool warned;        /* of a small model that writes */
};

/* ---- answers -------------------------------------------------------- */

static void
begin_line(struct control *c, const char *type, const char *id)
{
	buf_clear(&c->line);
	envelope_begin(&c->line, c->key, type, id);
}

static void
send_line(struct control *c, struct peer *p)
{
	envelope_end(&c->line);
	if (c->line.failed)
		peer_break_off(p, "out of memory for an answer");
	else
		peer_send(p, c->line.data, c->line.len, true);
}

static void
send_error(struct control *c, struct peer *p, const char *id, const struct err *e)
{
	begin_line(c, "error", id);
	fault_write(&c->line, fault_of_request(e), e->text);
	send_line(c, p);
}

static void
send_ok(struct control *c, struct peer *p, const char *id)
{
	begin_line(c, "ok", id);
	send_line(c, p);
}

static void
send_status(struct control *c, struct peer *p, const char *id, const uint64_t *hash)
{
	json_t *status = json_object();
	char *text;

	c->callbacks->add_status(c->arg, status);
	if (hash != NULL)
		json_object_set_new(status, "hash", json_sprintf("%016llx", (unsigned long long)*hash));
	text = json_dumps(status, JSON_COMPACT | JSON_REAL_PRECISION(6));
	json_decref(status);
	begin_line(c, "status", id);
	if (text != NULL && strlen(text) > 2) {
		buf_add_text(&c->line, ",");
		buf_add(&c->line, text + 1, strlen(text) - 2);
	}
	free(text);
	send_line(c, p);
}

/* ---- requests for the engine thread --------------------------------- */

static struct turns *
find_turns(struct control *c, const struct request *q)
{
	return q->op == REQUEST_HASH ? c->looks : c->answers;
}

/* The engine thread has one request of each kind at a time, so that whose is next is decided here. */
static void
serve_next(struct control *c, struct turns *t)
{
	struct request *q = turns_take(t);
	bool pushed = q == NULL || worker_request(c->worker, q);

	assert(pushed);
	(void)pushed;
}

/* A limit for answers that the request does not have, or that is longer than it may be. */
static void
limit_time(const struct control *c, struct reply_options *r)
{
	if (c->options->time_limit > 0 && (r->time_limit == 0 || r->time_limit > c->options->time_limit))
		r->time_limit = c->options->time_limit;
}

/* Answers read well even where they are wrong: say once whether this model can give any. */
static void
warn_of_writing(struct control *c, const struct request *q)
{
	const struct model_info *m = worker_get_model(c->worker);
	bool writes = q->op == REQUEST_ASK ||
	    (q->op == REQUEST_DIGEST && (q->digest.style == DIGEST_WRITE || q->digest.reply.schema != NULL));
	char text[512];

	if (!writes || c->warned || !digest_is_small(m))
		return;
	c->warned = true;
	digest_describe_small(m, text, sizeof text);
	log_message(LOG_NOTICE, "%s", text);
}

static int
hand_over(struct control *c, struct client *k, struct command *cmd, struct err *e)
{
	struct request *q = cmd->request;
	struct turns *t = find_turns(c, q);

	if (k->n_requests == REQUESTS)
		return err_set(e, EX_DATAERR, "this connection has %d requests waiting, which is the most that one may "
		    "have: ask again when one of them is answered", REQUESTS);
	warn_of_writing(c, q);
	q->client = peer_get_number(k->peer);
	q->asked = clock_get_seconds();
	limit_time(c, q->op == REQUEST_DIGEST ? &q->digest.reply : &q->reply);
	if (turns_add(t, peer_get_uid(k->peer), q, e) < 0)
		return -1;
	cmd->request = NULL;
	k->n_requests++;
	peer_hold(k->peer);
	serve_next(c, t);
	return 0;
}

/* The engine thread is done with a request, and goes on with the next one. */
static void
end_request(struct control *c, struct peer *p, const struct request *q)
{
	struct turns *t = find_turns(c, q);

	turns_end(t);
	serve_next(c, t);
	if (p == NULL)
		return;
	if (q->op == REQUEST_HASH && q->failure.code != 0)
		send_error(c, p, q->id, &q->failure);
	else if (q->op == REQUEST_HASH)
		send_status(c, p, q->id, &q->hash);
	((struct client *)peer_get_data(p))->n_requests--;
	peer_release(p);
}

void
control_take_result(struct control *c, struct result *r)
{
	struct peer *p = r->request == NULL ? NULL : peers_find(c->peers, r->request->client);

	if (p != NULL && r->type == RESULT_LINE)
		peer_send(p, r->line, r->len, true);
	else if (r->type == RESULT_DONE)
		end_request(c, p, r->request);
	result_drop(r);
}

/* ---- checkpoints ---------------------------------------------------- */

static int
ask_checkpoint(struct control *c, struct client *k, struct command *cmd, struct err *e)
{
	uid_t uid = peer_get_uid(k->peer);

	if (uid != 0 && uid != geteuid())
		return err_set(e, EX_NOPERM, "a checkpoint is for the superuser and the user of the daemon to ask for");
	if (k->checkpoint)
		return err_set(e, EX_DATAERR, "this connection waits for a checkpoint already");
	if (c->callbacks->checkpoint(c->arg, e) < 0)
		return -1;
	k->checkpoint = true;
	k->checkpoint_id = cmd->id;
	cmd->id = NULL;
	peer_hold(k->peer);
	return 0;
}

void
control_end_checkpoint(struct control *c, const struct err *e, int64_t bytes, double seconds)
{
	struct client *k, *next;

	for (k = LIST_FIRST(&c->clients); k != NULL; k = next) {
		next = LIST_NEXT(k, link);
		if (!k->checkpoint)
			continue;
		k->checkpoint = false;
		if (e->code != 0)
			send_error(c, k->peer, k->checkpoint_id, e);
		else {
			begin_line(c, "checkpoint", k->checkpoint_id);
			buf_printf(&c->line, ",\"bytes\":%lld,\"seconds\":%.4f", (long long)bytes, seconds);
			send_line(c, k->peer);
		}
		free(k->checkpoint_id);
		k->checkpoint_id = NULL;
		peer_release(k->peer);
	}
}

/* ---- watches -------------------------------------------------------- */

static void
control_on_look(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;
	struct client *k;
	double now = clock_get_seconds();
	bool any = false;

	(void)fd;
	(void)what;
	LIST_FOREACH(k, &c->clients, link)
		for (int i = 0; i < k->n_watches; i++) {
			buf_clear(&c->line);
			watch_look(&k->watches[i], now, &c->line, c->key);
			any |= k->watches[i].silent > 0;
			if (c->line.len > 0 && !c->line.failed)
				peer_send(k->peer, c->line.data, c->line.len, false);
		}
	if (!any)
		event_del(c->look);
}

static int
add_watch(struct control *c, struct client *k, struct command *cmd, struct err *e)
{
	static const struct timeval interval = {0, 250000};
	struct watch *w = &k->watches[k->n_watches];

	if (k->n_watches == WATCHES)
		return err_set(e, EX_DATAERR, "this connection has %d watches already", WATCHES);
	if (watch_init(w, cmd->object, clock_get_seconds(), e) < 0) {
		watch_fini(w);
		return -1;
	}
	w->number = ++k->watch_number;
	w->id = cmd->id == NULL ? NULL : strdup(cmd->id);
	k->n_watches++;
	if (w->silent > 0 && !event_pending(c->look, EV_TIMEOUT, NULL))
		event_add(c->look, &interval);
	begin_line(c, "ok", cmd->id);
	buf_printf(&c->line, ",\"watch\":%lld", (long long)w->number);
	send_line(c, k->peer);
	return 0;
}

static int
remove_watch(struct control *c, struct client *k, struct command *cmd, struct err *e)
{
	json_int_t number = json_integer_value(json_object_get(cmd->object, "watch"));

	for (int i = 0; i < k->n_watches; i++)
		if (k->watches[i].number == number) {
			watch_fini(&k->watches[i]);
			k->watches[i] = k->watches[--k->n_watches];
			send_ok(c, k->peer, cmd->id);
			return 0;
		}
	return err_set(e, EX_DATAERR, "this connection has no watch of that number");
}

/* ---- a request ------------------------------------------------------ */

static void
subscribe(struct control *c, struct client *k, const struct command *cmd)
{
	k->subscribed = cmd->op == COMMAND_SUBSCRIBE;
	k->min_surprise = cmd->min_surprise;
	send_ok(c, k->peer, cmd->id);
}

static int
carry_out(struct control *c, struct client *k, struct command *cmd, struct err *e)
{
	switch (cmd->op) {
	case COMMAND_ASK:
	case COMMAND_DIGEST:
		return hand_over(c, k, cmd, e);
	case COMMAND_CHECKPOINT:
		return ask_checkpoint(c, k, cmd, e);
	case COMMAND_STATUS:
		if (cmd->request != NULL)
			return hand_over(c, k, cmd, e);
		send_status(c, k->peer, cmd->id, NULL);
		return 0;
	case COMMAND_SUBSCRIBE:
	case COMMAND_UNSUBSCRIBE:
		subscribe(c, k, cmd);
		return 0;
	case COMMAND_WATCH:
		return add_watch(c, k, cmd, e);
	case COMMAND_UNWATCH:
		return remove_watch(c, k, cmd, e);
	}
	return err_set(e, EX_SOFTWARE, "an op without a meaning");
}

static bool
control_on_line(void *arg, struct peer *p, const struct line *line)
{
	struct control *c = arg;
	struct client *k = peer_get_data(p);
	struct command cmd;
	struct err e = {0};

	if (line->len == 0 && !line->cut)
		return true;
	if (k == NULL)
		err_set(&e, EX_OSERR, "out of memory for a connection");
	if (command_read(&cmd, line, &e) < 0 || k == NULL || carry_out(c, k, &cmd, &e) < 0)
		send_error(c, p, cmd.id, &e);
	command_fini(&cmd);
	return true;
}

/* ---- clients come and go -------------------------------------------- */

static void
control_on_come(void *arg, struct peer *p)
{
	struct control *c = arg;
	struct client *k = calloc(1, sizeof *k);

	if (k == NULL)
		return;
	k->peer = p;
	peer_set_data(p, k);
	LIST_INSERT_HEAD(&c->clients, k, link);
}

/* Nobody listens to the answers any more. */
static void
control_on_gone(void *arg, struct peer *p)
{
	struct control *c = arg;
	struct client *k = peer_get_data(p);

	if (k == NULL)
		return;
	turns_drop(c->answers, peer_get_number(p));
	turns_drop(c->looks, peer_get_number(p));
	for (int i = 0; i < k->n_watches; i++)
		watch_fini(&k->watches[i]);
	free(k->checkpoint_id);
	LIST_REMOVE(k, link);
	free(k);
}

/* What comes from the stream is wanted, although nothing is asked for. */
static bool
control_is_listening(void *arg, const struct peer *p)
{
	const struct client *k = peer_get_data(p);

	(void)arg;
	return k != NULL && (k->subscribed || k->n_watches > 0);
}

static const struct peers_callbacks peers_callbacks = {control_on_line, control_on_come, control_on_gone,
    control_is_listening};

/* ---- what the stream gives ------------------------------------------ */

void
control_publish_line(struct control *c, const char *line, size_t len)
{
	struct client *k;

	LIST_FOREACH(k, &c->clients, link)
		if (k->subscribed)
			peer_send(k->peer, line, len, false);
}

void
control_publish_record(struct control *c, const struct record *r, const char *line, size_t len)
{
	bool scored = r->type == RECORD_EVENT && r->score.scored > 0;
	double surprise = scored ? score_get_surprise(r->score.nll, r->score.scored) : -1;
	struct client *k;

	LIST_FOREACH(k, &c->clients, link) {
		if (k->subscribed && (k->min_surprise < 0 || r->type != RECORD_EVENT || surprise >= k->min_surprise))
			peer_send(k->peer, line, len, false);
		for (int i = 0; i < k->n_watches; i++) {
			buf_clear(&c->line);
			watch_take_record(&k->watches[i], r, clock_get_seconds(), &c->line, c->key);
			if (c->line.len > 0 && !c->line.failed)
				peer_send(k->peer, c->line.data, c->line.len, false);
		}
	}
}

/* ---- start and end -------------------------------------------------- */

struct control *
control_new(struct event_base *base, const struct control_options *o, struct control_links *links,
    const struct control_callbacks *callbacks, void *arg, struct err *e)
{
	struct control *c = calloc(1, sizeof *c);

	if (c == NULL || (c->look = event_new(base, -1, EV_PERSIST, control_on_look, c)) == NULL) {
		err_set(e, EX_OSERR, "out of memory for the control socket");
		listener_close(&links->listener);
		free(c);
		return NULL;
	}
	LIST_INIT(&c->clients);
	c->options = o;
	c->callbacks = callbacks;
	c->arg = arg;
	c->key = links->key;
	c->worker = links->worker;
	c->peers = peers_new(base, &links->listener, c->key, &o->peers, &peers_callbacks, c, e);
	if (c->peers == NULL || (c->answers = turns_new(e)) == NULL || (c->looks = turns_new(e)) == NULL) {
		control_free(c);
		return NULL;
	}
	return c;
}

void
control_free(struct control *c)
{
	if (c == NULL)
		return;
	peers_free(c->peers);
	turns_free(c->answers);
	turns_free(c->looks);
	event_free(c->look);
	buf_fini(&c->line);
	free(c);
}

void
control_stop(struct control *c)
{
	peers_stop(c->peers);
}

size_t
control_get_waiting(const struct control *c)
{
	return turns_get_waiting(c->answers) + turns_get_waiting(c->looks);
}

struct peers *
control_get_peers(struct control *c)
{
	return c->peers;
}
