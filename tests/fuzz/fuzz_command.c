/*
 * Fuzz target: any bytes as a request on the control socket. It is read, or
 * refused with a sentence; what is read keeps its promises.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "daemon/control/command.h"
#include "daemon/control/watch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(struct command *c)
{
	struct request *q = c->request;
	struct watch w;
	struct err e = {0};

	if (c->op == COMMAND_ASK)
		assert(q != NULL && q->text_len > 0 && utf8_is_valid(q->text, q->text_len));
	if (q != NULL)
		assert(q->reply.max_tokens >= 0 && q->reply.time_limit >= 0 && (q->id == NULL) == (c->id == NULL));
	if (c->op != COMMAND_WATCH)
		return;
	assert(watch_init(&w, c->object, 1, &e) == 0 || e.code != 0);
	watch_fini(&w);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct line line = {.data = (const char *)data, .len = size, .number = 1};
	struct command c;
	struct err e = {0};

	if (command_read(&c, &line, &e) == 0)
		check(&c);
	else
		assert(e.code == EX_DATAERR && e.text[0] != '\0' && utf8_is_valid(e.text, strlen(e.text)));
	command_fini(&c);
	return 0;
}
