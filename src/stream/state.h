/*
 * Checkpoints of a stream, in a folder (state_folder.h). The engine thread
 * writes the state, the loop adds how far the outputs had come and puts the
 * file in its place, keeping the one before; what is damaged or foreign is
 * refused.
 */
#ifndef SINKD_STREAM_STATE_H
#define SINKD_STREAM_STATE_H

#include "stream/state_folder.h"
#include "stream/stream.h"

/*
 * Write checkpoint.tmp: the stream's state, and blob[len] that is the caller's.
 * *bytes receives its size. Engine thread. Returns 0, or -1 with *e set
 * (EX_IOERR, or why the state could not be had).
 */
int state_write(struct state_folder *f, struct stream *s, const char *blob, size_t len, int64_t *bytes, struct err *e);

/*
 * Complete what state_write left: places[len], the caller's, says where the
 * outputs were when all records before the checkpoint were written and synced.
 * The file and the folder are synced. Any thread. Returns 0, or -1 with *e set
 * (EX_IOERR).
 */
int state_finish(struct state_folder *f, const char *places, size_t len, struct err *e);

struct state;

/*
 * Open the last whole checkpoint that belongs to the file model. *s receives it,
 * or NULL if there is none at all. Returns 0, or -1 with *e set (EX_DATAERR:
 * there are some, and none can be used; EX_CONFIG: they belong to another model;
 * EX_IOERR, EX_NOINPUT: the model).
 */
int state_open(struct state_folder *f, const char *model, struct state **s, struct err *e);

/*
 * The same, but the last whole one of any model. Of one of another model the
 * blob and the places alone are of use; state_is_foreign tells, and says so in
 * *e (EX_CONFIG).
 */
int state_open_any(struct state_folder *f, const char *model, struct state **s, struct err *e);
bool state_is_foreign(const struct state *s, struct err *e);

/*
 * Keep this checkpoint beside the others, for good, as checkpoint.at-SEQ, which
 * name[size] receives with its path. Returns 0, or -1 with *e set (EX_IOERR).
 */
int state_keep(const struct state *s, struct state_folder *f, int64_t seq, char *name, size_t size, struct err *e);
void state_close(struct state *s);

/* The blob and the places, not NUL-terminated, borrowed until state_close. */
const char *state_get_blob(const struct state *s, size_t *len);

/* NULL: it was written by an earlier version, see state_get_output_size. */
const char *state_get_places(const struct state *s, size_t *len);

/* The size of the output's file, all that an earlier version noted of it; -1: it was a later one. */
int64_t state_get_output_size(const struct state *s);

/* Why a newer checkpoint was not used, or NULL. */
const char *state_get_warning(const struct state *s);

/*
 * Put the stream, made with the same options, into the state: each of its
 * sections is loaded by its owner. Returns 0, or -1 with *e set (EX_CONFIG: it
 * was saved with others, or has a section that nobody here knows; EX_DATAERR:
 * it is damaged).
 */
int state_restore(const struct state *s, struct stream *to, struct err *e);

/* A number of all that the stream's state is: the same before and after questions. */
int state_hash(struct stream *s, uint64_t *hash, struct err *e);

#endif
