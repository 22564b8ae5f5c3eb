/*
 * A filter of system calls (seccomp(2)) that the daemon puts on all of its
 * threads when the start is complete and nothing has been read: what it never
 * needs is refused with EPERM from then on, should an event take control of it.
 */
#ifndef SINKD_DAEMON_SANDBOX_H
#define SINKD_DAEMON_SANDBOX_H

#include "base/err.h"

/* What this daemon does besides reading and answering on the descriptors that are open. */
enum sandbox_needs {
	SANDBOX_WRITES = 1,   /* creates, renames and removes files: the output, checkpoints */
	SANDBOX_ACCEPTS = 2,  /* takes connections, and removes its sockets at the end */
	SANDBOX_NOTIFIES = 4, /* tells a service manager, by a new socket each time */
	SANDBOX_GPU = 8,      /* computes through a GPU's driver */
};

/* Does this build have the filter? Returns 0, or -1 with *e set (EX_USAGE). */
int sandbox_check(struct err *e);

/*
 * Enter it, with all threads that there are and will be; there is no way out.
 * needs: enum sandbox_needs. Returns 0, or -1 with *e set (EX_OSERR: the kernel
 * has no such filters, or does not let us).
 */
int sandbox_enter(unsigned needs, struct err *e);

#endif
