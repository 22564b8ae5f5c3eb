/*
 * What tells a file that was read or written up to a place from every other
 * file: its inode number, how it begins, and which bytes stand before the place.
 * Loop thread.
 */
#ifndef SINKD_DAEMON_IDENTITY_H
#define SINKD_DAEMON_IDENTITY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum {
	IDENTITY_HEAD = 256,  /* bytes at a file's start */
	IDENTITY_TAIL = 4096, /* bytes before a place */
};

/* The last bytes before a place, at most IDENTITY_TAIL of them. All zero: none. */
struct identity_tail {
	size_t len;                    /* in bytes; it may be more than IDENTITY_TAIL */
	char bytes[2 * IDENTITY_TAIL]; /* twice as much room, so that few additions move bytes */
};

/* n more bytes stand before the place now. */
void identity_tail_add(struct identity_tail *t, const char *bytes, size_t n);

/* The bytes; *n receives their number. */
const char *identity_tail_get(const struct identity_tail *t, size_t *n);

struct identity {
	ino_t inode;
	struct timespec modified; /* when its writer last wrote to it, as far as that is known */
	int64_t offset;           /* the place: bytes that were read or written */
	size_t head_len, tail_len;
	uint64_t head, tail;      /* hashes of its first head_len bytes, and of the last tail_len ones before offset */
};

void identity_set_head(struct identity *id, const char *bytes, size_t n);
void identity_set_tail(struct identity *id, const struct identity_tail *t);

/* From the file itself: the bytes before id->offset. Returns 0, or -1 with errno set (ESTALE: it is shorter). */
int identity_read_tail(struct identity *id, int fd);

/*
 * Does an open file, whatever its inode number, hold what was read? Returns 1
 * or 0, or -1 with errno set: nobody can tell now.
 */
int identity_check_content(const struct identity *id, int fd);

/* Is nothing known of its content? Then the inode number alone decides. */
bool identity_is_empty(const struct identity *id);

/* Add it to an object without the offset; and back: false if it is not there. States of older versions have less. */
void identity_save(const struct identity *id, json_t *o);
bool identity_load(struct identity *id, const json_t *o, int64_t offset);

/* A hash or a time as a member of an object, and back; false if it is not there. */
void identity_save_hash(json_t *o, const char *name, uint64_t hash);
bool identity_load_hash(const json_t *o, const char *name, uint64_t *hash);
void identity_save_time(json_t *o, const char *name, const struct timespec *t);
bool identity_load_time(const json_t *o, const char *name, struct timespec *t);

/* Read n bytes at a place. Returns fewer only at the file's end; -1 with errno set. */
ssize_t identity_read(int fd, char *to, size_t n, int64_t from);

#endif
