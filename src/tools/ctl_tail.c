/* Which events sinkctl's tail shows; see ctl.h. */
#include <stdlib.h>
#include <string.h>

#include "tools/ctl.h"

static const char *const levels[] = {"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"};

int
ctl_read_top(const char *text, double *share, struct err *e)
{
	char *end;
	double percent = strtod(text, &end);

	if (end == text || (*end != '\0' && strcmp(end, "%") != 0) || !(percent >= 0.1 && percent <= 100))
		return err_set(e, EX_USAGE, "--top must be a percentage from 0.1 to 100, such as 1%%, not '%s'", text);
	*share = percent / 100;
	return 0;
}

/* Of an entry of the journal, 0 to 7, or 8: it has none. */
static int
get_priority(const json_t *line)
{
	const json_t *j = json_object_get(line, "PRIORITY");
	const char *text = json_string_value(j);

	if (json_is_integer(j) && json_integer_value(j) >= 0 && json_integer_value(j) < 8)
		return (int)json_integer_value(j);
	return text != NULL && text[0] >= '0' && text[0] <= '7' && text[1] == '\0' ? text[0] - '0' : 8;
}

int
ctl_read_priority(const char *text, int *priority, struct err *e)
{
	if (strcmp(text, "none") == 0) {
		*priority = -1;
		return 0;
	}
	for (int i = 0; i < 8; i++)
		if (strcmp(text, levels[i]) == 0 || (text[0] == '0' + i && text[1] == '\0')) {
			*priority = i;
			return 0;
		}
	return err_set(e, EX_USAGE,
	    "--priority must be emerg, alert, crit, err, warning, notice, info, debug, a number from "
	    "0 to 7, or none, not '%s'", text);
}

/* Where v belongs in sorted[n], which ascends: behind all that are less. */
static int
ctl_tail_find_place(const double *sorted, int n, double v)
{
	int low = 0, high = n;

	while (low < high) {
		int middle = (low + high) / 2;

		if (sorted[middle] < v)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

double
ctl_rank(struct ctl_recent *r, double v)
{
	double *oldest = &r->ring[r->next];
	int at;

	if (r->n == CTL_RECENT) {
		at = ctl_tail_find_place(r->sorted, r->n, *oldest);
		memmove(r->sorted + at, r->sorted + at + 1, (size_t)(--r->n - at) * sizeof *r->sorted);
	}
	*oldest = v;
	r->next = (r->next + 1) % CTL_RECENT;
	at = ctl_tail_find_place(r->sorted, r->n, v);
	memmove(r->sorted + at + 1, r->sorted + at, (size_t)(r->n++ - at) * sizeof *r->sorted);
	r->sorted[at] = v;
	/* The highest of a few events is as high as can be told. */
	return r->n - at == 1 ? 0 : (double)(r->n - at) / r->n;
}

bool
ctl_tail_wants(struct ctl_tail *t, const json_t *line, const json_t *own)
{
	const char *type = json_string_value(json_object_get(own, "type"));
	const json_t *surprise = json_object_get(own, "surprise");
	double v = json_number_value(surprise);

	t->rank = 1;
	if (type == NULL || strcmp(type, "event") != 0)
		return true;
	if (json_is_number(surprise))
		t->rank = ctl_rank(&t->recent, v);
	if (t->top < 1 && get_priority(line) <= t->priority)
		return true;
	if (!json_is_number(surprise))
		return t->top >= 1 && t->min_surprise < 0;
	return t->rank <= t->top && v >= t->min_surprise;
}
