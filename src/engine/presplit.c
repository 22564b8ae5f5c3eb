/*
 * Splitting by patterns. Each name stands for a list of patterns, applied in
 * turn: matches and what lies between them become the pieces that the next
 * pattern splits further. The patterns are those of the models' original
 * tokenizers; where a file only says "default", those the format means by it.
 */
#include "engine/presplit.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/utf8.h"

/* White_Space of Unicode, inside of a class; PCRE2's \s differs from it by U+180E. */
#define SPACE "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define SPACES "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SYMBOLS " ?[^" SPACE "\\p{L}\\p{N}]+"
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define CASED_WORD(contraction) \
	"[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" contraction \
	"|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER "]*" contraction

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|" SYMBOLS "|" SPACES
#define WORDS(digits) \
	CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "|" SYMBOLS "[\\r\\n]*|[" SPACE "]*[\\r\\n]+|" SPACES
#define DIGIT "\\p{N}"
#define PUNCTUATION "[\\p{P}$+<=>^~|`]+"

enum { MAX_PATTERNS = 4 };

enum row_flags {
	WHOLE_PIECES = 1, /* see presplit_takes_whole_pieces */
};

struct row {
	const char *names; /* separated by spaces */
	unsigned flags;
	const char *patterns[MAX_PATTERNS]; /* one that starts with (*BYTES) sees bytes, not characters */
};

#define BYTES "(*BYTES)"

static const struct row rows[] = {
	{ "gpt-2 gpt-neox jais mpt olmo phi-2", 0, { GPT2 } },
	{ "codeshell command-r exaone minerva-7b refact smollm starcoder", 0, { DIGIT, GPT2 } },
	{ "falcon3 lfm2 llama-bpe llama-v3 llama3 pixtral", WHOLE_PIECES, { WORDS("\\p{N}{1,3}") } },
	{ "chatglm-bpe dbrx glm4 smaug-bpe", 0, { WORDS("\\p{N}{1,3}") } },
	{ "deepseek-r1-qwen hunyuan megrez qwen2 stablelm2", 0, { WORDS(DIGIT) } },
	{ "tekken", WHOLE_PIECES,
	    { CASED_WORD("") "|" DIGIT "|" SYMBOLS "[\\r\\n/]*|[" SPACE "]*[\\r\\n]+|" SPACES } },
	{ "gpt-4o", 0,
	    { CASED_WORD(CONTRACTION "?") "|\\p{N}{1,3}|" SYMBOLS "[\\r\\n/]*|[" SPACE "]*[\\r\\n]+|" SPACES } },
	/*
	 * The original looks for numbers in the bytes written as characters of
	 * Latin-1, in which B2 B3 B9 BC BD BE are superscripts and fractions.
	 */
	{ "falcon", 0,
	    { PUNCTUATION, GPT2, BYTES "[0-9\\xb2\\xb3\\xb9\\xbc-\\xbe]+", BYTES "[0-9][0-9][0-9]" } },
	{ "default", 0, { "[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]" } },
};

struct presplit {
	bool whole_pieces;
	int n;
	pcre2_code *codes[MAX_PATTERNS];
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
	char *repaired; /* a copy of text that is not UTF-8 */
	size_t room;
};

/* One run over a text. */
struct run {
	struct presplit *p;
	const char *text;
	presplit_fn *fn;
	void *arg;
	struct err *e;
};

static bool
has_name(const char *names, struct gguf_string name)
{
	for (const char *s = names; *s != '\0';) {
		size_t n = strcspn(s, " ");

		if (n == name.len && memcmp(s, name.data, n) == 0)
			return true;
		s += n + strspn(s + n, " ");
	}
	return false;
}

static const struct row *
presplit_find_row(struct gguf_string name)
{
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (has_name(rows[i].names, name))
			return &rows[i];
	return NULL;
}

static int
compile(struct presplit *p, const char *pattern, struct err *e)
{
	bool bytes = strncmp(pattern, BYTES, strlen(BYTES)) == 0;
	int error;
	PCRE2_SIZE offset;
	pcre2_code *code;

	if (bytes)
		pattern += strlen(BYTES);
	code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, bytes ? 0 : PCRE2_UTF, &error, &offset, NULL);
	if (code == NULL)
		return err_set(e, EX_OSERR, "cannot compile a tokenizer pattern (PCRE2 error %d)", error);
	/* Where memory may not be made executable this fails, and pcre2_match interprets. */
	pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
	p->codes[p->n++] = code;
	return 0;
}

struct presplit *
presplit_new(struct gguf_string name, struct err *e)
{
	const struct row *row = presplit_find_row(name);
	struct presplit *p;

	if (row == NULL) {
		err_set(e, EX_DATAERR, "tokenizer.ggml.pre is '%.*s', which is not supported",
		    (int)(name.len < 64 ? name.len : 64), name.data);
		return NULL;
	}
	p = calloc(1, sizeof *p);
	if (p == NULL) {
		err_set(e, EX_OSERR, "no memory for a tokenizer");
		return NULL;
	}
	p->whole_pieces = (row->flags & WHOLE_PIECES) != 0;
	for (int i = 0; i < MAX_PATTERNS && row->patterns[i] != NULL; i++)
		if (compile(p, row->patterns[i], e) != 0)
			goto fail;
	p->match = pcre2_match_data_create(1, NULL);
	p->context = pcre2_match_context_create(NULL);
	p->stack = pcre2_jit_stack_create((size_t)32 << 10, (size_t)1 << 20, NULL);
	if (p->match == NULL || p->context == NULL || p->stack == NULL) {
		err_set(e, EX_OSERR, "no memory for a tokenizer");
		goto fail;
	}
	/* No pattern backtracks by more than one run of characters, so limits only stand in the way of long ones. */
	pcre2_set_match_limit(p->context, UINT32_MAX);
	pcre2_set_depth_limit(p->context, UINT32_MAX);
	pcre2_set_heap_limit(p->context, UINT32_MAX);
	pcre2_jit_stack_assign(p->context, NULL, p->stack);
	return p;
fail:
	presplit_free(p);
	return NULL;
}

void
presplit_free(struct presplit *p)
{
	if (p == NULL)
		return;
	free(p->repaired);
	pcre2_jit_stack_free(p->stack);
	pcre2_match_context_free(p->context);
	pcre2_match_data_free(p->match);
	for (int i = 0; i < p->n; i++)
		pcre2_code_free(p->codes[i]);
	free(p);
}

bool
presplit_takes_whole_pieces(const struct presplit *p)
{
	return p->whole_pieces;
}

/* The text of *r, which is not UTF-8, with each invalid byte replaced by a control character of the same length. */
static int
repair(struct run *r, size_t len)
{
	struct presplit *p = r->p;
	int32_t c;

	if (len > p->room) {
		size_t room = len + len / 2;

		free(p->repaired);
		p->repaired = malloc(room);
		p->room = p->repaired != NULL ? room : 0;
		if (p->repaired == NULL)
			return err_set(r->e, EX_OSERR, "no memory to split %zu bytes of text", len);
	}
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_decode(r->text + i, len - i, &c);
		if (c < 0)
			memset(p->repaired + i, 1, n);
		else
			memcpy(p->repaired + i, r->text + i, n);
	}
	r->text = p->repaired;
	return 0;
}

/* Split the len bytes at start by pattern i and those after it. */
static int
split(struct run *r, int i, size_t start, size_t len)
{
	struct presplit *p = r->p;
	const char *text = r->text + start;
	size_t done = 0;

	if (i == p->n)
		return r->fn(r->arg, start, len);
	assert(i < MAX_PATTERNS);
	while (done < len) {
		const PCRE2_SIZE *match = pcre2_get_ovector_pointer(p->match);
		size_t from, to;
		int rc = pcre2_match(p->codes[i], (PCRE2_SPTR)text, len, done, PCRE2_NO_UTF_CHECK, p->match,
		    p->context);

		if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
			return err_set(r->e, EX_OSERR, "cannot split %zu bytes of text (PCRE2 error %d)", len, rc);
		from = rc < 0 ? len : match[0];
		to = rc < 0 ? len : match[1];
		assert(from >= done && (to > from || from == len));
		if (from > done && split(r, i + 1, start + done, from - done) != 0)
			return -1;
		if (to > from && split(r, i + 1, start + from, to - from) != 0)
			return -1;
		done = to;
	}
	return 0;
}

int
presplit_run(struct presplit *p, const char *text, size_t len, presplit_fn *fn, void *arg, struct err *e)
{
	struct run r = { p, text, fn, arg, e };

	if (!utf8_is_valid(text, len) && repair(&r, len) != 0)
		return -1;
	return split(&r, 0, 0, len);
}
