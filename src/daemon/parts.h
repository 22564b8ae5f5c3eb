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
#include "daemon/schedule.h"
#include "daemon/service.h"
#include "daemon/settings.h"

enum { SIGNALS = 3 };

/* How far a run has come. It never goes back, and may leave phases out; daemon_enter alone moves it. */
enum phase {
	PHASE_STARTING, /* nothing is read: the first checkpoint, where there is a state, is on its way */
	PHASE_READING,
	PHASE_ENDING,   /* nothing more is read; what was read is on its way to the outputs */
	PHASE_SAVING,   /* the last checkpoint is on its way */
	PHASE_SAVED,    /* it is made or given up */
	PHASE_OVER,     /* the loop ends */
};

struct daemon {
	struct settings *settings;
	int argc;
	char **argv;
	struct event_base *base;
	struct messages *messages;
	struct service *service;
	struct event *results, *replies, *signals[SIGNALS];
	struct worker *worker;
	struct intake *intake;
	struct destinations *destinations;
	struct delivery delivery;
	struct producers *producers;      /* the intake's; NULL: no socket */
	struct control *control;          /* NULL: no socket */
	struct checkpoint *checkpoint;    /* NULL: no state */
	struct schedule *schedule;        /* of digests */
	struct metrics *metrics;          /* NULL: none */
	struct progress *progress;
	struct stats *stats;
	struct buf key;                   /* the member's name as a JSON string */
	struct state_folder *folder;      /* NULL: no state */
	enum phase phase;
	int last_tries;                   /* of the last checkpoint that failed */
	int64_t steps;                    /* of the engine thread, when the watchdog was last fed */
	struct err failure;               /* the first one; code 0: none */
};

/* daemon.c: the callbacks that setup.c hands to the parts */
extern const struct destination_callbacks daemon_destination_callbacks;
extern const struct intake_callbacks daemon_intake_callbacks;
extern const struct control_callbacks daemon_control_callbacks;
extern const struct checkpoint_callbacks daemon_checkpoint_callbacks;
extern const struct service_callbacks daemon_service_callbacks;
void daemon_on_results(evutil_socket_t fd, short what, void *arg);
void daemon_on_replies(evutil_socket_t fd, short what, void *arg);
void daemon_on_signal(evutil_socket_t number, short what, void *arg);

/* Move on to a phase and do what it begins with. A phase that is reached or over is no move. */
void daemon_enter(struct daemon *d, enum phase next);

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
