/*
 * Answers. A question is put on a fork of the stream: it closes the user's
 * turn, the model's turn is generated, and the fork is dropped, so that the
 * stream is bit-identical to one that was never asked. The stream may go on
 * meanwhile: the answer does not see that. Only with `join` question and answer
 * become part of the stream, when the answer is done. Engine thread.
 */
#ifndef SINKD_STREAM_REPLY_H
#define SINKD_STREAM_REPLY_H

#include "base/buf.h"
#include "stream/schema.h"
#include "stream/stream.h"

enum { REPLY_TOKENS = 256 }; /* where max_tokens is 0 */

struct reply_options {
	int32_t max_tokens;            /* 0: REPLY_TOKENS; fewer where the fork has no room for as many */
	int32_t time_limit;            /* of generating, ms; 0: none */
	struct sample_options sample;
	struct schema *schema;         /* NULL, or what the answer must be: JSON; an answer cut off is completed */
	bool faithful;                 /* names and numbers only from what the model sees, see faithful.h */
	bool join;                     /* chat mode: question and answer join the stream */
	bool stream;                   /* pieces of the answer are wanted as they come */
};

/* Why an answer ended; the names are those of reply_end_names. */
enum reply_end { REPLY_STOP, REPLY_LENGTH, REPLY_TIME, REPLY_CANCELLED };
extern const char *const reply_end_names[];

struct reply_hooks {
	void *arg;
	/* The next characters of the answer, valid UTF-8. NULL: they are not wanted. */
	void (*piece)(void *arg, const char *text, size_t len);
	/* Asked before every token: is nobody listening any more? */
	bool (*is_cancelled)(void *arg);
	/* A step of so many tokens was made, of the question or of the answer. */
	void (*progress)(void *arg, size_t tokens);
	/* Asked after every step: shall reply_go_on return? NULL: never. */
	bool (*must_pause)(void *arg);
};

struct reply {
	struct buf text;         /* valid UTF-8; to be released with buf_fini */
	enum reply_end end;
	int32_t asked, tokens;   /* tokens of the question with its frame, and of the answer */
	struct memory_view view; /* events that the question was about; of a question that joins the stream: none */
	double first, seconds;   /* from the beginning to the first token, and to the end */
};

struct answer;

/*
 * Begin to answer question[len] (valid UTF-8) on a fork. Borrows the schema of o
 * and what hooks->arg points to. Returns NULL with *e set: EX_DATAERR (the
 * question is too long, or nothing has been read that it could be about: the
 * asker's fault), EX_OSERR.
 */
struct answer *reply_begin(struct stream *s, const char *question, size_t len, const struct reply_options *o,
    const struct reply_hooks *hooks, struct err *e);

/*
 * Go on until the answer is done, or the hook must_pause says that others wait.
 * Returns 1 when it is done, 0 when it is not, or -1 with *e set (EX_OSERR,
 * EX_TEMPFAIL: the device failed).
 */
int reply_go_on(struct answer *a, struct err *e);

/*
 * Make room for the stream: reply_go_on goes back to the fork by itself. To be
 * called before anything else is done with the stream while an answer is not
 * ended; costs nothing where that was done already. Returns 0, or -1 with *e set.
 */
int reply_make_way(struct answer *a, struct err *e);

/*
 * The end of an answer that is done, into *r; with `join` it becomes part of the
 * stream here. Returns 0, or -1 with *e set; reply_free in every case, which
 * also gives up an answer that is not done.
 */
int reply_end(struct answer *a, struct reply *r, struct err *e);
void reply_free(struct answer *a);

/* All of these at once, without a pause. r->text is to be released in every case. */
int reply_make(struct stream *s, const char *question, size_t len, const struct reply_options *o,
    const struct reply_hooks *hooks, struct reply *r, struct err *e);

#endif
