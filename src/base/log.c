/* Messages for people on standard error; see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static const char *name;
static bool priorities;

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
log_message(int priority, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	if (priorities) {
		fprintf(stderr, "<%d>%s\n", priority, text);
		return;
	}
	fprintf(stderr, "%s%s%s%s\n", name == NULL ? "" : name, name == NULL ? "" : ": ",
	    priority <= LOG_ERR ? "" : priority == LOG_WARNING ? "warning: " : "", text);
}
