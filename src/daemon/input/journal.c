/* The systemd journal as a feed; see journal.h. Loop thread. */
#include "daemon/input/journal.h"

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"

enum { TURN_ENTRIES = 64 };

struct journal {
	size_t max_line;
	const struct feed_callbacks *callbacks;
	void *arg;
	sd_journal *j;
	struct event *ready, *turn;
	struct origin origin;
	struct line line;
	struct buf text;   /* of the entry in hand */
	bool has_line;     /* it is in line, and not taken yet */
	bool stands;       /* the journal stands on an entry that is still to be read */
	char *cursor;      /* of the last entry that was taken, or before which all were there at the start; or NULL */
	int64_t number;
	bool stopped;
};

static void journal_free(void *feed);
static void journal_resume(void *feed);

/* ---- an entry as a line --------------------------------------------- */

static json_t *
make_value(const char *bytes, size_t len)
{
	json_t *a;

	if (utf8_is_valid(bytes, len) && memchr(bytes, '\0', len) == NULL)
		return json_stringn(bytes, len);
	a = json_array();
	for (size_t i = 0; i < len; i++)
		json_array_append_new(a, json_integer((unsigned char)bytes[i]));
	return a;
}

/* A field that an entry has several times is an array of its values. */
static void
add_field(json_t *o, const char *data, size_t len)
{
	const char *equals = memchr(data, '=', len);
	char name[128];
	size_t n = equals == NULL ? 0 : (size_t)(equals - data);
	json_t *value, *before, *both;

	/* The journal allows no such names, but its files may come from anywhere. */
	if (n == 0 || n >= sizeof name || memchr(data, '\0', n) != NULL)
		return;
	memcpy(name, data, n);
	name[n] = '\0';
	value = make_value(equals + 1, len - n - 1);
	if ((before = json_object_get(o, name)) == NULL) {
		json_object_set_new(o, name, value);
		return;
	}
	/* Bytes are an array as well; those hold numbers. */
	if (json_is_array(before) && !json_is_integer(json_array_get(before, 0))) {
		json_array_append_new(before, value);
		return;
	}
	both = json_array();
	json_array_append(both, before);
	json_array_append_new(both, value);
	json_object_set_new(o, name, both);
}

/* When the entry was made, and in which boot: its address, which the journal keeps besides its fields. */
static void
add_times(struct journal *f, json_t *o)
{
	uint64_t usec;
	sd_id128_t boot;
	char hex[SD_ID128_STRING_MAX];

	if (sd_journal_get_realtime_usec(f->j, &usec) >= 0) {
		json_object_set_new(o, "__REALTIME_TIMESTAMP", json_sprintf("%" PRIu64, usec));
		f->origin.time = (int64_t)usec;
	}
	if (sd_journal_get_monotonic_usec(f->j, &usec, &boot) >= 0) {
		json_object_set_new(o, "__MONOTONIC_TIMESTAMP", json_sprintf("%" PRIu64, usec));
		json_object_set_new(o, "_BOOT_ID", json_string(sd_id128_to_string(boot, hex)));
	}
}

/* The entry that the journal stands on. Returns 0, or -1 with *e set. */
static int
journal_read_entry(struct journal *f, struct err *e)
{
	static const char boot[] = "_BOOT_ID=";
	json_t *o = json_object();
	char *cursor = NULL, *text;
	const void *data;
	size_t len;

	if (sd_journal_get_cursor(f->j, &cursor) >= 0)
		json_object_set_new(o, "__CURSOR", json_string(cursor));
	free(cursor);
	add_times(f, o);
	sd_journal_restart_data(f->j);
	while (sd_journal_enumerate_available_data(f->j, &data, &len) > 0)
		if (len < strlen(boot) || memcmp(data, boot, strlen(boot)) != 0) /* add_times has it */
			add_field(o, data, len);
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	buf_clear(&f->text);
	buf_trim(&f->text, 1 << 16);
	if (text != NULL)
		buf_add(&f->text, text, strlen(text));
	free(text);
	if (text == NULL || f->text.failed)
		return err_set(e, EX_OSERR, "out of memory for a journal entry");
	f->line = (struct line){
		.data = f->text.data,
		.len = f->text.len < f->max_line ? f->text.len : f->max_line,
		.number = f->number + 1,
		.cut = f->text.len > f->max_line,
	};
	f->has_line = true;
	return 0;
}

/* ---- reading -------------------------------------------------------- */

static void
journal_finish(struct journal *f, const struct err *e)
{
	journal_ops.stop(f);
	f->callbacks->end(f->arg, e);
}

/* Returns false when the line was not taken. */
static bool
give_line(struct journal *f)
{
	char *cursor = NULL;

	if (!f->callbacks->line(f->arg, &f->origin, &f->line))
		return false;
	f->has_line = false;
	f->number++;
	if (sd_journal_get_cursor(f->j, &cursor) >= 0) {
		free(f->cursor);
		f->cursor = cursor;
	}
	return true;
}

/* Returns 1, 0 when there is no more now, or -1 with *e set. */
static int
next_entry(struct journal *f, struct err *e)
{
	int rc = 1;

	if (f->stands)
		f->stands = false;
	else
		rc = sd_journal_next(f->j);
	if (rc < 0)
		return err_set(e, EX_IOERR, "cannot read the journal: %s", strerror(-rc));
	if (rc > 0 && journal_read_entry(f, e) < 0)
		return -1;
	return rc;
}

/* Some file systems tell of no change: the library says when to look again. */
static void
wait_for_entries(struct journal *f)
{
	uint64_t until, now;
	struct timeval in;

	event_add(f->ready, NULL);
	if (sd_journal_get_timeout(f->j, &until) < 0 || until == UINT64_MAX)
		return;
	now = (uint64_t)clock_get_usec();
	until = until > now ? until - now : 0;
	in = (struct timeval){(time_t)(until / 1000000), (suseconds_t)(until % 1000000)};
	evtimer_add(f->turn, &in);
}

static void
journal_on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct journal *f = arg;
	struct err e = {0};
	int rc = 1;

	(void)fd;
	(void)what;
	for (int i = 0; i < TURN_ENTRIES && !f->stopped; i++) {
		if (f->has_line && !give_line(f))
			return;
		if (f->stopped)
			return;
		if ((rc = next_entry(f, &e)) <= 0)
			break;
	}
	if (rc < 0)
		journal_finish(f, &e);
	else if (rc == 0 && !f->stopped)
		wait_for_entries(f);
	else
		journal_resume(f);
}

static void
journal_on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct journal *f = arg;

	(void)fd;
	(void)what;
	sd_journal_process(f->j);
	journal_resume(f);
}

/* ---- where it has come to ------------------------------------------- */

static void
journal_save(const void *feed, json_t *state)
{
	const struct journal *f = feed;

	json_object_set_new(state, "journal", json_pack("{s:s*, s:I}", "cursor", f->cursor, "line",
	    (json_int_t)f->number));
}

static int
seek_cursor(struct journal *f, const char *cursor)
{
	int rc;

	/* Kept even if no entry is there any more: the next checkpoint must not lose the place. */
	if ((f->cursor = strdup(cursor)) == NULL)
		return -ENOMEM;
	if ((rc = sd_journal_seek_cursor(f->j, cursor)) < 0 || (rc = sd_journal_next(f->j)) <= 0)
		return rc;
	/* The entry may be gone; then this is the first one after it. */
	f->stands = sd_journal_test_cursor(f->j, cursor) <= 0;
	return 0;
}

static int
seek_end(struct journal *f)
{
	int rc = sd_journal_seek_tail(f->j);

	if (rc < 0 || (rc = sd_journal_previous(f->j)) < 0)
		return rc;
	return rc == 0 ? sd_journal_seek_head(f->j) : sd_journal_get_cursor(f->j, &f->cursor);
}

static int
journal_begin(struct journal *f, const struct journal_options *o, struct err *e)
{
	const json_t *state = o->state == NULL ? NULL : json_object_get(o->state, "journal");
	const char *cursor = json_string_value(json_object_get(state, "cursor"));
	int rc;

	f->number = json_integer_value(json_object_get(state, "line"));
	if (f->number < 0 || f->number > FEED_COUNT_MAX)
		return err_set(e, EX_CONFIG, "the state does not say where in the journal it was");
	if (cursor != NULL)
		rc = seek_cursor(f, cursor);
	else if (state == NULL && o->from_end)
		rc = seek_end(f);
	else
		rc = sd_journal_seek_head(f->j);
	return rc < 0 ? err_set(e, EX_NOINPUT, "cannot find the place in the journal: %s", strerror(-rc)) : 0;
}

/* ---- start and end -------------------------------------------------- */

/* What this process may do with the files of a journal. */
struct rights {
	bool reads;   /* one of them */
	bool refused; /* by one of them, or by a folder of them */
};

static void
look_for_files(const char *folder, struct rights *r)
{
	static const char *const kinds[] = {"", "/*", "/*.journal", "/*/*.journal"};

	for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
		char pattern[4096];
		glob_t g = {0};

		snprintf(pattern, sizeof pattern, "%s%s", folder, kinds[k]);
		(void)glob(pattern, 0, NULL, &g);
		for (size_t i = 0; i < g.gl_pathc; i++) {
			const char *path = g.gl_pathv[i];
			size_t len = strlen(path);

			if (access(path, R_OK) < 0)
				r->refused |= errno == EACCES;
			else
				r->reads |= len > 8 && strcmp(path + len - 8, ".journal") == 0;
		}
		globfree(&g);
	}
}

/* The library passes over files that may not be read: a reader without rights would wait for ever. */
static int
check_rights(const char *folder, struct err *e)
{
	struct rights r = {0};

	if (folder != NULL)
		look_for_files(folder, &r);
	else {
		look_for_files("/run/log/journal", &r);
		look_for_files("/var/log/journal", &r);
	}
	if (!r.reads && r.refused)
		return err_set(e, EX_NOINPUT, "this user may not read the journal: its readers are in the group "
		    "systemd-journal; for a service add SupplementaryGroups=systemd-journal, see sinkd-service(7)");
	if (r.refused)
		log_message(LOG_WARNING, "this user may read only a part of the journal: the group systemd-journal "
		    "reads all of it");
	else if (!r.reads)
		log_message(LOG_WARNING, "there is no journal yet: sinkd waits for one");
	return 0;
}

static int
add_matches(sd_journal *j, const char *matches, struct err *e)
{
	char *copy = strdup(matches), *rest = copy, *word;
	int rc = 0;

	if (copy == NULL)
		return err_set(e, EX_OSERR, "out of memory for the journal");
	while (rc >= 0 && (word = strsep(&rest, " \t")) != NULL) {
		if (*word == '\0')
			continue;
		rc = strcmp(word, "+") == 0 ? sd_journal_add_disjunction(j) : sd_journal_add_match(j, word, 0);
		if (rc < 0)
			err_set(e, EX_USAGE, "--journal-match must be words FIELD=VALUE and +, not '%s'", word);
	}
	free(copy);
	return rc < 0 ? -1 : 0;
}

/* Open it with the rights and the matches that o asks for. Returns NULL with *e set. */
static sd_journal *
journal_open(const struct journal_options *o, struct err *e)
{
	sd_journal *j = NULL;
	int rc = o->directory != NULL ? sd_journal_open_directory(&j, o->directory, 0) :
	    sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY);

	if (rc < 0) {
		err_set(e, EX_NOINPUT, "cannot open the journal%s%s: %s", o->directory == NULL ? "" : " in ",
		    o->directory == NULL ? "" : o->directory, strerror(-rc));
		return NULL;
	}
	if (check_rights(o->directory, e) == 0 && (o->matches == NULL || add_matches(j, o->matches, e) == 0))
		return j;
	sd_journal_close(j);
	return NULL;
}

int
journal_check(const struct journal_options *o, struct err *e)
{
	sd_journal *j = journal_open(o, e);

	sd_journal_close(j);
	return j == NULL ? -1 : 0;
}

/* Returns the descriptor that tells of new entries, or -1 with *e set. */
static int
journal_prepare(struct journal *f, struct err *e)
{
	int fd;

	sd_journal_set_data_threshold(f->j, f->max_line);
	if ((fd = sd_journal_get_fd(f->j)) < 0)
		return err_set(e, EX_NOINPUT, "cannot wait for the journal: %s", strerror(-fd));
	return fd;
}

struct journal *
journal_new(struct event_base *base, const struct journal_options *o, const struct feed_callbacks *callbacks,
    void *arg, struct err *e)
{
	struct journal *f = calloc(1, sizeof *f);
	int fd;

	if (f == NULL) {
		err_set(e, EX_OSERR, "out of memory for the journal");
		return NULL;
	}
	f->max_line = o->max_line;
	f->callbacks = callbacks;
	f->arg = arg;
	f->origin = (struct origin){.name = "journal", .format = READER_JOURNAL};
	if ((f->j = journal_open(o, e)) == NULL || (fd = journal_prepare(f, e)) < 0 ||
	    journal_begin(f, o, e) < 0)
		goto fail;
	f->ready = event_new(base, fd, EV_READ, journal_on_ready, f);
	f->turn = evtimer_new(base, journal_on_turn, f);
	if (f->ready != NULL && f->turn != NULL)
		return f;
	err_set(e, EX_OSERR, "out of memory for the journal");
fail:
	journal_free(f);
	return NULL;
}

static void
journal_free(void *feed)
{
	struct journal *f = feed;

	if (f->ready != NULL)
		event_free(f->ready);
	if (f->turn != NULL)
		event_free(f->turn);
	if (f->j != NULL)
		sd_journal_close(f->j);
	buf_fini(&f->text);
	free(f->cursor);
	free(f);
}

static void
journal_resume(void *feed)
{
	static const struct timeval now = {0, 0};
	struct journal *f = feed;

	if (!f->stopped)
		evtimer_add(f->turn, &now);
}

static void
journal_stop(void *feed)
{
	struct journal *f = feed;

	f->stopped = true;
	event_del(f->ready);
	evtimer_del(f->turn);
}

const struct feed_ops journal_ops = {journal_resume, journal_stop, journal_free, journal_save};
