/*
 * Errors that travel by value: a code and one sentence for the user.
 * Every layer uses them; only the program prints them and exits.
 */
#ifndef SINKD_BASE_ERR_H
#define SINKD_BASE_ERR_H

#include <sysexits.h>

/*
 * Codes beside those of <sysexits.h>: users are shown EX_TEMPFAIL for each, but the program has to tell them apart. Its
 * own EX_TEMPFAIL means that the device or the machine failed. stream/fault.c has the table.
 */
enum {
	ERR_BUSY = 128, /* a queue of requests is full */
	ERR_IN_USE,     /* another process has the state */
	ERR_STOPPED,    /* a signal asked for the end while the program was starting */
};

struct err {
	int code;       /* a value of <sysexits.h> or one of the above, 0 while nothing is wrong */
	char text[512]; /* one sentence that names the object; valid UTF-8 without control characters */
};

/*
 * Fill e (which may be NULL) with a code and a formatted
 * sentence. Control characters and bytes that are not UTF-8 become '?', so that
 * names from files can be quoted safely; a sentence that is too long is cut.
 * Returns -1, so that a function can `return err_set(...)`. It is a macro, so
 * that compilers and analysers see that -1 too.
 */
#define err_set(...) (err_fill(__VA_ARGS__), err_minus_one())

void err_fill(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static inline int
err_minus_one(void)
{
	return -1;
}

#endif
