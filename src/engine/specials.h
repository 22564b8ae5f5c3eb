/*
 * The tokens whose text is looked for in a text before anything else: control,
 * unknown and user-defined ones. One sorted list, narrowed byte by byte.
 */
#ifndef SINKD_ENGINE_SPECIALS_H
#define SINKD_ENGINE_SPECIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/vocab.h"

enum specials_kind {
	SPECIALS_CONTROL = 1, /* control and unknown tokens */
	SPECIALS_USER = 2,    /* user-defined ones */
};

struct special {
	const char *text;
	size_t len;
	int32_t id;
	unsigned kind;        /* enum specials_kind */
};

struct specials {
	struct special *list; /* sorted by text */
	size_t n;
	unsigned kinds;       /* those that there are */
	size_t first[257];    /* [c]: the first in list whose text starts with a byte >= c */
	char *store;          /* texts that differ from the vocabulary's */
};

/*
 * Collect those of v, which must outlive s. escape: write spaces of
 * user-defined ones as U+2581. Returns 0, or -1 with *e set (EX_OSERR); s is
 * to be given to specials_fini in any case.
 */
int specials_init(struct specials *s, const struct vocab *v, bool escape, struct err *e);
void specials_fini(struct specials *s);

/*
 * Look for the next one of these kinds (enum specials_kind) from text[*at] on;
 * where several start, the longest counts. Returns its id, with *at its place
 * and *matched the length of its text; or -1 with *at = len.
 */
int32_t specials_next(const struct specials *s, const char *text, size_t len, unsigned kinds, size_t *at,
    size_t *matched);

#endif
