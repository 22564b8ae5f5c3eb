/*
 * A mapped file may be cut short or become unreadable. Reading a page of it
 * then raises SIGBUS. A program that installed the guard names the file and
 * ends with EX_IOERR. Any other SIGBUS ends the process as without the guard.
 */
#ifndef SINKD_BASE_GUARD_H
#define SINKD_BASE_GUARD_H

#include <stddef.h>

/*
 * Name the mapped bytes [start, start + size) for as long as they are mapped.
 * Where there is no room in the table, or no memory, they stay without a name.
 */
void guard_add(const void *start, size_t size, const char *name);

/* Forget these bytes. To be called before they are unmapped. */
void guard_remove(const void *start);

/*
 * For programs: from now on SIGBUS in such bytes ends the process with a sentence on standard error, as log.h has it.
 */
void guard_install(void);

#endif
