/* Text that names nothing which the stream does not; see faithful.h. */
#include "stream/faithful.h"

#include <stdlib.h>
#include <string.h>

#include "stream/words.h"

enum { PARTS_MAX = 12 }; /* joints of a seen word that may be a part's ends */

struct faithful {
	const struct words *ordinary; /* the stream's */
	struct words *seen;           /* lower case */
};

static bool
is_ascii_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool
is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static char
lower(char c)
{
	return is_upper(c) ? (char)(c - 'A' + 'a') : c;
}

static bool
is_joint(char c)
{
	return c == '.' || c == ':' || c == '-' || c == '/' || c == '@';
}

bool
faithful_is_inside(char c)
{
	return is_ascii_digit(c) || is_upper(c) || is_lower(c) || c == '_' || (unsigned char)c >= 0x80 || is_joint(c);
}

/* A word without the joints at its ends. */
static void
trim_joints(const char **word, size_t *len)
{
	while (*len > 0 && is_joint((*word)[0])) {
		++*word;
		--*len;
	}
	while (*len > 0 && is_joint((*word)[*len - 1]))
		--*len;
}

/* ---- what may be said ----------------------------------------------- */

/* Every part of a seen word between two joints, or its ends, is seen: but a number is never cut. */
static void
add_word_parts(struct words *w, const char *word, size_t len)
{
	size_t starts[PARTS_MAX] = {0}, ends[PARTS_MAX];
	int n = 0;

	for (size_t i = 1; i + 1 < len && n < PARTS_MAX - 1; i++)
		if (is_joint(word[i]) && !(is_ascii_digit(word[i - 1]) && is_ascii_digit(word[i + 1]))) {
			ends[n++] = i;
			starts[n] = i + 1;
		}
	ends[n] = len;
	for (int i = 0; i <= n; i++)
		for (int j = i; j <= n; j++)
			if (ends[j] > starts[i])
				words_add(w, word + starts[i], ends[j] - starts[i]);
}

/* The words of a text, which comes in pieces. */
struct splitter {
	struct words *words;
	char run[FAITHFUL_RUN];
	size_t len;
};

static void
end_joined(struct splitter *s)
{
	const char *word = s->run;
	size_t len = s->len;

	trim_joints(&word, &len);
	if (len > 0 && s->len < sizeof s->run) /* a longer one could not be said */
		add_word_parts(s->words, word, len);
	s->len = 0;
}

static void
split_words(struct splitter *s, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!faithful_is_inside(text[i]))
			end_joined(s);
		else if (s->len < sizeof s->run)
			s->run[s->len++] = lower(text[i]);
	}
}

static void
split_tokens(struct splitter *s, struct stream *stream, const int32_t *ids, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t len;
		const char *bytes = tokenizer_decode(stream->tokenizer, ids[i], false, false, &len);

		split_words(s, bytes, len);
	}
}

/* The vocabulary's tokens that are whole words in lower case, with a space before them or without. */
static struct words *
list_ordinary(struct stream *s)
{
	struct words *w = words_new();

	for (int32_t id = 0; w != NULL && id < s->n_vocab; id++) {
		size_t len, n = 0;
		const char *bytes = tokenizer_decode(s->tokenizer, id, false, false, &len);

		if (len > 0 && bytes[0] == ' ') {
			bytes++;
			len--;
		}
		while (n < len && is_lower(bytes[n]))
			n++;
		if (n > 0 && n == len)
			words_add(w, bytes, len);
	}
	if (w != NULL && !words_sort(w)) {
		words_free(w);
		w = NULL;
	}
	return w;
}

struct faithful *
faithful_new(struct stream *s, const char *question, size_t len, struct err *e)
{
	struct faithful *f = calloc(1, sizeof *f);
	struct splitter splitter = {.words = words_new()};
	int64_t first = s->recent_n > s->recent_room ? s->recent_n - s->recent_room : 0;

	if (s->ordinary == NULL)
		s->ordinary = list_ordinary(s);
	if (f == NULL || splitter.words == NULL || s->ordinary == NULL)
		goto fail;
	f->ordinary = s->ordinary;
	f->seen = splitter.words;
	split_tokens(&splitter, s, s->start.ids, s->start.n);
	end_joined(&splitter);
	split_tokens(&splitter, s, s->block.ids, s->block.n);
	end_joined(&splitter);
	for (int64_t i = first; i < s->recent_n; i++)
		split_tokens(&splitter, s, &s->recent[i % s->recent_room], 1);
	end_joined(&splitter);
	split_words(&splitter, question, len);
	end_joined(&splitter);
	if (words_sort(f->seen))
		return f;
fail:
	err_set(e, EX_OSERR, "out of memory for the words of the stream");
	if (f == NULL || f->seen == NULL)
		words_free(splitter.words);
	faithful_free(f);
	return NULL;
}

void
faithful_free(struct faithful *f)
{
	if (f == NULL)
		return;
	words_free(f->seen);
	free(f);
}

/* ---- which words are allowed ---------------------------------------- */

/* Is it an ordinary word, or with `prefix` the beginning of one? first: it may begin with a capital. */
static bool
is_ordinary(const struct faithful *f, const char *word, size_t len, bool first, bool prefix)
{
	char small[FAITHFUL_RUN];

	for (size_t i = 0; i < len; i++) {
		if (!is_lower(word[i]) && !(i == 0 && first && is_upper(word[i])))
			return false;
		small[i] = lower(word[i]);
	}
	return prefix ? words_have_prefix(f->ordinary, small, len) : words_have(f->ordinary, small, len);
}

static bool
is_seen(const struct faithful *f, const char *word, size_t len, bool prefix)
{
	char small[FAITHFUL_RUN];

	for (size_t i = 0; i < len; i++)
		small[i] = lower(word[i]);
	return prefix ? words_have_prefix(f->seen, small, len) : words_have(f->seen, small, len);
}

/* Seen as it is, or ordinary words with joints between: "well-known". */
static bool
may_say(const struct faithful *f, const char *word, size_t len, bool first, bool prefix)
{
	size_t start = 0;

	if (len == 0 || is_seen(f, word, len, prefix))
		return true;
	for (size_t i = 0; i < len; i++)
		if (is_joint(word[i])) {
			if (i > start && !is_ordinary(f, word + start, i - start, first && start == 0, false))
				return false;
			start = i + 1;
		}
	return start == len || is_ordinary(f, word + start, len - start, first && start == 0, prefix);
}

void
faithful_begin(struct faithful_state *s)
{
	memset(s, 0, sizeof *s);
	s->first = true;
}

bool
faithful_may_end(const struct faithful *f, const struct faithful_state *s)
{
	const char *word = s->run;
	size_t len = (size_t)s->len;

	trim_joints(&word, &len);
	return may_say(f, word, len, s->first, false);
}

bool
faithful_may_go_on(const struct faithful *f, const struct faithful_state *s)
{
	const char *word = s->run;
	size_t len = (size_t)s->len;

	if (faithful_may_end(f, s)) /* as it is, with joints that may be a sentence's end behind it */
		return true;
	while (len > 0 && is_joint(word[0])) {
		word++;
		len--;
	}
	return may_say(f, word, len, s->first, true);
}

bool
faithful_feed(const struct faithful *f, struct faithful_state *s, char byte)
{
	bool ok = true;

	if (faithful_is_inside(byte)) {
		if (s->len == FAITHFUL_RUN)
			return false;
		s->run[s->len++] = byte;
		return true;
	}
	if (s->len > 0) {
		ok = faithful_may_end(f, s);
		s->first = s->run[s->len - 1] == '.' || s->run[s->len - 1] == ':';
		s->len = 0;
	}
	if (byte != ' ')
		s->first = byte == '\n' || byte == '!' || byte == '?' || byte == '"' || byte == '*';
	return ok;
}
