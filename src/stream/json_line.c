/*
 * A line of input read as a JSON object; see json_line.h. jansson refuses
 * some lines that are valid JSON because it could not hold their values. We
 * need few values and keep the original bytes, so those lines are parsed from
 * a copy of the same length, repaired in place.
 */
#include "stream/json_line.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "stream/text.h"

bool
json_line_check_bytes(const char *line, size_t len, char *reason, size_t size)
{
	const char *nul = memchr(line, '\0', len);
	int32_t c;

	if (nul != NULL) {
		snprintf(reason, size, "the line holds an unescaped NUL at byte %zu", (size_t)(nul - line) + 1);
		return false;
	}
	if (utf8_is_valid(line, len))
		return true;
	for (size_t i = 0; i < len;) {
		size_t n = utf8_decode(line + i, len - i, &c);

		if (c < 0) {
			snprintf(reason, size, "the line is not valid UTF-8 at byte %zu", i + 1);
			break;
		}
		i += n;
	}
	return false;
}

/* ---- repair --------------------------------------------------------- */

static size_t
count_digits(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && s[n] >= '0' && s[n] <= '9')
		n++;
	return n;
}

/* Are the len bytes at s one number of RFC 8259, section 6? */
static bool
is_json_number(const char *s, size_t len)
{
	size_t i = len > 0 && s[0] == '-', n = count_digits(s + i, len - i);

	if (n == 0 || (n > 1 && s[i] == '0'))
		return false;
	i += n;
	if (i < len && s[i] == '.') {
		i++;
		if ((n = count_digits(s + i, len - i)) == 0)
			return false;
		i += n;
	}
	if (i < len && (s[i] == 'e' || s[i] == 'E')) {
		i++;
		i += i < len && (s[i] == '+' || s[i] == '-');
		if ((n = count_digits(s + i, len - i)) == 0)
			return false;
		i += n;
	}
	return i == len;
}

/* A number at s becomes -1 and blanks, which may stand wherever it may; returns the length of what stood there. */
static size_t
repair_number(char *s, size_t len)
{
	size_t n = 1;

	while (n < len && s[n] != '\0' && strchr("0123456789+-.eE", s[n]) != NULL)
		n++;
	if (n > 2 && is_json_number(s, n)) {
		memset(s, ' ', n);
		memcpy(s, "-1", 2);
	}
	return n;
}

/* The code unit of an escape \uXXXX at s, or -1. */
static int32_t
read_escape(const char *s, size_t len)
{
	int32_t c = 0;

	if (len < 6 || s[0] != '\\' || s[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++) {
		const char *hex = "0123456789abcdef0123456789ABCDEF", *p = s[i] == '\0' ? NULL : strchr(hex, s[i]);

		if (p == NULL)
			return -1;
		c = c << 4 | (int32_t)((p - hex) & 15);
	}
	return c;
}

/* An escape at s; half a pair of surrogates and NUL become U+FFFD. Returns its length. */
static size_t
repair_escape(char *s, size_t len)
{
	int32_t c = read_escape(s, len), low;

	if (c < 0)
		return 2;
	if (c >= 0xd800 && c < 0xdc00) {
		low = read_escape(s + 6, len - 6);
		if (low >= 0xdc00 && low < 0xe000)
			return 12;
	}
	if (c == 0 || (c >= 0xd800 && c < 0xe000))
		memcpy(s + 2, "fffd", 4);
	return 6;
}

static void
repair_line(char *s, size_t len)
{
	bool string = false;

	for (size_t i = 0; i < len;) {
		if (string && s[i] == '\\')
			i += repair_escape(s + i, len - i);
		else if (s[i] == '"') {
			string = !string;
			i++;
		} else if (!string && (s[i] == '-' || (s[i] >= '0' && s[i] <= '9')))
			i += repair_number(s + i, len - i);
		else
			i++;
	}
}

/* ---- reading -------------------------------------------------------- */

static json_t *
load_json(const char *s, size_t len, json_error_t *e)
{
	return json_loadb(s, len, JSON_ALLOW_NUL, e);
}

/* jansson's text quotes the line's bytes, perhaps half a character at its end. */
static void
explain(const json_error_t *e, char *reason, size_t size)
{
	struct utf8 u;
	char text[3 * (sizeof e->text + 1) + 1];
	size_t n;

	utf8_init(&u);
	n = utf8_feed(&u, e->text, strlen(e->text), text);
	text[n] = '\0';
	if (json_error_code(e) == json_error_stack_overflow)
		snprintf(reason, size, "the JSON is nested too deep near byte %d", e->position);
	else
		snprintf(reason, size, "the line is not JSON near byte %d: %s", e->position, text);
	text_drop_cut(reason);
}

json_t *
json_line_read(const char *line, size_t len, struct buf *scratch, char *reason, size_t size)
{
	json_error_t e;
	json_t *j;

	if (!json_line_check_bytes(line, len, reason, size))
		return NULL;
	if ((j = load_json(line, len, &e)) == NULL && scratch != NULL) {
		buf_clear(scratch);
		buf_add(scratch, line, len);
		if (!scratch->failed) {
			repair_line(scratch->data, len);
			j = load_json(scratch->data, len, &e);
		}
	}
	if (j == NULL) {
		explain(&e, reason, size);
		return NULL;
	}
	if (!json_is_object(j)) {
		snprintf(reason, size, "the line is JSON, but not an object");
		json_decref(j);
		return NULL;
	}
	return j;
}
