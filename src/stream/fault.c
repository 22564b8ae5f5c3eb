/* What the code of an error means to clients and for the exit status; see fault.h. */
#include "stream/fault.h"

#include <stddef.h>
#include <string.h>

#include "stream/json_write.h"

static const char *const names[] = {"input", "request", "server"};

/* What is not here is the server's fault, and its own exit status: no memory, a file that cannot be written. */
static const struct meaning {
	int code;
	enum fault fault; /* of a request that fails with it */
	int status;
} meanings[] = {
	{EX_DATAERR, FAULT_REQUEST, EX_DATAERR},  /* a member that is wrong, or a text that the model cannot take */
	{EX_NOPERM, FAULT_REQUEST, EX_NOPERM},    /* it is for others to ask for */
	{EX_TEMPFAIL, FAULT_SERVER, EX_TEMPFAIL}, /* the device or the machine failed */
	{ERR_BUSY, FAULT_SERVER, EX_TEMPFAIL},
	{ERR_IN_USE, FAULT_SERVER, EX_TEMPFAIL},
	{ERR_STOPPED, FAULT_SERVER, EX_TEMPFAIL},
};

static struct meaning
find_meaning(int code)
{
	for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
		if (meanings[i].code == code)
			return meanings[i];
	return (struct meaning){code, FAULT_SERVER, code};
}

enum fault
fault_of_request(const struct err *e)
{
	return find_meaning(e->code).fault;
}

int
fault_get_status(int code)
{
	return find_meaning(code).status;
}

void
fault_write(struct buf *out, enum fault f, const char *reason)
{
	json_write_string(out, "fault", names[f], strlen(names[f]));
	json_write_string(out, "reason", reason, strlen(reason));
}
