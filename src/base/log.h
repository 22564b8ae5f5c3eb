/*
 * Messages for people on standard error, one line each, begun with the
 * program's name. Only programs call this, from one thread at a time.
 */
#ifndef SINKD_BASE_LOG_H
#define SINKD_BASE_LOG_H

#include <stddef.h>
#include <syslog.h>

enum { LOG_LINE_MAX = 1100 }; /* bytes of a line, with its end */

/* The name that begins each line; it must stay valid. Default: no name. */
void log_set_name(const char *name);

/* Begin each line with its priority in angle brackets, as the journal wants it (sd-daemon(3)), and without a name. */
void log_use_priorities(void);

/* Give each line, which ends with a newline, to write instead of standard error. NULL: to standard error again. */
void log_set_writer(void (*write)(void *arg, const char *line, size_t len), void *arg);

/* One line. priority: LOG_ERR, LOG_WARNING, LOG_NOTICE or LOG_INFO. Control characters become '?'. */
void log_message(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same line to be written later, to be freed; NULL: no memory. From any thread. */
char *log_format(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
