/*
 * What the model's likelihoods say of one event: sums, and the word around
 * the least expected token; see score.h. Called on the engine thread.
 */
#include "stream/score.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "stream/stage.h"

enum { SKIP_MAX = 4096 }; /* bytes looked through for one token: keeps the search linear */

/* Bytes of the text [start, end) that a token stands for. */
struct span {
	size_t start, end;
};

static bool
score_is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A byte inside a character, not its first. */
static bool
is_inside(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/*
 * Find the next token's bytes in the text from *at on, and move *at behind
 * them. The tokenizer drops bytes that the vocabulary has no token for, so
 * bytes may have to be skipped. Returns false when they are not there.
 */
static bool
score_find_token(struct tokenizer *t, int32_t id, bool first, const char *text, size_t len, size_t *at,
    struct span *span)
{
	size_t n, i = *at, end = len - *at < SKIP_MAX ? len : *at + SKIP_MAX;
	const char *bytes = tokenizer_decode(t, id, false, first, &n);

	for (size_t k = 0; k < n; k++, i++) {
		const char *p = memchr(text + i, bytes[k], end - i);

		if (p == NULL)
			return false;
		i = (size_t)(p - text);
		if (k == 0)
			span->start = i;
	}
	span->end = i;
	*at = i;
	while (n > 0 && span->start < span->end && score_is_space(text[span->start]))
		span->start++;
	while (n > 0 && span->start < span->end && score_is_space(text[span->end - 1]))
		span->end--;
	return n > 0 && span->start < span->end;
}

/* Widen the span to the word around it, or as much of it as fits. */
static void
widen(const char *text, size_t len, struct span *s)
{
	size_t start = s->start, end = s->end;

	if (end - start > SCORE_PEAK_MAX)
		end = start + SCORE_PEAK_MAX;
	while (start > 0 && !score_is_space(text[start - 1]) && end - start < SCORE_PEAK_MAX)
		start--;
	while (end < len && !score_is_space(text[end]) && end - start < SCORE_PEAK_MAX)
		end++;
	while (start < end && is_inside(text[start]))
		start++;
	while (end > start && end < len && is_inside(text[end]))
		end--;
	*s = (struct span){start, end};
}

void
score_compute(struct score *s, struct tokenizer *t, const char *text, size_t len, const int32_t *ids,
    const float *nll, size_t n)
{
	struct span peak = {0, 0};
	size_t at = 0;

	memset(s, 0, sizeof *s);
	s->tokens = (int64_t)n;
	for (size_t i = 0; i < n; i++) {
		struct span span = {0, 0};
		bool visible = score_find_token(t, ids[i], i == 0, text, len, &at, &span);
		/* Rounding may take a certain token's -ln p a hair below 0. */
		float v = nll[i] < 0 ? 0 : nll[i];

		if (!isfinite(v))
			continue;
		s->scored++;
		s->nll += v;
		if (visible && (peak.end == 0 || v > s->peak_nll)) {
			s->peak_nll = v;
			peak = span;
		}
	}
	if (peak.end == 0)
		return;
	widen(text, len, &peak);
	s->peak_len = peak.end - peak.start;
	assert(s->peak_len <= sizeof s->peak);
	memcpy(s->peak, text + peak.start, s->peak_len);
}

/* ---- the stage ------------------------------------------------------ */

static void
score_event(void *state, const struct stage_event *event)
{
	struct record *r = event->record;

	(void)state;
	score_compute(&r->score, event->tokenizer, r->text, r->text_len, event->ids, event->nll, event->n);
}

const struct stage score_stage = {
	.after = score_event,
};
