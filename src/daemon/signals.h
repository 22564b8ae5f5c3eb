/*
 * Signals between the first line of main and the event loop, which takes them
 * over. Loading a model can take minutes: meanwhile a signal to end is noted,
 * and the start stops at its next step. Main thread.
 */
#ifndef SINKD_DAEMON_SIGNALS_H
#define SINKD_DAEMON_SIGNALS_H

#include <stdbool.h>

/*
 * From here on SIGTERM, SIGINT and SIGHUP are noted. A system call that waits
 * ends with EINTR at SIGTERM and SIGINT; the second of these ends the program
 * at once.
 */
void signals_begin(void);

/* Has SIGTERM or SIGINT come since signals_begin? The program is then to end with status 0 and no message. */
bool signals_ask_end(void);

/* This program does not reload: SIGHUP does what it did before signals_begin, at once if it has come already. */
void signals_leave_hangup(void);

/*
 * The loop takes over: block the three signals, and let each do what it did
 * before signals_begin. Returns true if SIGHUP has come. The loop's own
 * handlers are then installed, and signals_release delivers what came meanwhile.
 */
bool signals_hand_over(void);
void signals_release(void);

#endif
