/*
 * The folder that a stream's checkpoints lie in, held by one process at a time.
 * At every moment one of its files is a whole checkpoint, once there was one.
 *
 *	checkpoint      the last one     checkpoint.old     the one before
 *	checkpoint.tmp  being written    checkpoint.at-SEQ  kept where the stream began afresh
 *	lock            held while a daemon runs  model  see identity.h
 *
 * The calls come one after the other, whatever thread they are made on.
 */
#ifndef SINKD_STREAM_STATE_FOLDER_H
#define SINKD_STREAM_STATE_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct state_folder;

/* In the order in which a start looks for a whole one. */
enum state_file { STATE_LAST, STATE_TMP, STATE_OLD, STATE_FILES };

/*
 * Take the folder for this process, and make it if it is not there. Another
 * user's folder is refused, and one that other users may write to: they could
 * plant files in it. Returns NULL with *e set: ERR_IN_USE (another process has
 * it; the sentence names its number), EX_CANTCREAT, EX_NOPERM, EX_OSERR.
 */
struct state_folder *state_folder_open(const char *path, struct err *e);

/*
 * The same to look at the files only, beside a daemon that may have the folder:
 * nothing is made, locked or renamed. NULL with *e set: also EX_NOINPUT, there
 * is no such folder.
 */
struct state_folder *state_folder_look(const char *path, struct err *e);
void state_folder_close(struct state_folder *f);

const char *state_folder_get_path(const struct state_folder *f);

/* The path of a file, for messages. Borrowed until state_folder_close. */
const char *state_folder_get_name(const struct state_folder *f, enum state_file which);

/* Open a file to read it. Returns a descriptor, or -1 with errno set. Symbolic links are not followed. */
int state_folder_open_file(const struct state_folder *f, enum state_file which, int flags);

/* Make checkpoint.tmp afresh. Returns a descriptor to write to, or -1 with *e set (EX_IOERR). */
int state_folder_create(struct state_folder *f, struct err *e);

/*
 * Say whether the file `checkpoint` is whole. Only a whole one becomes
 * checkpoint.old: a damaged one is replaced, and the one before it stays.
 */
void state_folder_set_whole(struct state_folder *f, bool whole);

/*
 * checkpoint.tmp is whole and on the disk: it becomes `checkpoint`. Returns 0, or
 * -1 with *e set (EX_IOERR); at least one whole file is there in either case.
 */
int state_folder_commit(struct state_folder *f, struct err *e);

/*
 * Give a file one more name, checkpoint.at-SEQ, which stays when the file's own
 * goes. name[size] receives it with the path. Returns 0, or -1 with *e set
 * (EX_IOERR).
 */
int state_folder_keep(struct state_folder *f, enum state_file which, int64_t seq, char *name, size_t size,
    struct err *e);

#endif
