/* Messages for people, by way of the loop; see messages.h. Loop thread. */
#include "daemon/output/messages.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

enum { DRAIN_TRIES = 20, DRAIN_WAIT = 50000 }; /* 1 s */

struct messages {
	struct output *output;
	long lost;   /* and not told yet */
	bool failed; /* nothing can be written any more, and nobody told of it */
};

static void
messages_tell_lost(struct messages *m)
{
	long n = m->lost;

	m->lost = 0;
	if (n > 0)
		log_message(LOG_WARNING, "%ld messages were lost here: too many waited for standard error", n);
}

static void
messages_on_line(void *arg, const char *line, size_t len)
{
	struct messages *m = arg;

	if (m->failed)
		return;
	if (output_is_full(m->output)) {
		m->lost++;
		return;
	}
	messages_tell_lost(m);
	buf_add(output_get_buf(m->output), line, len);
	m->lost += output_get_buf(m->output)->failed;
	output_flush(m->output);
}

static void
messages_on_drained(void *arg)
{
	messages_tell_lost(arg);
}

static void
on_failed(void *arg, const struct err *e)
{
	struct messages *m = arg;

	(void)e;
	m->failed = true;
}

struct messages *
messages_new(struct event_base *base, struct err *e)
{
	static const struct output_callbacks callbacks = { messages_on_drained, on_failed };
	struct messages *m = calloc(1, sizeof *m);

	if (m == NULL) {
		err_set(e, EX_OSERR, "out of memory for messages");
		return NULL;
	}
	m->output = output_new_standard(base, STDERR_FILENO, &callbacks, m, e);
	/* All that can wait has its memory now: that there is none left must be possible to say. */
	if (m->output != NULL && buf_reserve(output_get_buf(m->output), OUTPUT_FULL + LOG_LINE_MAX) == NULL) {
		err_set(e, EX_OSERR, "out of memory for messages");
		output_free(m->output);
		m->output = NULL;
	}
	if (m->output == NULL) {
		free(m);
		return NULL;
	}
	log_set_writer(messages_on_line, m);
	return m;
}

void
messages_free(struct messages *m)
{
	if (m == NULL)
		return;
	for (int i = 0; i < DRAIN_TRIES && !m->failed && !output_is_drained(m->output); i++) {
		usleep(DRAIN_WAIT);
		output_flush(m->output);
	}
	log_set_writer(NULL, NULL);
	output_free(m->output);
	free(m);
}

struct output *
messages_get_output(struct messages *m)
{
	return m->output;
}
