/*
 * Tokenizers over vocabularies made for a test: what is refused, how texts are
 * split, special tokens, and texts that are not UTF-8.
 */
#include "engine/tokenizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/presplit.h"
#include "engine/vocab.h"
#include "gguf_build.h"

#define KEY "tokenizer.ggml."

struct token {
	const char *text;
	int type;
	float score;
};

/* A vocabulary, with what a test changes about it. */
struct words {
	const char *model;             /* NULL: none named */
	const char *pre;               /* NULL: none named */
	const struct token *tokens;
	size_t n_tokens, n_types, n_scores;
	const char *const *merges;     /* NULL: no list */
	size_t n_merges;
	int space_prefix;              /* -1: not said */
	int64_t unknown;               /* -1: not said */
};

struct fixture {
	struct build build;
	void *copy;
	struct gguf *gguf;
	struct tokenizer *tokenizer;
};

static void
put_tokens(struct build *b, const struct words *w)
{
	put_array(b, KEY "tokens", GGUF_STRING, w->n_tokens);
	for (size_t i = 0; i < w->n_tokens; i++)
		put_string(b, w->tokens[i].text);
	put_array(b, KEY "token_type", GGUF_I32, w->n_types);
	for (size_t i = 0; i < w->n_types; i++)
		put_u32(b, (uint32_t)w->tokens[i].type);
	put_array(b, KEY "scores", GGUF_F32, w->n_scores);
	for (size_t i = 0; i < w->n_scores; i++)
		put_f32(b, w->tokens[i].score);
}

static void
put_words(struct build *b, const struct words *w)
{
	uint64_t n = 3;

	put_header(b, 0, 0);
	put_tokens(b, w);
	if (w->model != NULL) {
		put_string_key(b, KEY "model", w->model);
		n++;
	}
	if (w->pre != NULL) {
		put_string_key(b, KEY "pre", w->pre);
		n++;
	}
	if (w->merges != NULL) {
		put_array(b, KEY "merges", GGUF_STRING, w->n_merges);
		for (size_t i = 0; i < w->n_merges; i++)
			put_string(b, w->merges[i]);
		n++;
	}
	if (w->space_prefix != -1) {
		put_key(b, KEY "add_space_prefix", GGUF_BOOL);
		put_u8(b, (uint8_t)w->space_prefix);
		n++;
	}
	if (w->unknown != -1) {
		put_key(b, KEY "unknown_token_id", GGUF_U32);
		put_u32(b, (uint32_t)w->unknown);
		n++;
	}
	memcpy(b->bytes + 16, &n, sizeof n);
}

/* The tokenizer stays NULL where it is refused. */
static void
open_words(struct fixture *f, const struct words *w, struct err *e)
{
	put_words(&f->build, w);
	f->gguf = open_build(&f->build, f->build.n, &f->copy, e);
	if (f->gguf == NULL)
		fail_msg("%s", e->text);
	f->tokenizer = tokenizer_new_gguf(f->gguf, e);
}

static void
close_words(struct fixture *f)
{
	tokenizer_free(f->tokenizer);
	gguf_close(f->gguf);
	free(f->copy);
}

static const struct token bpe_tokens[] = {
	{ "a", 1, 0 }, { "b", 1, 0 }, { "\xc4\xa0", 1, 0 }, { "\xc3\x83", 1, 0 }, { "\xc2\xa9", 1, 0 }, { "ab", 1, 0 },
	{ "\xc4\xa0" "ab", 1, 0 }, { "\xc3\x83\xc2\xa9", 1, 0 }, { "<|end|>", 3, 0 }, { "<|user|>", 4, 0 },
	{ "<|user|><|user|>", 4, 0 }, { "<", 1, 0 }, { "|", 1, 0 }, { "1", 1, 0 }, { "", 1, 0 }, { "<unk>", 2, 0 },
	{ "\xc3\xbf", 1, 0 }, { "bb", 1, 0 }, { "abb", 1, 0 },
};
enum { A, B, SPACE, C3, A9, AB, SPACE_AB, E_ACUTE, END, USER, USER2, LESS, BAR, ONE, EMPTY, UNK, FF, BB, ABB };
static const char *const bpe_merges[] = {
	"a b", "\xc4\xa0 ab", "\xc3\x83 \xc2\xa9", "b b", "a bb",
};
#define COUNT(a) (sizeof (a) / sizeof (a)[0])
static const struct words bpe = {
	"gpt2", "gpt-2", bpe_tokens, COUNT(bpe_tokens), COUNT(bpe_tokens), COUNT(bpe_tokens), bpe_merges,
	COUNT(bpe_merges), -1, -1,
};

static const struct token spm_tokens[] = {
	{ "<unk>", 2, 0 }, { "<s>", 3, 0 }, { "<0x0A>", 6, 0 }, { "<0xC3>", 6, 0 }, { "<0xa9>", 6, 0 },
	{ "\xe2\x96\x81", 1, -9 }, { "a", 1, -8 }, { "b", 1, -7 }, { "\xe2\x96\x81" "a", 1, -2 }, { "ab", 1, -1 },
	{ "<|user|>", 4, 0 }, { "\xe2\x96\x81\xe2\x96\x81", 4, 0 }, { "bb", 1, 0 }, { "aa", 1, -0.0f },
};
enum { S_UNK, S_BOS, S_NL, S_C3, S_A9, S_SPACE, S_A, S_B, S_SPACE_A, S_AB, S_USER, S_SPACES, S_BB, S_AA };
static const struct words spm = {
	"llama", NULL, spm_tokens, COUNT(spm_tokens), COUNT(spm_tokens), COUNT(spm_tokens), NULL, 0, -1, -1,
};

static void
expect_ids(struct tokenizer *t, const char *text, unsigned flags, const int32_t *want, size_t n)
{
	struct err e = { 0 };
	const int32_t *ids;
	int64_t got = tokenizer_encode(t, text, strlen(text), flags, &ids, &e);

	if (got != (int64_t)n)
		fail_msg("'%s': %lld tokens", text, (long long)got);
	for (size_t i = 0; i < n; i++)
		if (ids[i] != want[i])
			fail_msg("'%s': token %zu is %d instead of %d", text, i, ids[i], want[i]);
}

#define EXPECT(t, text, flags, ...) \
	expect_ids((t), (text), (flags), (const int32_t[]){ __VA_ARGS__ }, COUNT(((const int32_t[]){ __VA_ARGS__ })))

static void
expect_bytes(struct tokenizer *t, int32_t id, bool special, bool first, const char *want)
{
	size_t len;
	const char *got = tokenizer_decode(t, id, special, first, &len);

	assert_int_equal(len, strlen(want));
	assert_memory_equal(got, want, len);
}

static void
must_open(struct fixture *f, const struct words *w)
{
	struct err e = { 0 };

	open_words(f, w, &e);
	if (f->tokenizer == NULL)
		fail_msg("%s", e.text);
}

static void
pairs_are_joined_in_the_order_of_merges(void **state)
{
	struct fixture f;

	(void)state;
	must_open(&f, &bpe);
	EXPECT(f.tokenizer, "ab", 0, AB);
	EXPECT(f.tokenizer, " ab", 0, SPACE_AB);
	EXPECT(f.tokenizer, "abb", 0, AB, B);
	EXPECT(f.tokenizer, "bbab", 0, BB, AB);
	EXPECT(f.tokenizer, "bbb", 0, BB, B);
	EXPECT(f.tokenizer, "\xc3\xa9", 0, E_ACUTE);
	close_words(&f);
}

static void
whole_pieces_are_taken_where_the_name_says_so(void **state)
{
	struct words w = bpe;
	struct fixture f;

	(void)state;
	w.pre = "llama-bpe";
	must_open(&f, &w);
	EXPECT(f.tokenizer, "abb", 0, ABB);
	EXPECT(f.tokenizer, " abb", 0, SPACE_AB, B);
	close_words(&f);
}

static void
bytes_without_a_token_are_dropped(void **state)
{
	struct fixture f;
	const int32_t *ids;
	struct err e;

	(void)state;
	must_open(&f, &bpe);
	EXPECT(f.tokenizer, "axb", 0, AB); /* a merge reaches across */
	assert_int_equal(tokenizer_encode(f.tokenizer, "\0x", 2, 0, &ids, &e), 0);
	close_words(&f);
}

static void
bytes_that_are_not_utf8_are_encoded_one_by_one(void **state)
{
	struct fixture f;

	(void)state;
	must_open(&f, &bpe);
	EXPECT(f.tokenizer, "a\xff", 0, A, FF);
	EXPECT(f.tokenizer, "\xc3", 0, C3);
	EXPECT(f.tokenizer, "a\xc3" "b\xa9", 0, A, C3, B, A9);
	EXPECT(f.tokenizer, "\xff\xc3\xa9\xff", 0, FF, E_ACUTE, FF);
	close_words(&f);
}

static void
special_tokens_are_found_in_text(void **state)
{
	struct fixture f;

	(void)state;
	must_open(&f, &bpe);
	EXPECT(f.tokenizer, "a<|end|>", 0, A, LESS, BAR, BAR);
	EXPECT(f.tokenizer, "a<|end|>b", TOKENIZER_PARSE_SPECIAL, A, END, B);
	EXPECT(f.tokenizer, "<unk>", TOKENIZER_PARSE_SPECIAL, UNK);
	EXPECT(f.tokenizer, "a<|user|>b", 0, A, USER, B);
	EXPECT(f.tokenizer, "<|user|><|user|><|user|>", 0, USER2, USER);
	EXPECT(f.tokenizer, "<|user|", 0, LESS, BAR, BAR);
	EXPECT(f.tokenizer, "<|<|user|>", 0, LESS, BAR, USER);
	close_words(&f);
}

static void
tokens_decode_to_bytes(void **state)
{
	struct fixture f;

	(void)state;
	must_open(&f, &bpe);
	expect_bytes(f.tokenizer, SPACE_AB, false, true, " ab");
	expect_bytes(f.tokenizer, E_ACUTE, false, false, "\xc3\xa9");
	expect_bytes(f.tokenizer, FF, false, false, "\xff");
	expect_bytes(f.tokenizer, EMPTY, true, false, "");
	expect_bytes(f.tokenizer, END, false, false, "");
	expect_bytes(f.tokenizer, END, true, false, "<|end|>");
	expect_bytes(f.tokenizer, UNK, false, false, "");
	expect_bytes(f.tokenizer, USER, false, false, "<|user|>");
	close_words(&f);
}

static void
characters_are_joined_by_score(void **state)
{
	struct fixture f;

	(void)state;
	must_open(&f, &spm);
	EXPECT(f.tokenizer, "a", 0, S_SPACE_A);
	EXPECT(f.tokenizer, "ab", 0, S_SPACE, S_AB);
	EXPECT(f.tokenizer, "bbb", 0, S_SPACE, S_BB, S_B);
	EXPECT(f.tokenizer, "aabb", 0, S_SPACE, S_AA, S_BB); /* -0 is no less than 0: leftmost first */
	EXPECT(f.tokenizer, "b a", 0, S_SPACE, S_B, S_SPACE_A);
	close_words(&f);
}

static void
characters_without_a_token_become_bytes_or_unknown(void **state)
{
	struct token tokens[COUNT(spm_tokens)];
	struct words w = spm;
	struct fixture f;

	(void)state;
	w.space_prefix = 0;
	must_open(&f, &w);
	EXPECT(f.tokenizer, "\xc3\xa9\n", 0, S_C3, S_A9, S_NL);
	EXPECT(f.tokenizer, "xyz", 0, S_UNK);
	EXPECT(f.tokenizer, "xaxx\nx", 0, S_UNK, S_A, S_UNK, S_NL, S_UNK);
	EXPECT(f.tokenizer, "\xc3", 0, S_C3);
	EXPECT(f.tokenizer, "a\xa9", 0, S_A, S_A9);
	EXPECT(f.tokenizer, "x<|user|>x", 0, S_UNK, S_USER, S_UNK);
	close_words(&f);
	memcpy(tokens, spm_tokens, sizeof tokens);
	tokens[S_UNK].type = 3;
	w.tokens = tokens;
	must_open(&f, &w);
	EXPECT(f.tokenizer, "xax", 0, S_A);
	close_words(&f);
	w.unknown = S_UNK;
	must_open(&f, &w);
	EXPECT(f.tokenizer, "xax", 0, S_UNK, S_A, S_UNK);
	close_words(&f);
}

/* A vocabulary without U+2581 may still have the byte. */
static void
a_space_without_a_token_becomes_its_byte(void **state)
{
	static const struct token tokens[] = { { "<unk>", 2, 0 }, { "<0x20>", 6, 0 }, { "a", 1, 0 } };
	struct words w = spm;
	struct fixture f;

	(void)state;
	w.tokens = tokens;
	w.n_tokens = w.n_types = w.n_scores = COUNT(tokens);
	must_open(&f, &w);
	EXPECT(f.tokenizer, " a", 0, 1, 1, 2);
	expect_bytes(f.tokenizer, 1, false, false, " ");
	close_words(&f);
}

static void
the_space_before_a_text_comes_and_goes(void **state)
{
	struct words w = spm;
	struct fixture f;

	(void)state;
	must_open(&f, &w);
	EXPECT(f.tokenizer, "<|user|>b", 0, S_SPACE, S_USER, S_B);
	EXPECT(f.tokenizer, "b<s>a", TOKENIZER_PARSE_SPECIAL, S_SPACE, S_B, S_BOS, S_SPACE_A);
	EXPECT(f.tokenizer, " a", 0, S_SPACES, S_A); /* user-defined, of the text's space and the one before it */
	EXPECT(f.tokenizer, "<s>", TOKENIZER_PARSE_SPECIAL, S_BOS);
	expect_bytes(f.tokenizer, S_SPACE_A, false, true, "a");
	expect_bytes(f.tokenizer, S_SPACE_A, false, false, " a");
	expect_bytes(f.tokenizer, S_SPACES, false, true, " ");
	expect_bytes(f.tokenizer, S_NL, false, true, "\n");
	expect_bytes(f.tokenizer, S_A9, false, false, "\xa9");
	expect_bytes(f.tokenizer, S_BOS, true, true, "<s>");
	close_words(&f);
	w.space_prefix = 0;
	must_open(&f, &w);
	EXPECT(f.tokenizer, "<|user|>b", 0, S_USER, S_B);
	EXPECT(f.tokenizer, "b<s>a", TOKENIZER_PARSE_SPECIAL, S_B, S_BOS, S_A);
	expect_bytes(f.tokenizer, S_SPACE_A, false, true, " a");
	close_words(&f);
}

/* ---- refusals ---- */

static void
expect_refusal(const struct words *w, const char *text)
{
	struct fixture f;
	struct err e = { 0 };

	open_words(&f, w, &e);
	if (f.tokenizer != NULL)
		fail_msg("accepted, instead of: %s", text);
	assert_int_equal(e.code, EX_DATAERR);
	assert_memory_equal(e.text, "test: ", 6);
	if (strstr(e.text, text) == NULL)
		fail_msg("'%s' instead of '%s'", e.text, text);
	close_words(&f);
}

static void
tokenizers_that_are_not_supported_are_refused_by_name(void **state)
{
	struct words w = bpe;

	(void)state;
	w.model = NULL;
	expect_refusal(&w, "no tokenizer (tokenizer.ggml.model)");
	w.model = "bert";
	expect_refusal(&w, "tokenizer.ggml.model is 'bert', which is not supported");
	w.model = "gpt2";
	w.pre = "unheard-of";
	expect_refusal(&w, "tokenizer.ggml.pre is 'unheard-of', which is not supported");
	w.pre = "";
	expect_refusal(&w, "tokenizer.ggml.pre is '', which is not supported");
	w.pre = "gpt";
	expect_refusal(&w, "tokenizer.ggml.pre is 'gpt', which is not supported");
}

static void
a_file_that_names_no_splitting_means_default(void **state)
{
	struct words w = bpe;
	struct fixture f;

	(void)state;
	w.pre = NULL;
	must_open(&f, &w);
	EXPECT(f.tokenizer, " ab", 0, SPACE_AB);
	close_words(&f);
}

static void
damaged_vocabularies_are_refused(void **state)
{
	struct token tokens[COUNT(bpe_tokens)];
	struct words w = bpe;

	(void)state;
	w.n_tokens = 0;
	expect_refusal(&w, "no vocabulary (tokenizer.ggml.tokens)");
	w = bpe;
	w.n_types--;
	expect_refusal(&w, "19 tokens, but 18 token types");
	w = bpe;
	w.n_scores--;
	expect_refusal(&w, "19 tokens, but 18 token scores");
	w = bpe;
	w.unknown = COUNT(bpe_tokens);
	expect_refusal(&w, "tokenizer.ggml.unknown_token_id is 19, outside the vocabulary");
	w = bpe;
	w.tokens = tokens;
	memcpy(tokens, bpe_tokens, sizeof tokens);
	tokens[B].text = "a";
	expect_refusal(&w, "tokens 0 and 1 have the same text");
	memcpy(tokens, bpe_tokens, sizeof tokens);
	tokens[B].type = 7;
	expect_refusal(&w, "the type of token 1 is unknown");
	tokens[B].type = 6;
	expect_refusal(&w, "token 1 is a byte token whose text names no byte");
	memcpy(tokens, bpe_tokens, sizeof tokens);
	tokens[B].score = NAN;
	expect_refusal(&w, "the score of token 1 is not a number");
}

static void
damaged_merges_are_refused(void **state)
{
	static const char *const bad[] = { "", " ", "a", " a", "a ", "a x", "x b", "a 1", "b <|end|>", "a  b" };
	struct words w = bpe;

	(void)state;
	w.merges = NULL;
	expect_refusal(&w, "no list of merges (tokenizer.ggml.merges)");
	w.n_merges = 1;
	for (size_t i = 0; i < COUNT(bad); i++) {
		w.merges = &bad[i];
		expect_refusal(&w, "tokenizer.ggml.merges: merge 0 ");
	}
}

/* ---- splitting ---- */

struct pieces {
	char text[256]; /* the pieces, each followed by '|' */
	const char *from;
	size_t end;
};

static int
add_piece(void *arg, size_t start, size_t len)
{
	struct pieces *p = arg;
	size_t n = strlen(p->text);

	assert_int_equal(start, p->end);
	assert_true(len > 0 && n + len + 2 < sizeof p->text);
	memcpy(p->text + n, p->from + start, len);
	memcpy(p->text + n + len, "|", 2);
	p->end = start + len;
	return 0;
}

static void
texts_are_split_as_each_name_says(void **state)
{
	/* The pieces are those of the original tokenizers. U+180E is no space, U+0085 is one; U+017F is a kind of s. */
	static const struct { const char *names, *text, *pieces; } rows[] = {
		{ "gpt-2 mpt olmo gpt-neox",
		    "It's 1234\xc2\xbd  x\n\n y'LL...", "It|'s| 1234\xc2\xbd| | x|\n\n| y|'|LL|...|" },
		{ "gpt-2", "a\xe1\xa0\x8e\xc2\x85 b", "a|\xe1\xa0\x8e|\xc2\x85| b|" },
		{ "smollm starcoder", "a 12  3\xc2\xbd.5 ", "a| |1|2|  |3|\xc2\xbd|.|5| |" },
		{ "llama-bpe llama3 llama-v3 dbrx", "It'S 1234567!?\n\n  x\t y'\xc5\xbf",
		    "It|'S| |123|456|7|!?\n\n| | x|\t| y|'\xc5\xbf|" },
		{ "llama-bpe", "  \n  a\r\n\r\n", "  \n| | a|\r\n\r\n|" },
		{ "qwen2 stablelm2 deepseek-r1-qwen", "(x)=12 .y", "(x|)=|1|2| .|y|" },
		{ "tekken", "HelloWorld ABCdef/\n 12", "Hello|World| ABCdef|/\n| |1|2|" },
		{ "gpt-4o", "HelloWorld'S 1234", "Hello|World'S| |123|4|" },
		{ "falcon", "x=1234, \xd0\xbc 56", "x|=|123|4|,| \xd0|\xbc| |56|" },
		{ "default", "x=1234, \xd0\xbc 56`", "x|=|123|4|,| \xd0\xbc| |56|`|" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		for (const char *name = rows[i].names; *name != '\0';) {
			struct gguf_string s = { name, strcspn(name, " ") };
			struct pieces got = { .from = rows[i].text };
			struct err e = { 0 };
			struct presplit *p = presplit_new(s, &e);

			assert_non_null(p);
			assert_int_equal(presplit_run(p, rows[i].text, strlen(rows[i].text), add_piece, &got, &e), 0);
			if (strcmp(got.text, rows[i].pieces) != 0)
				fail_msg("%.*s: '%s' instead of '%s'", (int)s.len, name, got.text, rows[i].pieces);
			presplit_free(p);
			name += s.len + strspn(name + s.len, " ");
		}
}

static void
bytes_that_are_not_utf8_are_symbols(void **state)
{
	static const char text[] = "a \xff\xe2\x82 b\xc3 1\xf0\x9f\x98\x80\x80";
	struct gguf_string name = { "gpt-2", 5 };
	struct pieces got = { .from = text };
	struct err e = { 0 };
	struct presplit *p = presplit_new(name, &e);

	(void)state;
	assert_non_null(p);
	assert_int_equal(presplit_run(p, text, strlen(text), add_piece, &got, &e), 0);
	assert_string_equal(got.text, "a| \xff\xe2\x82| b|\xc3| 1|\xf0\x9f\x98\x80\x80|");
	presplit_free(p);
}

static int
stop(void *arg, size_t start, size_t len)
{
	(void)start;
	(void)len;
	return ++*(int *)arg == 2 ? -1 : 0;
}

static void
splitting_stops_when_told(void **state)
{
	struct gguf_string name = { "smollm", 6 };
	struct err e = { 0 };
	struct presplit *p = presplit_new(name, &e);
	int calls = 0;

	(void)state;
	assert_non_null(p);
	assert_int_equal(presplit_run(p, "a b c d", 7, stop, &calls, &e), -1);
	assert_int_equal(calls, 2);
	presplit_free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pairs_are_joined_in_the_order_of_merges),
		cmocka_unit_test(whole_pieces_are_taken_where_the_name_says_so),
		cmocka_unit_test(bytes_without_a_token_are_dropped),
		cmocka_unit_test(bytes_that_are_not_utf8_are_encoded_one_by_one),
		cmocka_unit_test(special_tokens_are_found_in_text),
		cmocka_unit_test(tokens_decode_to_bytes),
		cmocka_unit_test(characters_are_joined_by_score),
		cmocka_unit_test(characters_without_a_token_become_bytes_or_unknown),
		cmocka_unit_test(a_space_without_a_token_becomes_its_byte),
		cmocka_unit_test(the_space_before_a_text_comes_and_goes),
		cmocka_unit_test(tokenizers_that_are_not_supported_are_refused_by_name),
		cmocka_unit_test(a_file_that_names_no_splitting_means_default),
		cmocka_unit_test(damaged_vocabularies_are_refused),
		cmocka_unit_test(damaged_merges_are_refused),
		cmocka_unit_test(texts_are_split_as_each_name_says),
		cmocka_unit_test(bytes_that_are_not_utf8_are_symbols),
		cmocka_unit_test(splitting_stops_when_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
