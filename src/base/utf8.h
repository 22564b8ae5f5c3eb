/*
 * UTF-8 as RFC 3629 has it: no surrogates, nothing overlong, nothing beyond
 * U+10FFFF. Checking, decoding, and making a stream of bytes valid; whatever is
 * not valid counts by maximal subparts, as the WHATWG encoding standard does.
 */
#ifndef SINKD_BASE_UTF8_H
#define SINKD_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool utf8_is_valid(const char *s, size_t len);

/*
 * The character at the start of the len >= 1 bytes at s. Returns its length,
 * 1..4 bytes, with *c its code point; or the length of the invalid sequence
 * there, 1..3 bytes, with *c = -1 (a character cut off by the end is one).
 */
size_t utf8_decode(const char *s, size_t len, int32_t *c);

/* A stream of bytes on its way to valid UTF-8; at most one character is held back. All zero: nothing held. */
struct utf8 {
	unsigned char held[4];
	unsigned char n;    /* bytes in held */
	unsigned char want; /* bytes of the whole character, if n > 0 */
};

void utf8_init(struct utf8 *u);

/*
 * Feed len bytes; the characters that are whole by now go to out, which has
 * room for 3 * (len + 1) bytes. Each invalid sequence becomes one U+FFFD.
 * Returns the number of bytes written.
 */
size_t utf8_feed(struct utf8 *u, const char *s, size_t len, char *out);

/* The end of the stream: a character cut off becomes U+FFFD. Returns the number of bytes written to out, 0 or 3. */
size_t utf8_flush(struct utf8 *u, char *out);

#endif
