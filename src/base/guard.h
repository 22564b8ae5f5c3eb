/*
 * Files that are mapped into memory may be cut short or become unreadable while
 * they are. Reading such a page raises SIGBUS; a program that installed the
 * guard then says which file it was and ends with EX_IOERR, instead of dying
 * without a word. Any other SIGBUS ends the process as ever.
 */
#ifndef SINKD_BASE_GUARD_H
#define SINKD_BASE_GUARD_H

#include <stddef.h>

/*
 * Name the mapped bytes [start, start + size) for as long as they are mapped.
 * Where there is no room in the table, or no memory, they stay without a name.
 */
void guard_add(const void *start, size_t size, const char *name);

/* Before they are unmapped. */
void guard_remove(const void *start);

/*
 * For programs: from now on SIGBUS in such bytes ends the process with a sentence on standard error, as log.h has it.
 */
void guard_install(void);

#endif
