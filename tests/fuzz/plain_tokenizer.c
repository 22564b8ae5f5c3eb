/* Vocabularies and slow encoding for the tokenizer's fuzz target; see plain_tokenizer.h. */
#include "plain_tokenizer.h"

#include <assert.h>
#include <stdio.h>

#include "../unit/gguf_build.h"
#include "base/utf8.h"
#include "engine/vocab.h"

#define KEY "tokenizer.ggml."
#define SPACE "\xe2\x96\x81"

enum { PIECES = 12, PLACES = 4096 };

static const char *const patterns[] = {
	"gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "tekken", "gpt-4o", "falcon", "default",
};
enum { PATTERNS = sizeof patterns / sizeof *patterns };

/* What the tokens are joined from, so that joins happen in texts that a fuzzer writes. */
static const char *const letters[PIECES] = { "a", "b", "e", "t", "0", "1", " ", "\n", "'", "s", "\xc3\xa9", "." };

/* ---- making a vocabulary -------------------------------------------- */

static uint32_t
next_number(uint32_t *seed, uint32_t below)
{
	*seed = *seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)*seed * below >> 32);
}

/* How BPE writes a byte: the 188 that print in Latin-1 as themselves, the others as U+0100 and so on. */
static size_t
write_byte(char *to, unsigned char byte)
{
	int other = 0x100;
	int c = byte;

	for (int b = 0; b <= byte; b++)
		if (!((b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad)))
			c = b == byte ? other : c, other++;
	if (c < 0x80) {
		to[0] = (char)c;
		return 1;
	}
	to[0] = (char)(0xc0 | c >> 6);
	to[1] = (char)(0x80 | (c & 0x3f));
	return 2;
}

static int
find(const struct plain *p, const char *text, size_t len)
{
	for (int i = 0; i < p->n; i++)
		if (p->tokens[i].len == len && memcmp(p->tokens[i].text, text, len) == 0)
			return i;
	return -1;
}

/* The token that text may become: control, unknown and byte tokens are none. */
static int
find_normal(const struct plain *p, const char *text, size_t len)
{
	int i = find(p, text, len);

	if (i < 0 || p->tokens[i].type == VOCAB_CONTROL || p->tokens[i].type == VOCAB_UNKNOWN ||
	    p->tokens[i].type == VOCAB_BYTE)
		return -1;
	return i;
}

/* Add a token, unless one has that text. Returns its id. */
static int
add(struct plain *p, const char *text, size_t len, unsigned char type, float score)
{
	int i = find(p, text, len);

	if (i >= 0)
		return i;
	assert(p->n < PLAIN_TOKENS && len > 0 && len < PLAIN_TEXT);
	memcpy(p->tokens[p->n].text, text, len);
	p->tokens[p->n].len = len;
	p->tokens[p->n].type = type;
	p->tokens[p->n].score = score;
	return p->n++;
}

static void
add_specials(struct plain *p, uint32_t *seed)
{
	static const char *const control[] = { "<s>", "<|im_start|>", "<|im" };
	static const char *const user[] = { "<tool>", "  ", " the", "<t", "\xc3\xa9\xc3\xa9", "0.0" };

	p->unknown = next_number(seed, 4) == 0 ? -1 : add(p, "<unk>", 5, VOCAB_UNKNOWN, 0);
	for (size_t i = 0; i < sizeof control / sizeof *control; i++)
		add(p, control[i], strlen(control[i]), VOCAB_CONTROL, 0);
	for (size_t i = 0; i < sizeof user / sizeof *user; i++)
		if (next_number(seed, 2) == 0)
			add(p, user[i], strlen(user[i]), VOCAB_USER_DEFINED, 0);
}

/* Text of a letter as the vocabulary writes it. */
static size_t
write_letter(const struct plain *p, const char *letter, char *to)
{
	size_t n = 0;

	if (!p->bpe)
		return (size_t)sprintf(to, "%s", *letter == ' ' ? SPACE : letter);
	for (; *letter != '\0'; letter++)
		n += write_byte(to + n, (unsigned char)*letter);
	return n;
}

/* One that joins: a letter's token, its first byte's in BPE, or one that was joined before. */
static int
pick(const struct plain *p, uint32_t *seed, int joined)
{
	char text[PLAIN_TEXT];
	uint32_t i = next_number(seed, PIECES + (uint32_t)(p->n - joined));

	if (i >= PIECES)
		return joined + (int)i - PIECES;
	if (p->bpe)
		return find(p, text,
		    write_byte(text, (unsigned char)letters[i][next_number(seed, (uint32_t)strlen(letters[i]))]));
	return find(p, text, write_letter(p, letters[i], text));
}

static void
add_joined(struct plain *p, uint32_t *seed)
{
	static const float scores[] = { -1, -2, -2, 0, -0.0f, 0.5f, -1e30f };
	char text[2 * PLAIN_TEXT];
	int first = p->n;

	for (int i = 0; i < PLAIN_MERGES && p->n < PLAIN_TOKENS; i++) {
		int left = pick(p, seed, first), right = pick(p, seed, first), joined;
		size_t len;

		if (left < 0 || right < 0 || (len = p->tokens[left].len + p->tokens[right].len) >= PLAIN_TEXT)
			continue;
		memcpy(text, p->tokens[left].text, p->tokens[left].len);
		memcpy(text + p->tokens[left].len, p->tokens[right].text, p->tokens[right].len);
		joined = add(p, text, len, VOCAB_NORMAL, scores[next_number(seed, 7)]);
		/* Without a merge BPE only finds it where whole pieces are looked up. */
		if (find_normal(p, text, len) == joined && next_number(seed, 8) != 0) {
			p->merges[p->n_merges].left = left;
			p->merges[p->n_merges].right = right;
			p->merges[p->n_merges++].joined = joined;
		}
	}
}

static void
make_bpe(struct plain *p, uint32_t *seed)
{
	bool drops = next_number(seed, 4) == 0;
	char text[4];

	for (int b = 0; b < 256; b++)
		if (drops && next_number(seed, 8) == 0)
			p->lossy = true;
		else
			add(p, text, write_byte(text, (unsigned char)b), VOCAB_NORMAL, 0);
}

static void
make_spm(struct plain *p, uint32_t *seed)
{
	uint32_t bytes = next_number(seed, 3);
	char text[PLAIN_TEXT];

	p->space_prefix = next_number(seed, 2) == 0;
	for (unsigned b = 0; b < 256; b++)
		if (bytes == 0 || (bytes == 1 && next_number(seed, 2) == 0))
			p->lossy = true;
		else
			add(p, text, (size_t)sprintf(text, "<0x%02X>", b), VOCAB_BYTE, 0);
	for (int i = 0; i < PIECES; i++)
		if (next_number(seed, 8) != 0)
			add(p, text, write_letter(p, letters[i], text), VOCAB_NORMAL, -1);
}

/* ---- as a file ------------------------------------------------------ */

static void
put_text(struct build *b, const char *text, size_t len)
{
	put_u64(b, len);
	put(b, text, len);
}

static void
put_merges(const struct plain *p, struct build *b)
{
	put_array(b, KEY "merges", GGUF_STRING, (uint64_t)p->n_merges);
	for (int i = 0; i < p->n_merges; i++) {
		const struct plain_token *left = &p->tokens[p->merges[i].left], *right = &p->tokens[p->merges[i].right];

		put_u64(b, left->len + 1 + right->len);
		put(b, left->text, left->len);
		put_u8(b, ' ');
		put(b, right->text, right->len);
	}
	put_string_key(b, KEY "pre", p->pre);
}

static void
put_file(const struct plain *p, struct build *b)
{
	put_header(b, 0, p->bpe ? 6 : 5);
	put_string_key(b, KEY "model", p->bpe ? "gpt2" : "llama");
	put_array(b, KEY "tokens", GGUF_STRING, (uint64_t)p->n);
	for (int i = 0; i < p->n; i++)
		put_text(b, p->tokens[i].text, p->tokens[i].len);
	put_array(b, KEY "token_type", GGUF_I32, (uint64_t)p->n);
	for (int i = 0; i < p->n; i++)
		put_u32(b, p->tokens[i].type);
	put_array(b, KEY "scores", GGUF_F32, (uint64_t)p->n);
	for (int i = 0; i < p->n; i++)
		put_f32(b, p->tokens[i].score);
	if (p->bpe) {
		put_merges(p, b);
	} else {
		put_key(b, KEY "add_space_prefix", GGUF_BOOL);
		put_u8(b, p->space_prefix);
	}
}

struct plain *
plain_new(int kind, uint32_t seed)
{
	struct plain *p = calloc(1, sizeof *p);
	struct build *b = calloc(1, sizeof *b);
	struct gguf_string name;

	assert(p != NULL && b != NULL);
	p->bpe = kind < PATTERNS;
	seed = (seed * 64 + (uint32_t)kind + 1) * UINT32_C(0x9e3779b1); /* else the first numbers hardly differ */
	add_specials(p, &seed);
	if (p->bpe) {
		p->pre = patterns[kind];
		name = (struct gguf_string){ p->pre, strlen(p->pre) };
		p->presplit = presplit_new(name, NULL);
		assert(p->presplit != NULL);
		make_bpe(p, &seed);
	} else
		make_spm(p, &seed);
	add_joined(p, &seed);
	put_file(p, b);
	p->gguf = open_build(b, b->n, &p->file, NULL);
	assert(p->gguf != NULL);
	free(b);
	return p;
}

void
plain_free(struct plain *p)
{
	gguf_close(p->gguf);
	presplit_free(p->presplit);
	free(p->file);
	free(p);
}

/* ---- encoding ------------------------------------------------------- */

/* A part of the text: what it was joined from is forgotten. */
struct part {
	const char *text;
	size_t len;
	int id;
};

struct work {
	const struct plain *p;
	struct part parts[PLACES];
	int n;
	const char *text;  /* what places of pieces count from */
	int32_t *ids;
	size_t n_ids;
	bool unknown;      /* spm: the last one written is the unknown token */
};

/* The longest special token that starts at text, of control and unknown ones or of user-defined ones; or -1. */
static int
find_special(const struct plain *p, const char *text, size_t len, bool user)
{
	int best = -1;

	for (int i = 0; i < p->n; i++) {
		const struct plain_token *t = &p->tokens[i];
		char escaped[3 * PLAIN_TEXT];
		size_t n = 0;

		if (user ? t->type != VOCAB_USER_DEFINED : t->type != VOCAB_CONTROL && t->type != VOCAB_UNKNOWN)
			continue;
		for (size_t k = 0; k < t->len; k++)
			if (user && !p->bpe && t->text[k] == ' ')
				n += (size_t)sprintf(escaped + n, SPACE);
			else
				escaped[n++] = t->text[k];
		if (n <= len && memcmp(escaped, text, n) == 0 && (best < 0 || t->len > p->tokens[best].len))
			best = i;
	}
	return best;
}

static size_t
special_length(const struct plain *p, int id, bool user)
{
	size_t n = p->tokens[id].len;

	for (size_t k = 0; user && !p->bpe && k < p->tokens[id].len; k++)
		n += p->tokens[id].text[k] == ' ' ? strlen(SPACE) - 1 : 0;
	return n;
}

/* Can these two be joined? The lesser rank is joined first. */
static bool
rate(const struct plain *p, const struct part *a, const struct part *b, double *rank, int *joined)
{
	if (!p->bpe) {
		*joined = find_normal(p, a->text, a->len + b->len);
		*rank = *joined < 0 ? 0 : -(double)p->tokens[*joined].score;
		return *joined >= 0;
	}
	for (int i = 0; i < p->n_merges; i++)
		if (p->merges[i].left == a->id && p->merges[i].right == b->id) {
			*rank = i;
			*joined = p->merges[i].joined;
			return true;
		}
	return false;
}

static void
join_all(struct work *w)
{
	for (;;) {
		double best = 0, rank;
		int at = -1, id = -1, joined;

		for (int i = 0; i + 1 < w->n; i++)
			if (rate(w->p, &w->parts[i], &w->parts[i + 1], &rank, &joined) && (at < 0 || rank < best)) {
				best = rank;
				at = i;
				id = joined;
			}
		if (at < 0)
			return;
		w->parts[at].len += w->parts[at + 1].len;
		w->parts[at].id = id;
		memmove(&w->parts[at + 1], &w->parts[at + 2], (size_t)(w->n - at - 2) * sizeof *w->parts);
		w->n--;
	}
}

static void
give(struct work *w, int id)
{
	w->ids[w->n_ids++] = id;
	w->unknown = false;
}

static void
add_part(struct work *w, const char *text, size_t len, int id)
{
	assert(w->n < PLACES);
	w->parts[w->n++] = (struct part){ text, len, id };
}

/* A piece that the patterns made. */
static int
encode_piece(void *arg, size_t start, size_t len)
{
	struct work *w = arg;
	const char *text = w->text + start;
	char word[2 * PLAIN_TEXT];
	size_t n = 0;
	int id;

	for (size_t i = 0; i < len && n < PLAIN_TEXT; i++)
		n += write_byte(word + n, (unsigned char)text[i]);
	if (presplit_takes_whole_pieces(w->p->presplit) && n < PLAIN_TEXT && (id = find_normal(w->p, word, n)) >= 0) {
		give(w, id);
		return 0;
	}
	w->n = 0;
	for (size_t i = 0; i < len; i++)
		if ((id = find_normal(w->p, word, write_byte(word, (unsigned char)text[i]))) >= 0)
			add_part(w, text + i, 1, id);
	join_all(w);
	for (int i = 0; i < w->n; i++)
		give(w, w->parts[i].id);
	return 0;
}

/* SPM: the bytes of a character that no token has. */
static void
give_bytes(struct work *w, const struct part *part)
{
	bool space = part->len == strlen(SPACE) && memcmp(part->text, SPACE, part->len) == 0;
	char name[8];

	for (size_t i = 0; i < (space ? 1 : part->len); i++) {
		unsigned c = space ? ' ' : (unsigned char)part->text[i];
		int id = find(w->p, name, (size_t)sprintf(name, "<0x%02X>", c));

		if (id >= 0)
			give(w, id);
		else {
			if (!w->unknown && w->p->unknown >= 0)
				w->ids[w->n_ids++] = w->p->unknown;
			w->unknown = true;
		}
	}
}

static void
encode_characters(struct work *w, const char *text, size_t len)
{
	int32_t c;

	w->n = 0;
	for (size_t i = 0, k; i < len; i += k) {
		k = utf8_decode(text + i, len - i, &c);
		k = c < 0 ? 1 : k;
		add_part(w, text + i, k, find_normal(w->p, text + i, k));
	}
	join_all(w);
	for (int i = 0; i < w->n; i++)
		if (w->parts[i].id >= 0)
			give(w, w->parts[i].id);
		else
			give_bytes(w, &w->parts[i]);
}

static void
encode_ordinary(struct work *w, const char *text, size_t len)
{
	w->text = text;
	if (len > 0 && w->p->bpe)
		assert(presplit_run(w->p->presplit, text, len, encode_piece, w, NULL) == 0);
	else if (len > 0)
		encode_characters(w, text, len);
}

/* Text without control tokens. */
static void
encode_text(struct work *w, const char *text, size_t len)
{
	size_t start = 0, at = 0;

	while (at < len) {
		int id = find_special(w->p, text + at, len - at, true);

		if (id < 0) {
			at++;
			continue;
		}
		encode_ordinary(w, text + start, at - start);
		give(w, id);
		at += special_length(w->p, id, true);
		start = at;
	}
	encode_ordinary(w, text + start, len - start);
}

static void
encode_between(struct work *w, const char *text, size_t len)
{
	char escaped[3 * PLACES];
	size_t n = 0;

	if (len == 0)
		return;
	w->unknown = false;
	if (w->p->bpe) {
		encode_text(w, text, len);
		return;
	}
	assert(3 * (len + 1) < sizeof escaped);
	if (w->p->space_prefix)
		n += (size_t)sprintf(escaped, SPACE);
	for (size_t i = 0; i < len; i++)
		if (text[i] == ' ')
			n += (size_t)sprintf(escaped + n, SPACE);
		else
			escaped[n++] = text[i];
	encode_text(w, escaped, n);
}

size_t
plain_encode(const struct plain *p, const char *text, size_t len, bool special, int32_t *ids)
{
	static struct work w;
	size_t start = 0, at = 0;

	w = (struct work){ .p = p, .ids = ids };
	while (at < len) {
		int id = special ? find_special(p, text + at, len - at, false) : -1;

		if (id < 0) {
			at++;
			continue;
		}
		encode_between(&w, text + start, at - start);
		give(&w, id);
		at += p->tokens[id].len;
		start = at;
	}
	encode_between(&w, text + start, len - start);
	return w.n_ids;
}

/* ---- decoding ------------------------------------------------------- */

size_t
plain_decode(const struct plain *p, int32_t id, char *to)
{
	const struct plain_token *t = &p->tokens[id];
	size_t n = 0;
	char word[4];

	if (t->type == VOCAB_BYTE) {
		to[0] = (char)strtol(t->text + 1, NULL, 16);
		return 1;
	}
	for (size_t i = 0, k; i < t->len; i += k) {
		k = 1;
		to[n] = t->text[i];
		if (t->type == VOCAB_NORMAL && p->bpe) {
			for (int b = 0; b < 256; b++)
				if ((k = write_byte(word, (unsigned char)b)) <= t->len - i &&
				    memcmp(word, t->text + i, k) == 0) {
					to[n] = (char)b;
					break;
				}
		} else if (!p->bpe && t->type != VOCAB_CONTROL && t->type != VOCAB_UNKNOWN &&
		    t->len - i >= strlen(SPACE) &&
		    memcmp(t->text + i, SPACE, strlen(SPACE)) == 0) {
			to[n] = ' ';
			k = strlen(SPACE);
		}
		n++;
	}
	return n;
}
