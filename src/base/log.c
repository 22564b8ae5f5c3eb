/* Messages for people on standard error; see log.h. */
#include "base/log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

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

void
log_message(int priority, const char *fmt, ...)
{
	char text[1024], line[LOG_LINE_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	if (priorities)
		n = snprintf(line, sizeof line, "<%d>%s\n", priority, text);
	else
		n = snprintf(line, sizeof line, "%s%s%s%s\n", name == NULL ? "" : name, name == NULL ? "" : ": ",
		    priority == LOG_WARNING ? "warning: " : "", text);
	assert(n > 0 && (size_t)n < sizeof line);
	if (writer != NULL)
		writer(writer_arg, line, (size_t)n);
	else
		fwrite(line, 1, (size_t)n, stderr);
}
