/*
 * A checkpoint's file, format 3: a head, sections, a foot. A section is its
 * head and its bytes. The foot's checksum covers all heads, and each head holds
 * the checksum of its section's bytes. Numbers are the machine's own.
 */
#ifndef SINKD_STREAM_SECTION_FILE_H
#define SINKD_STREAM_SECTION_FILE_H

#include <stdbool.h>

#include "stream/section.h"

enum {
	SECTION_FILE_FORMAT = 3,
	SECTION_FILE_MAX = 64, /* sections in a file */
};

struct section_file_head {
	char magic[8];
	uint64_t format;
};

struct section_head {
	char name[SECTION_NAME]; /* zeroes behind it */
	uint32_t version, flags;
	uint64_t len;            /* of the bytes that follow */
	uint64_t sum;            /* of these bytes */
};

struct section_file_foot {
	char magic[8];
	uint64_t sections;
	uint64_t sum; /* of the file's head, each section's head, and the members above */
};

/* The magic of head and foot; formats 1 and 2 have the same. */
extern const char section_file_begins[8], section_file_ends[8];

/* ---- writing -------------------------------------------------------- */

/* Bytes on their way into a sum, and into a file unless there is none. */
struct section_writer;

/* fd, which the writer takes, is a new file, or -1: only sum. Borrows path. Returns NULL with *e set. */
struct section_writer *section_writer_new(int fd, const char *path, struct err *e);

/* Put what is written into the file, if rc is 0, and close it. Returns rc, or -1 with *e set. */
int section_writer_close(struct section_writer *w, int rc, struct err *e);

/* Begin the file. The functions below append a section. They return 0, or -1 with *e set (EX_IOERR, or by save). */
int section_writer_begin(struct section_writer *w, struct err *e);
int section_writer_add(struct section_writer *w, const struct section *s, struct err *e);
int section_writer_add_bytes(struct section_writer *w, const char *name, const void *bytes, size_t len, struct err *e);

/* The bytes alone, without a section; for the sum of them all. */
int section_writer_put(struct section_writer *w, const struct section *s, struct err *e);
uint64_t section_writer_get_sum(const struct section_writer *w);
int64_t section_writer_get_bytes(const struct section_writer *w);

/*
 * Complete a file that a writer left, perhaps on another thread: append a section, and the foot. The file is synced.
 * Returns 0, or -1 with *e set (EX_IOERR).
 */
int section_file_finish(int fd, const char *path, const char *name, const void *bytes, size_t len, struct err *e);

/* ---- reading -------------------------------------------------------- */

struct section_view {
	struct section_head head;
	const char *bytes; /* [head.len] */
};

struct section_file {
	struct section_view sections[SECTION_FILE_MAX];
	int n;
};

/*
 * Find the sections of data[size] and check all sums. The views borrow from
 * data. Returns 0, or -1 with *e set (EX_DATAERR); path is for the sentence.
 */
int section_file_read(struct section_file *f, const char *data, size_t size, const char *path, struct err *e);

/* Returns NULL if there is none of that name. */
const struct section_view *section_file_find(const struct section_file *f, const char *name);

/* The sum that belongs into the foot of the n sections whose heads lie in a file. For section_file.c and its tests. */
uint64_t section_file_sum(const struct section_file_head *head, const struct section_view *sections, int n,
    const struct section_file_foot *foot);

/* Find the sections without a look at sums. Returns false where the bytes hold no proper run of them. */
bool section_file_walk(struct section_file *f, const char *data, size_t size);

#endif
