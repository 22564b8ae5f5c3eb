/*
 * A section of a checkpoint: a name, a version, and the functions of its owner
 * that save and load it. The engine thread calls both.
 */
#ifndef SINKD_STREAM_SECTION_H
#define SINKD_STREAM_SECTION_H

#include <stdint.h>

#include "base/bytes.h"

enum { SECTION_NAME = 40 }; /* bytes of a name with its NUL; a name has the characters a-z 0-9 _ - . / */

enum section_flags {
	/*
	 * A sinkd that does not know the section ignores it; an owner that finds no section begins without it. Any
	 * other section that is unknown or missing makes the start refuse the checkpoint.
	 */
	SECTION_OPTIONAL = 1,
};

struct section {
	const char *name;
	uint32_t version;  /* from 1; raise it when the bytes change their meaning */
	unsigned flags;    /* enum section_flags */
	/* Write the bytes. Returns 0, or -1 with *e set. */
	int (*save)(void *object, const struct bytes_out *to, struct err *e);
	/*
	 * Read all bytes of the section back. version: of the bytes, at most the one above. The checksum is right, but
	 * check what leads into memory. Returns 0, or -1 with *e set (EX_DATAERR; EX_CONFIG: saved with other options).
	 */
	int (*load)(void *object, uint32_t version, const struct bytes_in *from, struct err *e);
	void *object;
};

#endif
