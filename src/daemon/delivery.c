/* Who gets which line; see delivery.h. Loop thread. */
#include "daemon/delivery.h"

#include "stream/annotate.h"

enum { KEEP = 1 << 17 }; /* bytes of scratch memory kept after a long line */

void
delivery_fini(struct delivery *d)
{
	buf_fini(&d->line);
}

/* A fresh line, and no memory of a long one. */
static void
delivery_clear(struct delivery *d)
{
	buf_clear(&d->line);
	buf_trim(&d->line, KEEP);
}

void
delivery_take_line(struct delivery *d, const char *line, size_t len)
{
	d->failed |= !destinations_write(d->destinations, line, len);
	if (d->control != NULL)
		control_publish_line(d->control, line, len);
}

void
delivery_tell_skips(struct delivery *d)
{
	if (d->skips.count == 0)
		return;
	delivery_clear(d);
	skips_write(&d->skips, &d->line, d->key);
	delivery_take_line(d, d->line.data, d->line.len);
}

/* Its producer is told of the one event that it gave and that was left out; all others of all at once, later. */
static void
skip(struct delivery *d, const struct record *r)
{
	struct skips one = {0};

	d->skipped++;
	skips_add(&d->skips, r);
	if (d->producers == NULL || r->peer == 0)
		return;
	skips_add(&one, r);
	delivery_clear(d);
	skips_write(&one, &d->line, d->key);
	producers_give(d->producers, r->peer, d->line.data, d->line.len);
}

void
delivery_take_record(struct delivery *d, const struct record *r)
{
	if (r->type == RECORD_SKIPPED) {
		skip(d, r);
		return;
	}
	delivery_tell_skips(d);
	if (r->type == RECORD_ERROR)
		d->errors++;
	else
		d->events++;
	delivery_clear(d);
	annotate_write(&d->line, r, d->key);
	d->failed |= d->line.failed || !destinations_write(d->destinations, d->line.data, d->line.len);
	stats_take_record(d->stats, r);
	if (d->control != NULL)
		control_publish_record(d->control, r, d->line.data, d->line.len);
	if (d->producers != NULL)
		producers_give(d->producers, r->peer, d->line.data, d->line.len);
	delivery_clear(d);
}
