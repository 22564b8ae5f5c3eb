/* UTF-8: one small automaton for checking, decoding and repairing; see utf8.h. */
#include "base/utf8.h"

#include <string.h>

enum step { STEP_MORE, STEP_DONE, STEP_BAD };

static const char replacement[3] = { '\xef', '\xbf', '\xbd' }; /* U+FFFD */

static enum step
step_lead(struct utf8 *u, unsigned char b)
{
	if (b < 0x80) {
		u->want = 1;
	} else if (b >= 0xc2 && b <= 0xdf) {
		u->want = 2;
	} else if (b >= 0xe0 && b <= 0xef) {
		u->want = 3;
	} else if (b >= 0xf0 && b <= 0xf4) {
		u->want = 4;
	} else {
		return STEP_BAD;
	}
	u->held[u->n++] = b;
	return u->want == 1 ? STEP_DONE : STEP_MORE;
}

/*
 * Add byte b to u. STEP_BAD: b cannot come here; if u->n > 0 the bytes held
 * are an invalid sequence and b is to be tried afresh, else b is one itself.
 */
static enum step
step(struct utf8 *u, unsigned char b)
{
	unsigned char low = 0x80, high = 0xbf;

	if (u->n == 0)
		return step_lead(u, b);
	if (u->n == 1) {
		switch (u->held[0]) {
		case 0xe0: /* shorter forms exist below */
			low = 0xa0;
			break;
		case 0xed: /* surrogates above */
			high = 0x9f;
			break;
		case 0xf0: /* shorter forms exist below */
			low = 0x90;
			break;
		case 0xf4: /* beyond U+10FFFF above */
			high = 0x8f;
			break;
		}
	}
	if (b < low || b > high)
		return STEP_BAD;
	u->held[u->n++] = b;
	return u->n == u->want ? STEP_DONE : STEP_MORE;
}

static int32_t
code_point(const struct utf8 *u)
{
	static const unsigned char lead_mask[5] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	int32_t c = u->held[0] & lead_mask[u->want];

	for (int i = 1; i < u->want; i++)
		c = c << 6 | (u->held[i] & 0x3f);
	return c;
}

size_t
utf8_decode(const char *s, size_t len, int32_t *c)
{
	struct utf8 u;
	enum step st = STEP_MORE;

	utf8_init(&u);
	for (size_t i = 0; i < len && st == STEP_MORE; i++)
		st = step(&u, (unsigned char)s[i]);
	*c = st == STEP_DONE ? code_point(&u) : -1;
	return u.n > 0 ? u.n : 1;
}

bool
utf8_is_valid(const char *s, size_t len)
{
	struct utf8 u;

	utf8_init(&u);
	for (size_t i = 0; i < len; i++) {
		uint64_t eight;

		/* Most text is ASCII: look at eight bytes at once. */
		for (; u.n == 0 && i + sizeof eight <= len; i += sizeof eight) {
			memcpy(&eight, s + i, sizeof eight);
			if ((eight & 0x8080808080808080u) != 0)
				break;
		}
		if (i == len)
			break;
		switch (step(&u, (unsigned char)s[i])) {
		case STEP_BAD:
			return false;
		case STEP_DONE:
			u.n = 0;
			break;
		case STEP_MORE:
			break;
		}
	}
	return u.n == 0;
}

void
utf8_init(struct utf8 *u)
{
	memset(u, 0, sizeof *u);
}

static char *
put_bytes(char *out, const void *bytes, size_t n)
{
	memcpy(out, bytes, n);
	return out + n;
}

size_t
utf8_feed(struct utf8 *u, const char *s, size_t len, char *out)
{
	char *p = out;

	for (size_t i = 0; i < len;) {
		switch (step(u, (unsigned char)s[i])) {
		case STEP_BAD:
			p = put_bytes(p, replacement, sizeof replacement);
			if (u->n == 0)
				i++;
			u->n = 0;
			break;
		case STEP_DONE:
			p = put_bytes(p, u->held, u->n);
			u->n = 0;
			i++;
			break;
		case STEP_MORE:
			i++;
			break;
		}
	}
	return (size_t)(p - out);
}

size_t
utf8_flush(struct utf8 *u, char *out)
{
	if (u->n == 0)
		return 0;
	utf8_init(u);
	memcpy(out, replacement, sizeof replacement);
	return sizeof replacement;
}
