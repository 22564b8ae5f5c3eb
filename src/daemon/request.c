/* Requests; see request.h. */
#include "daemon/request.h"

#include <stdlib.h>

struct request *
request_new(enum request_op op)
{
	struct request *q = calloc(1, sizeof *q);

	if (q != NULL)
		q->op = op;
	return q;
}

void
request_free(struct request *q)
{
	if (q == NULL)
		return;
	free(q->id);
	free(q->text);
	free(q->blob);
	schema_free(q->reply.schema);
	schema_free(q->digest.reply.schema);
	free(q);
}
