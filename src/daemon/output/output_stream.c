/* A destination that cannot go back; see output_stream.h. Loop thread. */
#include "daemon/output/output_stream.h"

#include <stdlib.h>

#include "daemon/output/resume.h"

struct output_stream *
output_stream_new(struct output *output, struct err *e)
{
	struct output_stream *s = output == NULL ? NULL : calloc(1, sizeof *s);

	if (s != NULL)
		s->output = output;
	else if (output != NULL) {
		err_set(e, EX_OSERR, "out of memory for the output");
		output_free(output);
	}
	return s;
}

bool
output_stream_write(void *self, const char *lines, size_t len)
{
	struct buf *b = output_get_buf(((struct output_stream *)self)->output);

	buf_add(b, lines, len);
	return !b->failed;
}

void
output_stream_flush(void *self)
{
	output_flush(((struct output_stream *)self)->output);
}

bool
output_stream_is_full(const void *self)
{
	return output_is_full(((const struct output_stream *)self)->output);
}

bool
output_stream_is_drained(const void *self)
{
	return output_is_drained(((const struct output_stream *)self)->output);
}

void
output_stream_set_patience(void *self, int seconds)
{
	output_set_patience(((struct output_stream *)self)->output, seconds);
}

static void
output_stream_close(void *self)
{
	output_free(((struct output_stream *)self)->output);
	free(self);
}

/* The lines went to a file, and go on here. */
static int
output_stream_cut(void *self, const json_t *place, int64_t seq, struct err *e)
{
	const struct resume r = {.fd = -1, .seq = seq, .mark = place};

	(void)self;
	return resume_output(&r, e);
}

const struct destination_ops output_stream_ops = {
	.name = "output",
	.write = output_stream_write,
	.flush = output_stream_flush,
	.is_full = output_stream_is_full,
	.is_drained = output_stream_is_drained,
	.set_patience = output_stream_set_patience,
	.close = output_stream_close,
	.cut = output_stream_cut,
};
