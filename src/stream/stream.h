/*
 * One never-ending stream: model, tokenizer and context, and how the model
 * takes turns. The stream lies in a user's turn that its beginning opened, or
 * is text of its own where nothing did; a question closes the turn, on a fork.
 * Everything here and in reply.h and digest.h happens on the engine thread.
 */
#ifndef SINKD_STREAM_STREAM_H
#define SINKD_STREAM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "stream/memory.h"
#include "stream/sample.h"
#include "stream/section.h"
#include "stream/stops.h"

struct stream_options {
	const char *model;              /* path */
	const char *pin;                /* file whose text begins the stream and is kept for ever, or NULL */
	const char *system;             /* or: what the system turn says; it is kept for ever and opens a user's turn */
	struct context_options context; /* sinks: at least these; fork_tokens: room for a question and its answer */
};

/* A list of tokens; all zero: empty. */
struct tokens {
	int32_t *ids;
	size_t n, cap;
};
int tokens_add(struct tokens *t, const int32_t *ids, size_t n, struct err *e); /* -1: EX_OSERR */
void tokens_fini(struct tokens *t);

enum { STREAM_SECTIONS = 16 };

struct stream {
	struct model *model;
	struct tokenizer *tokenizer;
	struct context *context;
	struct sampler *sampler;
	struct chat_template template;
	bool opened;                    /* the stream lies in a user's turn */
	bool pinned;                    /* a text stands before all events */
	struct stops stops;
	int32_t n_vocab;
	int32_t room;                   /* tokens that a fork may have */
	int32_t block_room;             /* and the pinned block */
	int32_t sinks;
	float *logits;                  /* [n_vocab] */
	struct stages *stages;          /* what the stages of events remember */
	struct memory *memory;          /* theirs */
	struct words *ordinary;         /* see faithful.c; NULL: not needed yet */
	struct tokens start, block;     /* what the stream began with, and the pinned block */
	int32_t *recent;                /* [recent_room]: a ring of the stream's last tokens */
	int64_t recent_room, recent_n;  /* recent_n: ever put into it */
	struct section sections[STREAM_SECTIONS];
	int n_sections;
	uint64_t identity;              /* of the model's file, see identity.h; 0: not known yet */
};

/*
 * Load the model, make the context, feed BOS and what is pinned, in parts,
 * after each of which the context's `loading` is called too. Returns NULL with
 * *e set: EX_NOINPUT, EX_DATAERR, EX_USAGE (options that cannot work with
 * this model), EX_UNAVAILABLE, EX_OSERR, ERR_STOPPED (`loading` said stop), EX_TEMPFAIL.
 */
struct stream *stream_open(const struct stream_options *o, struct err *e);
void stream_close(struct stream *s);

/* Append the tokens of a text, flags: enum tokenizer_flags. Returns 0, or -1 with *e set. */
int stream_encode(struct stream *s, const char *text, size_t len, unsigned flags, struct tokens *to, struct err *e);

/*
 * Append a question to a list of tokens: in the user's turn that is open or
 * that it opens, up to where the model's turn begins.
 */
int stream_encode_question(struct stream *s, const char *question, size_t len, struct tokens *to, struct err *e);

/* context_feed of what becomes part of the stream: nothing that lies on a fork. */
int stream_feed(struct stream *s, const int32_t *ids, size_t n, float *nll, struct err *e);

/* The same for what the context has read already, on a fork that it kept. */
void stream_note(struct stream *s, const int32_t *ids, size_t n);

/*
 * Pin as much of a text as there is room for, cut at a line's end; see context_pin. len 0: nothing is
 * pinned any more. Nothing happens before the stream has its sinks.
 */
int stream_pin(struct stream *s, const char *text, size_t len, struct err *e);

/*
 * Add a section to the stream's checkpoints, before the first is written or read. They are saved and loaded in the
 * order in which they were added: context, tokens, and those of the stages. The section is copied; name and object are
 * borrowed until stream_close.
 */
void stream_add_section(struct stream *s, const struct section *section);

/* How many of the stream's last tokens a question sees. */
int64_t stream_get_view(const struct stream *s);

/*
 * Did a function of the stream or its context fail in a way that ends the stream? EX_TEMPFAIL (the device failed)
 * always does.
 */
bool stream_is_broken(const struct stream *s, const struct err *e);

#endif
