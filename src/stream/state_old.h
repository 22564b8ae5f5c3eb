/*
 * Checkpoints of the formats 1 and 2, which earlier versions wrote, seen as
 * sections. All that the stream saved is one run of bytes there.
 */
#ifndef SINKD_STREAM_STATE_OLD_H
#define SINKD_STREAM_STATE_OLD_H

#include "stream/section_file.h"

enum {
	STATE_OLD_SIZE = 1, /* has the size of the output's file, and no places */
	STATE_OLD_PLACES = 2,
};

/* The section that holds the bytes of several ones, in the order in which the stream adds its own. */
#define STATE_OLD_RUN "stream"

/* Format 1: the size of the output's file, an int64_t. */
#define STATE_OLD_OUTPUT_SIZE "output_size"

/* As section_file_read. */
int state_old_read(struct section_file *f, const char *data, size_t size, const char *path, struct err *e);

/* Do the bytes of the section of this name lie in the run? */
bool state_old_has(const char *name);

#endif
