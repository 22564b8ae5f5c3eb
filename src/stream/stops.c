/* How a model takes turns; see stops.h. */
#include "stream/stops.h"

#include <stdio.h>
#include <string.h>

/* The text of a special token, or "". */
static void
copy_special(struct tokenizer *t, int32_t id, char *text, size_t size)
{
	size_t len = 0;
	const char *bytes = id >= 0 ? tokenizer_decode(t, id, true, true, &len) : "";

	snprintf(text, size, "%.*s", (int)len, bytes);
}

int
stops_learn(struct stops *s, struct chat_template *turns, const struct model *m, struct tokenizer *t, struct err *e)
{
	const struct model_info *info = model_get_info(m);
	char bos[CHAT_TEMPLATE_TEXT], eos[CHAT_TEMPLATE_TEXT];

	copy_special(t, info->bos, bos, sizeof bos);
	copy_special(t, info->eos, eos, sizeof eos);
	chat_template_recognise(turns, info->chat_template, bos, eos);
	if (info->eos >= 0)
		s->ids[s->n++] = info->eos;
	for (const char *const *stop = turns->stops; *stop != NULL; stop++) {
		const int32_t *ids;
		int64_t n = tokenizer_encode(t, *stop, strlen(*stop), TOKENIZER_PARSE_SPECIAL, &ids, e);

		if (n < 0)
			return -1;
		if (n == 1)
			s->ids[s->n++] = ids[0];
	}
	return 0;
}

bool
stops_have(const struct stops *s, int32_t id)
{
	for (int i = 0; i < s->n; i++)
		if (s->ids[i] == id)
			return true;
	return false;
}
