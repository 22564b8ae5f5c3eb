/*
 * Where a stream's inputs began, as a file beside the checkpoints. It is on the
 * disk before the model is loaded, so that a start that is killed before its
 * first checkpoint loses nothing of them. Used by setup.c. Loop thread.
 */
#ifndef SINKD_DAEMON_BEGINNING_H
#define SINKD_DAEMON_BEGINNING_H

#include <jansson.h>

#include "base/err.h"

/*
 * What an earlier start noted in the folder of the state, if it was asked for
 * the same inputs. Returns an object, a new reference, or NULL: there is none.
 */
json_t *beginning_load(const char *folder, const json_t *asked);

/* Note the places of these inputs, durably. Returns 0, or -1 with *e set (EX_IOERR, EX_OSERR). */
int beginning_save(const char *folder, const json_t *asked, const json_t *inputs, struct err *e);

/* There is a checkpoint, which counts from here on. */
void beginning_remove(const char *folder);

#endif
