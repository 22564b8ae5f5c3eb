/* Messages for people on standard error; see log.h. */
#include "base/log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char *name;
static bool priorities;
static void (*writer)(void *arg, const char *line, size_t len);
static void *writer_arg;

void
log_set_name(const char *n)
{
	name = n;
}

void
log_use_priorities(void)
{
	priorities = true;
}

void
log_set_writer(void (*write)(void *arg, const char *line, size_t len), void *arg)
{
	writer = write;
	writer_arg = arg;
}

/* Returns the length of the line. */
static size_t __attribute__((format(printf, 3, 0)))
format_line(char line[LOG_LINE_MAX], int priority, const char *fmt, va_list ap)
{
	char text[1024];
	int n;

	vsnprintf(text, sizeof text, fmt, ap);
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	if (priorities)
		n = snprintf(line, LOG_LINE_MAX, "<%d>%s\n", priority, text);
	else
		n = snprintf(line, LOG_LINE_MAX, "%s%s%s%s\n", name == NULL ? "" : name, name == NULL ? "" : ": ",
		    priority == LOG_WARNING ? "warning: " : "", text);
	assert(n > 0 && n < LOG_LINE_MAX);
	return (size_t)n;
}

void
log_message(int priority, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = format_line(line, priority, fmt, ap);
	va_end(ap);
	if (writer != NULL)
		writer(writer_arg, line, n);
	else
		fwrite(line, 1, n, stderr);
}

char *
log_format(int priority, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	va_list ap;

	va_start(ap, fmt);
	format_line(line, priority, fmt, ap);
	va_end(ap);
	return strdup(line);
}
