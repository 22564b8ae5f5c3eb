/*
 * A stage is what happens to every event beside the model's reading. To add one, write its file and add a line to
 * the table STAGES. Engine thread.
 */
#ifndef SINKD_STREAM_STAGE_H
#define SINKD_STREAM_STAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "stream/record.h"
#include "stream/section.h"

struct stream;

/* An event that the model has read. */
struct stage_event {
	struct record *record;
	struct tokenizer *tokenizer;
	const int32_t *ids;  /* [n] tokens of the record's text */
	const float *nll;    /* [n] negative log-likelihoods, nats; NAN where there is none */
	size_t n;
};

/* All may be NULL. The hooks before and after may neither fail nor wait. */
struct stage {
	/* Make what the stage remembers, of constant size, for the hooks below; NULL with *e set (EX_OSERR). */
	void *(*new)(struct err *e);
	void (*free)(void *state);

	/* The event is about to become tokens. The stage may change its type: the model reads a RECORD_EVENT only. */
	void (*before)(void *state, struct record *r);

	/* The model has read the event, which has text. The stage may add to the record's `members`. */
	void (*after)(void *state, const struct stage_event *event);

	/* What the stage remembers, as a section of checkpoints; stages_new sets object. No name: there is none. */
	struct section section;
};

/* The table: an event passes NAME_stage in this order, and checkpoints hold their sections in this order. */
#define STAGES(X) \
	X(skip) \
	X(score) \
	X(memory)
#define STAGE_DECLARE(name) extern const struct stage name##_stage;
STAGES(STAGE_DECLARE)

/* The stages of a stream and what they remember. */
struct stages;

/* Makes them, and adds their sections to the stream's. NULL with *e set (EX_OSERR). */
struct stages *stages_new(struct stream *s, struct err *e);
void stages_free(struct stages *all);

/* What a stage remembers; borrowed. */
void *stages_get(const struct stages *all, const struct stage *stage);

/* Call a hook of every stage that has it, in the order of the table. */
void stages_before(struct stages *all, struct record *r);
void stages_after(struct stages *all, const struct stage_event *event);

#endif
