/* How the daemon is: for status, metrics, the service manager, the progress line; and what a checkpoint stores. */
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "daemon/parts.h"

static void
set_int(json_t *o, const char *name, int64_t v)
{
	json_object_set_new(o, name, json_integer((json_int_t)v));
}

static void
set_real(json_t *o, const char *name, double v)
{
	json_object_set_new(o, name, isfinite(v) ? json_real(v) : json_null());
}

static json_t *
make_surprise(const struct stats *s)
{
	json_t *o = json_object();

	set_real(o, "0.5", stats_get_quantile(s, 0.5));
	set_real(o, "0.9", stats_get_quantile(s, 0.9));
	set_real(o, "0.99", stats_get_quantile(s, 0.99));
	set_real(o, "1", stats_get_quantile(s, 1));
	set_real(o, "sum", s->surprise_sum);
	set_int(o, "count", s->scored);
	return o;
}

static json_t *
make_checkpoint(const struct daemon *d, double now)
{
	const struct checkpoint_numbers *n = checkpoint_get_numbers(d->checkpoint);
	json_t *o = json_object();

	set_int(o, "made", n->made);
	set_int(o, "failed", n->failed);
	set_int(o, "bytes", n->bytes);
	set_real(o, "seconds", n->seconds);
	set_real(o, "age", n->time > 0 ? now - n->time : NAN);
	set_int(o, "failing", n->failure.code != 0);
	if (n->failure.code != 0)
		json_object_set_new(o, "failure", json_string(n->failure.text));
	return o;
}

static json_t *
make_model(const struct daemon *d)
{
	const struct model_info *m = worker_get_model(d->worker);
	const struct context_info *c = worker_get_context(d->worker);

	return json_pack("{s:s, s:s, s:s, s:I, s:s, s:i}", "path", m->path, "name", m->name, "weights", m->weight_type,
	    "parameters", (json_int_t)m->n_params, "device", c->path, "capacity", (int)c->capacity);
}

static void
add_counts(const struct daemon *d, json_t *o, const struct worker_counters *c, double now)
{
	set_int(o, "seq", intake_get_seq(d->intake));
	set_int(o, "events", d->delivery.events);
	set_int(o, "errors", d->delivery.errors);
	set_int(o, "skipped", d->delivery.skipped);
	set_int(o, "tokens", c->tokens);
	set_int(o, "position", c->position);
	set_int(o, "evictions", c->evictions);
	set_int(o, "digests", c->digests);
	set_int(o, "replies", c->replies);
	set_real(o, "events_per_second", rate_get(&d->stats->events, now));
	set_real(o, "tokens_per_second", rate_get(&d->stats->tokens, now));
	json_object_set_new(o, "lag", json_pack("{s:I, s:f}", "events", (json_int_t)intake_get_count(d->intake),
	    "seconds", intake_get_lag(d->intake, now)));
	json_object_set_new(o, "queues", json_pack("{s:I, s:I}", "records", (json_int_t)c->waiting, "requests",
	    (json_int_t)(c->requests + (d->control == NULL ? 0 : control_get_waiting(d->control)))));
}

void
daemon_add_status(void *arg, json_t *o)
{
	struct daemon *d = arg;
	struct worker_counters c;
	double now = clock_get_seconds();

	worker_get_counters(d->worker, &c);
	json_object_set_new(o, "version", json_string(PACKAGE_VERSION));
	set_real(o, "uptime", now - d->stats->start);
	add_counts(d, o, &c, now);
	json_object_set_new(o, "surprise", make_surprise(d->stats));
	if (d->producers != NULL) {
		set_int(o, "producers", (int64_t)peers_get_count(producers_get_peers(d->producers)));
		set_int(o, "producer_lines_skipped", peers_get_skipped(producers_get_peers(d->producers)));
	}
	if (d->control != NULL) {
		set_int(o, "clients", (int64_t)peers_get_count(control_get_peers(d->control)));
		set_int(o, "client_lines_skipped", peers_get_skipped(control_get_peers(d->control)));
	}
	if (d->checkpoint != NULL)
		json_object_set_new(o, "checkpoint", make_checkpoint(d, now));
	json_object_set_new(o, "model", make_model(d));
}

void
daemon_describe(void *arg, char *text, size_t size)
{
	struct daemon *d = arg;
	double now = clock_get_seconds();
	const struct err *failure;
	int n;

	n = snprintf(text, size, "%lld events, %.1f events/s, %.0f tokens/s, lag %zu events, %.1f s",
	    (long long)d->delivery.events, rate_get(&d->stats->events, now), rate_get(&d->stats->tokens, now),
	    intake_get_count(d->intake), intake_get_lag(d->intake, now));
	failure = d->checkpoint == NULL ? NULL : &checkpoint_get_numbers(d->checkpoint)->failure;
	if (failure != NULL && failure->code != 0 && n > 0 && (size_t)n < size)
		snprintf(text + n, size - (size_t)n, "; no checkpoint: %s", failure->text);
}

void
daemon_count_progress(void *arg, struct progress_numbers *n)
{
	struct daemon *d = arg;
	struct worker_counters c;

	worker_get_counters(d->worker, &c);
	*n = (struct progress_numbers){d->delivery.events, d->delivery.errors, c.tokens, c.waiting};
}

/* Of records that are on their way too: they come before the checkpoint in the order of the stream. */
json_t *
daemon_save(void *arg)
{
	struct daemon *d = arg;
	json_t *o = json_object();

	set_int(o, "seq", intake_get_seq(d->intake));
	set_int(o, "errors", intake_get_errors(d->intake));
	set_int(o, "skipped", d->delivery.skipped);
	intake_save(d->intake, o);
	return o;
}
