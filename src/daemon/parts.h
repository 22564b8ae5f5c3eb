/* What the daemon consists of: shared by daemon.c, setup.c and status.c, and by nobody else. */
#ifndef SINKD_DAEMON_PARTS_H
#define SINKD_DAEMON_PARTS_H

#include <event2/event.h>

#include "daemon/checkpoint.h"
#include "daemon/http/metrics.h"
#include "daemon/delivery.h"
#include "daemon/output/messages.h"
#include "daemon/peers/listener.h"
#include "daemon/progress.h"
#include "daemon/service.h"
#include "daemon/settings.h"

enum { SIGNALS = 3 };

struct daemon {
	struct settings *settings;
	int argc;
	char **argv;
	struct event_base *base;
	struct messages *messages;
	struct service *service;
	struct event *results, *replies, *signals[SIGNALS];
	struct event *checkpoint_timer, *digest_timer, *look; /* look: whether the output is still there */
	struct worker *worker;
	struct intake *intake;
	struct output *output;
	struct delivery delivery;
	struct listener events, commands; /* the sockets of producers and of control */
	struct producers *producers;      /* the intake's; NULL: no socket */
	struct control *control;          /* NULL: no socket */
	struct checkpoint *checkpoint;    /* NULL: no state */
	struct metrics *metrics;          /* NULL: none */
	struct progress *progress;
	struct stats *stats;
	struct buf key;                   /* the member's name as a JSON string */
	struct buf socket_name;
	bool output_is_terminal;
	struct state_folder *folder;      /* NULL: no state */
	int64_t saved_seq;                /* of the last checkpoint begun */
	struct request *written;          /* a checkpoint that waits for the output to be drained */
	bool began;                       /* the inputs are read */
	bool stopping;                    /* by a signal, and what was read is to be finished */
	bool ending, ended;               /* the last checkpoint is begun, is done */
	int last_tries;                   /* of the last checkpoint that failed */
	int digests;                      /* asked for, in the order of the stream, and not done */
	int64_t steps;                    /* of the engine thread, when the watchdog was last fed */
	struct err failure;               /* the first one; code 0: none */
};

/* daemon.c: the callbacks that setup.c hands to the parts */
extern const struct output_callbacks daemon_output_callbacks;
extern const struct intake_callbacks daemon_intake_callbacks;
extern const struct control_callbacks daemon_control_callbacks;
extern const struct checkpoint_callbacks daemon_checkpoint_callbacks;
extern const struct service_callbacks daemon_service_callbacks;
void daemon_on_results(evutil_socket_t fd, short what, void *arg);
void daemon_on_replies(evutil_socket_t fd, short what, void *arg);
void daemon_on_signal(evutil_socket_t number, short what, void *arg);
void daemon_on_checkpoint_timer(evutil_socket_t fd, short what, void *arg);
void daemon_on_digest_timer(evutil_socket_t fd, short what, void *arg);
void daemon_on_look(evutil_socket_t fd, short what, void *arg);

/* setup.c: open all of it, or close what is open. names[n]: files, as for daemon_run. */
int daemon_open(struct daemon *d, char *const *names, int n, struct err *e);
void daemon_close(struct daemon *d);

/*
 * With --sandbox: all threads give up what they need no more. All is open, and nothing is read. Returns 0, or -1 with
 * *e set.
 */
int daemon_enter_sandbox(struct daemon *d, struct err *e);

/* Arm the timers as the settings say. */
int daemon_set_timers(struct daemon *d, struct err *e);

/* status.c */
void daemon_add_status(void *arg, json_t *status);
void daemon_describe(void *arg, char *text, size_t size);
void daemon_count_progress(void *arg, struct progress_numbers *n);
json_t *daemon_save(void *arg);

#endif
