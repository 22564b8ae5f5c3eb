/*
 * How a model was taught to take turns: the texts that stand around what a
 * system prompt, a user and the assistant say. The template program that a
 * file carries is not run; it is recognised by what it contains.
 */
#ifndef SINKD_ENGINE_CHAT_TEMPLATE_H
#define SINKD_ENGINE_CHAT_TEMPLATE_H

#include <stdbool.h>

enum { CHAT_TEMPLATE_TEXT = 64, CHAT_TEMPLATE_STOPS = 3 };

/*
 * A conversation is: the system turn (if any), then user and assistant turns
 * by turns, each its prefix, what is said, its suffix. The reply to a user is
 * generated after the assistant's prefix. The texts name special tokens: encode
 * them with TOKENIZER_PARSE_SPECIAL. A BOS before all of it is not among them.
 */
struct chat_template {
	const char *name;       /* "chatml", "llama2", ..., "plain" */
	bool recognised;        /* false: the file has a template, but not one that is known, and plain is used */
	bool system_opens_user; /* the system turn is the start of the first user turn, which then has no prefix */
	char system_prefix[CHAT_TEMPLATE_TEXT], system_suffix[CHAT_TEMPLATE_TEXT];
	char user_prefix[CHAT_TEMPLATE_TEXT], user_suffix[CHAT_TEMPLATE_TEXT];
	char assistant_prefix[CHAT_TEMPLATE_TEXT], assistant_suffix[CHAT_TEMPLATE_TEXT];
	const char *stops[CHAT_TEMPLATE_STOPS + 1]; /* tokens that end a reply as EOS does; ends with NULL */
};

/*
 * Fill t from a file's template text, NULL or "" where it has none (plain, and
 * recognised), and the texts of its BOS and EOS tokens, "" where it has none.
 */
void chat_template_recognise(struct chat_template *t, const char *text, const char *bos, const char *eos);

#endif
