/* Standing questions; see watch.h. Loop thread. */
#include "daemon/control/watch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/control/command.h"
#include "stream/json_write.h"

static int
take_string(const json_t *request, const char *name, char **to, struct err *e)
{
	const json_t *j = json_object_get(request, name);

	if (j == NULL)
		return 0;
	if (!json_is_string(j) || json_string_length(j) == 0 || strlen(json_string_value(j)) != json_string_length(j))
		return err_set(e, EX_DATAERR, "%s must be a string with text in it", name);
	return (*to = strdup(json_string_value(j))) != NULL ? 0 : err_set(e, EX_OSERR, "out of memory for a watch");
}

int
watch_init(struct watch *w, const json_t *request, double now, struct err *e)
{
	int has_surprise;

	*w = (struct watch){.last = now};
	has_surprise = command_take_number(request, "surprise", 0, INFINITY, &w->surprise, e);
	w->has_surprise = has_surprise > 0;
	if (has_surprise < 0 || command_take_number(request, "silent", 0, INFINITY, &w->silent, e) < 0 ||
	    take_string(request, "source", &w->source, e) < 0 ||
	    take_string(request, "text", &w->text, e) < 0)
		return -1;
	if (!w->has_surprise && w->silent == 0 && w->source == NULL && w->text == NULL)
		return err_set(e, EX_DATAERR, "a watch needs surprise, source, text or silent");
	return 0;
}

void
watch_fini(struct watch *w)
{
	free(w->id);
	free(w->source);
	free(w->text);
	*w = (struct watch){0};
}

static bool
watch_fits(const struct watch *w, const struct record *r)
{
	if (r->type != RECORD_EVENT)
		return false;
	if (w->has_surprise &&
	    (r->score.scored == 0 || score_get_surprise(r->score.nll, r->score.scored) < w->surprise))
		return false;
	if (w->source != NULL && (strlen(w->source) != r->source_len || memcmp(w->source, r->text, r->source_len) != 0))
		return false;
	return w->text == NULL || (r->text_len > 0 && memmem(r->text, r->text_len, w->text, strlen(w->text)) != NULL);
}

static void
watch_begin(const struct watch *w, struct buf *out, const char *key, const char *why)
{
	envelope_begin(out, key, "alert", w->id);
	json_write_int(out, "watch", w->number);
	json_write_string(out, "why", why, strlen(why));
}

void
watch_take_record(struct watch *w, const struct record *r, double now, struct buf *out, const char *key)
{
	size_t len = r->text_len;

	if (!watch_fits(w, r))
		return;
	w->last = now;
	w->told = false;
	if (w->silent > 0)
		return;
	watch_begin(w, out, key, "event");
	json_write_int(out, "seq", r->seq);
	if (r->score.scored > 0)
		json_write_number(out, "surprise", score_get_surprise(r->score.nll, r->score.scored));
	while (len > 0 && r->text[len - 1] == '\n')
		len--;
	json_write_string(out, "text", r->text, len);
	envelope_end(out);
}

void
watch_look(struct watch *w, double now, struct buf *out, const char *key)
{
	if (w->silent == 0 || w->told || now - w->last < w->silent)
		return;
	w->told = true;
	watch_begin(w, out, key, "silent");
	if (w->source != NULL)
		json_write_string(out, "source", w->source, strlen(w->source));
	json_write_name(out, "seconds");
	buf_printf(out, "%.0f", now - w->last);
	envelope_end(out);
}
