/* Whose fault an error is; see fault.h. */
#include "stream/fault.h"

#include <stddef.h>
#include <string.h>

#include "stream/json_write.h"

static const char *const names[] = {"input", "request", "server"};

/* Of a request. What is not here is the server's: no memory, a full queue, a device that failed. */
static const int codes_of_requests[] = {
	EX_DATAERR, /* a member that is wrong, or a text that the model cannot take */
	EX_NOPERM,  /* it is for others to ask for */
};

enum fault
fault_of_request(const struct err *e)
{
	for (size_t i = 0; i < sizeof codes_of_requests / sizeof *codes_of_requests; i++)
		if (e->code == codes_of_requests[i])
			return FAULT_REQUEST;
	return FAULT_SERVER;
}

void
fault_write(struct buf *out, enum fault f, const char *reason)
{
	json_write_string(out, "fault", names[f], strlen(names[f]));
	json_write_string(out, "reason", reason, strlen(reason));
}
