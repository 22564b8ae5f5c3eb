/* Which backend computes; see backend.h. */
#include "engine/backend.h"

#include <string.h>

struct backend *
backend_open(const struct backend_choice *choice, const struct backend_limits *limits, struct err *e)
{
	const char *device = choice->device != NULL ? choice->device : "auto";

	if (strcmp(device, "auto") != 0 && strcmp(device, "cpu") != 0) {
		err_set(e, EX_USAGE, "there is no device '%.40s' here", device);
		return NULL;
	}
	return backend_open_cpu(choice->path, choice->threads, limits, e);
}
