/*
 * A destination that is a regular file: it is synced, known again after a
 * restart under whatever name it has by then, cut, and opened anew when it was
 * renamed or removed. Loop thread.
 */
#ifndef SINKD_DAEMON_OUTPUT_FILE_H
#define SINKD_DAEMON_OUTPUT_FILE_H

#include "daemon/output/destination.h"

struct output_file;

extern const struct destination_ops output_file_ops;

/*
 * Open a file to append to, and make it where there is none. A FIFO or a device
 * is opened without waiting for anybody. Returns a descriptor, or -1 with *e set
 * (EX_CANTCREAT).
 */
int output_file_open(const char *path, struct err *e);

/* Could output_file_open open it? Nothing is made. Returns 0, or -1 with *e set (EX_CANTCREAT). */
int output_file_check(const char *path, struct err *e);

/* Takes fd over, also on failure: o->output, open, a regular file. Returns NULL with *e set (EX_IOERR, EX_OSERR). */
struct output_file *output_file_new(const struct destination_options *o, int fd,
    const struct destination_callbacks *callbacks, void *arg, struct err *e);

#endif
