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

struct special {
	const char *text;
	size_t len;
	int32_t id;
	bool user_defined;
};

struct specials {
	struct special *list; /* sorted by text */
	size_t n;
	size_t n_user_defined;
	size_t first[257];    /* [c]: the first in list whose text starts with a byte >= c */
	char *store;          /* texts that differ from the vocabulary's */
};

/*
 * Collect those of v, which must outlive s. spaces: in the texts of
 * user-defined tokens U+2581 means a space. Returns 0, or -1 with *e set
 * (EX_OSERR); s is to be given to specials_fini in any case.
 */
int specials_init(struct specials *s, const struct vocab *v, bool spaces, struct err *e);
void specials_fini(struct specials *s);

/*
 * The longest one at the start of the len bytes at text, or -1; *matched
 * receives its length. all: not only user-defined ones.
 */
int32_t specials_match(const struct specials *s, const char *text, size_t len, bool all, size_t *matched);

#endif
