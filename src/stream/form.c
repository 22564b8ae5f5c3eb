/* Forms of input objects; see form.h and sinkd-protocol(7), INPUT FORMS. */
#include "stream/form.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "stream/text.h"

/* In the order in which they are tried. */
static const struct form forms[] = {
	{
		/* journalctl -o json: systemd.journal-fields(7) */
		.name = "journal",
		.any = {"MESSAGE", "__CURSOR", "__REALTIME_TIMESTAMP"},
		.text = {"MESSAGE"},
		.source = {"SYSLOG_IDENTIFIER", "_COMM", "_SYSTEMD_UNIT"},
	},
	{
		/* Docker's json-file and fluentd drivers, and what reads like them */
		.name = "container",
		.any = {"log"},
		.and_any = {"stream", "time", "container_name"},
		.text = {"log"},
		.source = {"container_name", "stream"},
	},
	{
		.name = "chat",
		.any = {"from", "role"},
		.and_any = {"text", "content"},
		.text = {"text", "content"},
		.source = {"from", "role"},
	},
};

static const struct form generic = {
	.name = "generic",
	.text = {"text", "message", "msg"},
	.source = {"source", "logger", "service"},
};

static bool
has_any(const json_t *object, const char *const *names)
{
	for (int i = 0; i < 4 && names[i] != NULL; i++)
		if (json_object_get(object, names[i]) != NULL)
			return true;
	return false;
}

const struct form *
form_find(const char *name)
{
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
		if (strcmp(forms[i].name, name) == 0)
			return &forms[i];
	return NULL;
}

const struct form *
form_detect(const json_t *object)
{
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
		if (has_any(object, forms[i].any) && (forms[i].and_any[0] == NULL || has_any(object, forms[i].and_any)))
			return &forms[i];
	return &generic;
}

/* ---- values --------------------------------------------------------- */

/* The journal writes a value that is not UTF-8 as an array of its bytes. */
static bool
is_bytes(const json_t *array)
{
	size_t n = json_array_size(array);

	for (size_t i = 0; i < n; i++) {
		const json_t *v = json_array_get(array, i);

		if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 255)
			return false;
	}
	return n > 0;
}

static void
add_byte_array(struct buf *out, const json_t *array)
{
	size_t n = json_array_size(array);
	struct buf bytes = {0};
	char *p = buf_reserve(&bytes, n);

	for (size_t i = 0; p != NULL && i < n; i++)
		p[i] = (char)json_integer_value(json_array_get(array, i));
	if (p != NULL)
		text_add_clean(out, p, n);
	else
		out->failed = true;
	buf_fini(&bytes);
}

/* One value that may be an element: a string, an array of bytes, or a part of a chat message. */
static void
add_element(struct buf *out, const json_t *v)
{
	if (json_is_object(v))
		v = json_object_get(v, "text");
	if (json_is_string(v))
		buf_add(out, json_string_value(v), json_string_length(v));
	else if (json_is_array(v) && is_bytes(v))
		add_byte_array(out, v);
}

static void
add_field_value(struct buf *out, const json_t *v)
{
	bool first = true;

	if (!json_is_array(v) || is_bytes(v)) {
		add_element(out, json_is_object(v) ? NULL : v);
		return;
	}
	for (size_t i = 0; i < json_array_size(v); i++) {
		size_t before = out->len;

		if (!first)
			buf_add(out, "\n", 1);
		add_element(out, json_array_get(v, i));
		if (out->len == before + !first)
			out->len = before; /* nothing came: take the newline back */
		else
			first = false;
	}
}

void
form_add_text(struct buf *out, const json_t *object, const char *const *names, char *reason, size_t size)
{
	const char *seen = NULL, *kind = "not text";

	for (int i = 0; i < 4 && names[i] != NULL; i++) {
		const json_t *v = json_object_get(object, names[i]);
		size_t before = out->len;

		if (v == NULL)
			continue;
		add_field_value(out, v);
		if (out->len > before)
			return;
		if (seen == NULL) {
			seen = names[i];
			kind = json_is_null(v) ? "null" : json_is_string(v) ? "empty" : "not text";
		}
	}
	if (seen != NULL)
		snprintf(reason, size, "%s is %s", seen, kind);
	else if (names[1] == NULL)
		snprintf(reason, size, "there is no member %s", names[0]);
	else if (names[2] == NULL)
		snprintf(reason, size, "there is no member %s or %s", names[0], names[1]);
	else
		snprintf(reason, size, "there is no member %s, %s or %s", names[0], names[1], names[2]);
}
