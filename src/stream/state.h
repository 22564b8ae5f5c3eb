/*
 * A folder with checkpoints of a stream. The engine thread writes the state,
 * the loop adds how far the output had come and puts the file in its place,
 * keeping the one before; what is damaged or foreign is refused.
 *
 *	checkpoint      the last one     checkpoint.old  the one before
 *	checkpoint.tmp  being written    lock            held while a daemon runs
 */
#ifndef SINKD_STREAM_STATE_H
#define SINKD_STREAM_STATE_H

#include "stream/stream.h"

/*
 * Take the folder, which must exist, for this process. Returns a descriptor
 * that holds it until it is closed, or -1 with *e set: EX_TEMPFAIL (another
 * process has it; the sentence names its number), EX_CANTCREAT.
 */
int state_lock(const char *dir, struct err *e);

/*
 * Write dir/checkpoint.tmp: the stream's state, and blob[len] that is the
 * caller's. *bytes receives its size. Engine thread. Returns 0, or -1 with *e
 * set (EX_IOERR, EX_CANTCREAT, or why the state could not be had).
 */
int state_write(const char *dir, struct stream *s, const char *blob, size_t len, int64_t *bytes, struct err *e);

/*
 * Complete what state_write left: output is the size that the output file had
 * when all records before the checkpoint were written and synced. The file and
 * the folder are synced. Any thread. Returns 0, or -1 with *e set (EX_IOERR).
 */
int state_finish(const char *dir, int64_t output, struct err *e);

struct state;

/*
 * Open the last checkpoint in dir, or the one before if that one is damaged or
 * belongs to another model than the file model. *s receives it, or NULL if
 * there is none at all. Returns 0, or -1 with *e set (EX_DATAERR: there are
 * some, and none can be used; EX_IOERR, EX_NOINPUT: the model).
 */
int state_open(const char *dir, const char *model, struct state **s, struct err *e);
void state_close(struct state *s);

/* The blob, not NUL-terminated, borrowed until state_close; and the output's size. */
const char *state_get_blob(const struct state *s, size_t *len);
int64_t state_get_output(const struct state *s);

/* Why a newer checkpoint was not used, or NULL. */
const char *state_get_warning(const struct state *s);

/*
 * Put the stream, made with the same options, into the state. Returns 0, or -1
 * with *e set (EX_DATAERR: it was saved with others).
 */
int state_restore(const struct state *s, struct stream *to, struct err *e);

/* A number of all that the stream's state is: the same before and after questions. */
int state_hash(struct stream *s, uint64_t *hash, struct err *e);

#endif
