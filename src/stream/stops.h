/* The tokens that end a reply, and how the model takes turns: both come from the model's file. */
#ifndef SINKD_STREAM_STOPS_H
#define SINKD_STREAM_STOPS_H

#include "engine/engine.h"

struct stops {
	int32_t ids[CHAT_TEMPLATE_STOPS + 1];
	int n;
};

/* Fill both, which the caller made zero. Returns 0, or -1 with *e set (by tokenizer_encode). */
int stops_learn(struct stops *s, struct chat_template *turns, const struct model *m, struct tokenizer *t,
    struct err *e);

bool stops_have(const struct stops *s, int32_t id);

#endif
