/*
 * Chat templates as data: what identifies each in the text of a file's
 * template, and what it writes around a turn. The first row that fits counts.
 */
#include "engine/engine.h"

#include <string.h>

/* These stand for the texts of the file's own tokens. */
#define BOS "\1"
#define EOS "\2"

enum { MAX_NEEDLES = 3 };

struct row {
	const char *name;
	const char *has[MAX_NEEDLES + 1]; /* all of these; see contains() */
	const char *lacks;                /* and not this, if not NULL */
	bool system_opens_user;
	const char *system[2], *user[2], *assistant[2]; /* prefix, suffix */
	const char *stops[CHAT_TEMPLATE_STOPS + 1];
};

static const struct row plain = {
	"plain", { NULL }, NULL, false, { "", "\n\n" }, { "", "\n" }, { "", "\n" }, { NULL },
};

static const struct row rows[] = {
	{ "phi4", { "<|im_start|>", "<|im_sep|>" }, NULL, false,
	    { "<|im_start|>system<|im_sep|>", "<|im_end|>" }, { "<|im_start|>user<|im_sep|>", "<|im_end|>" },
	    { "<|im_start|>assistant<|im_sep|>", "<|im_end|>" }, { "<|im_end|>" } },
	{ "chatml", { "<|im_start|>", "<|im_end|>" }, "<end_of_utterance>", false,
	    { "<|im_start|>system\n", "<|im_end|>\n" }, { "<|im_start|>user\n", "<|im_end|>\n" },
	    { "<|im_start|>assistant\n", "<|im_end|>\n" }, { "<|im_end|>", "<|endoftext|>" } },
	{ "llama3", { "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>" }, NULL, false,
	    { "<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>" },
	    { "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>" },
	    { "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>" },
	    { "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>" } },
	{ "mistral-v7", { "[SYSTEM_PROMPT] ", "[INST] " }, NULL, false,
	    { "[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]" }, { "[INST] ", "[/INST]" }, { "", EOS }, { NULL } },
	{ "mistral-v7-tekken", { "[SYSTEM_PROMPT]", "[INST]" }, NULL, false,
	    { "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]" }, { "[INST]", "[/INST]" }, { "", EOS }, { NULL } },
	{ "llama2", { "bos_token + '[INST] ", "<<SYS>>" }, NULL, true,
	    { "[INST] <<SYS>>\n", "\n<</SYS>>\n\n" }, { "[INST] ", " [/INST]" }, { "", " " EOS BOS }, { NULL } },
	{ "llama2", { "[INST] ", "<<SYS>>" }, NULL, true,
	    { "[INST] <<SYS>>\n", "\n<</SYS>>\n\n" }, { "[INST] ", " [/INST]" }, { "", " " EOS }, { NULL } },
	{ "mistral-v1", { "' [INST] '", "[/INST]" }, NULL, true,
	    { " [INST] ", "\n\n" }, { " [INST] ", " [/INST]" }, { "", EOS }, { NULL } },
	{ "mistral", { "'[INST] '", "' [/INST]'" }, NULL, true,
	    { "[INST] ", "\n\n" }, { "[INST] ", " [/INST]" }, { "", EOS }, { NULL } },
	{ "mistral-v3", { "'[INST] '", "'[/INST]'" }, NULL, true,
	    { "[INST] ", "\n\n" }, { "[INST] ", "[/INST]" }, { "", EOS }, { NULL } },
	{ "mistral-v3-tekken", { "'[INST]'", "'[/INST]'" }, NULL, true,
	    { "[INST]", "\n\n" }, { "[INST]", "[/INST]" }, { "", EOS }, { NULL } },
	{ "gemma", { "<start_of_turn>", "<end_of_turn>" }, NULL, true,
	    { "<start_of_turn>user\n", "\n\n" }, { "<start_of_turn>user\n", "<end_of_turn>\n" },
	    { "<start_of_turn>model\n", "<end_of_turn>\n" }, { "<end_of_turn>" } },
	{ "phi4-mini", { "<|assistant|>", "<|end|>", "<|tool|>" }, NULL, false,
	    { "<|system|>", "<|end|>" }, { "<|user|>", "<|end|>" }, { "<|assistant|>", "<|end|>" }, { "<|end|>" } },
	{ "phi3", { "<|assistant|>", "<|end|>" }, "[gMASK]", false,
	    { "<|system|>\n", "<|end|>\n" }, { "<|user|>\n", "<|end|>\n" }, { "<|assistant|>\n", "<|end|>\n" },
	    { "<|end|>", "<|endoftext|>" } },
	{ "zephyr", { "'<|user|>\n' + message['content'] + eos_token", "<|assistant|>" }, NULL, false,
	    { "<|system|>\n", EOS "\n" }, { "<|user|>\n", EOS "\n" }, { "<|assistant|>\n", EOS "\n" }, { NULL } },
};

/* The length of needle at the start of text, or 0. Both quotes are the same, and so are a newline and \n. */
static size_t
chat_template_match(const char *text, const char *needle)
{
	const char *s = text;

	for (; *needle != '\0'; needle++) {
		bool newline = s[0] == '\\' && s[1] == 'n';
		char c = newline ? '\n' : *s == '"' ? '\'' : *s;

		if (c != *needle)
			return 0;
		s += newline ? 2 : 1;
	}
	return (size_t)(s - text);
}

static bool
contains(const char *text, const char *needle)
{
	for (; *text != '\0'; text++)
		if (chat_template_match(text, needle) > 0)
			return true;
	return false;
}

static bool
chat_template_fits(const struct row *row, const char *text)
{
	for (int i = 0; row->has[i] != NULL; i++)
		if (!contains(text, row->has[i]))
			return false;
	return row->lacks == NULL || !contains(text, row->lacks);
}

/* Copy text with the file's own tokens in place. Returns false if there is no room for them. */
static bool
chat_template_expand(char to[CHAT_TEMPLATE_TEXT], const char *text, const char *bos, const char *eos)
{
	size_t n = 0;

	for (; *text != '\0'; text++) {
		const char *piece = *text == *BOS ? bos : *text == *EOS ? eos : text;
		size_t len = piece == text ? 1 : strlen(piece);

		if (n + len >= CHAT_TEMPLATE_TEXT)
			return false;
		memcpy(to + n, piece, len);
		n += len;
	}
	to[n] = '\0';
	return true;
}

static bool
fill(struct chat_template *t, const struct row *row, const char *bos, const char *eos)
{
	t->name = row->name;
	t->recognised = true;
	t->system_opens_user = row->system_opens_user;
	memcpy(t->stops, row->stops, sizeof t->stops);
	return chat_template_expand(t->system_prefix, row->system[0], bos, eos) &&
	    chat_template_expand(t->system_suffix, row->system[1], bos, eos) &&
	    chat_template_expand(t->user_prefix, row->user[0], bos, eos) &&
	    chat_template_expand(t->user_suffix, row->user[1], bos, eos) &&
	    chat_template_expand(t->assistant_prefix, row->assistant[0], bos, eos) &&
	    chat_template_expand(t->assistant_suffix, row->assistant[1], bos, eos);
}

void
chat_template_recognise(struct chat_template *t, const char *text, const char *bos, const char *eos)
{
	if (text != NULL)
		for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
			if (chat_template_fits(&rows[i], text) && fill(t, &rows[i], bos, eos))
				return;
	fill(t, &plain, bos, eos);
	t->recognised = text == NULL || *text == '\0';
}
