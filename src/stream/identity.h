/*
 * Which model a checkpoint belongs to: a number of all bytes of the model's
 * file. It is kept in the state's folder with what the file system says of the
 * file, so that an unchanged file is not read again. Any thread.
 */
#ifndef SINKD_STREAM_IDENTITY_H
#define SINKD_STREAM_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/*
 * The number of the file that fd is open on; name is for messages. folder: where
 * it may be found, in the file `model`. keep: and where it is put; a number that
 * cannot be kept is computed again next time. Returns 0, or -1 with *e set (EX_IOERR: the file cannot
 * be read, or changes while it is).
 */
int identity_find(int fd, const char *name, const char *folder, bool keep, uint64_t *id, struct err *e);

/* Earlier versions wrote another number into checkpoints, of the size and 4 KiB of every MiB. Is it this? */
bool identity_was(int fd, uint64_t id);

#endif
