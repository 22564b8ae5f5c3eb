/*
 * Every call that can fail, does, at every point of a scene (see scenes.c), and tables say what became of it.
 * Exits 1 if something went wrong. See usage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "scenes.h"

enum { POINTS = 500, SHOWN = 8, /* lines of messages */ CODES = EX__MAX - EX__BASE + 1 };

/* What is tried: once at each point, and if `ever`, also at that point and all that follow. */
static const struct row {
	const char *call, *how;
	bool ever;
} rows[] = {
	{"malloc", "ENOMEM", true},
	{"calloc", "ENOMEM", true},
	{"realloc", "ENOMEM", true},
	{"aligned_alloc", "ENOMEM", true},
	{"mmap", "ENOMEM", true},
	{"open", "EMFILE", true},
	{"open", "EIO", false},
	{"open", "ENOSPC", false},
	{"openat", "EMFILE", true},
	{"fopen", "EMFILE", true},
	{"fdopen", "ENOMEM", true},
	{"opendir", "EMFILE", true},
	{"mkdir", "ENOSPC", false},
	{"read", "EIO", true},
	{"read", "EINTR", false},
	{"read", "short", true},
	{"pread", "EIO", true},
	{"pread", "short", true},
	{"write", "EIO", true},
	{"write", "ENOSPC", true},
	{"write", "EINTR", false},
	{"write", "short", true},
	{"pwrite", "EIO", true},
	{"pwrite", "ENOSPC", true},
	{"pwrite", "short", true},
	{"fwrite", "ENOSPC", true},
	{"fwrite", "short", true},
	{"fclose", "EIO", true},
	{"fsync", "EIO", true},
	{"fdatasync", "ENOSPC", true},
	{"fdatasync", "EIO", true},
	{"rename", "EIO", true},
	{"rename", "ENOSPC", true},
	{"link", "EIO", true},
	{"unlink", "EIO", false},
	{"ftruncate", "EIO", true},
	{"fstat", "EIO", true},
	{"stat", "ENOMEM", true},
	{"dup", "EMFILE", true},
	{"dup3", "EMFILE", true},
	{"socket", "EMFILE", true},
	{"bind", "ENOSPC", false},
	{"listen", "ENOMEM", false},
	{"accept4", "EMFILE", false},
	{"accept4", "ENOMEM", false},
	{"accept4", "EINTR", false},
	{"accept4", "EAGAIN", false},
	{"accept4", "ECONNABORTED", false},
	{"recv", "ECONNRESET", false},
	{"recv", "EINTR", false},
	{"recv", "short", true},
	{"send", "ENOMEM", false},
	{"send", "EINTR", false},
	{"send", "EAGAIN", false},
	{"send", "short", true},
	{"poll", "EINTR", false},
	{"poll", "ENOMEM", false},
	{"epoll_create1", "EMFILE", true},
	{"epoll_ctl", "ENOMEM", true},
	{"epoll_wait", "EINTR", false},
	{"epoll_wait", "EIO", false},
	{"eventfd", "EMFILE", true},
	{"inotify_init1", "EMFILE", true},
	{"inotify_add_watch", "ENOSPC", true},
	{"pthread_create", "EAGAIN", true},
};

/* Where the points of a row are counted from. */
static const struct place {
	const char *name;
	bool in_loop, resumed;
} places[] = {
	{"start", false, false},
	{"loop", true, false},
	{"restart", false, true},
};

static long thinned; /* 0: every point; else the distance between points grows by one in so many */
static int bad;

struct tally {
	int tried, went_on, ended[CODES];
};

static void
tell(const struct scene_fault *f, const struct place *p, const struct scene_result *r)
{
	const char *line = r->errors, *end;

	bad++;
	printf("# %s %s %s, %s, number %ld: %s\n", f->calls, f->how, f->ever ? "from then on" : "once", p->name, f->from,
	    r->why);
	for (int i = 0; i < SHOWN && (end = strchr(line, '\n')) != NULL; i++, line = end + 1)
		printf("#   %.*s\n", (int)(end - line), line);
	fflush(stdout);
}

static void
try_points(struct scene_fault *f, const struct place *p, struct tally *t)
{
	f->in_loop = p->in_loop;
	f->resumed = p->resumed;
	for (f->from = 1; f->from <= POINTS; f->from += 1 + (thinned == 0 ? 0 : f->from / thinned)) {
		struct scene_result r;

		scene_try(f, &r);
		if (r.why[0] != '\0')
			tell(f, p, &r);
		free(r.errors);
		if (!r.struck)
			return;
		t->tried++;
		t->went_on += r.code == 0;
		if (r.code >= EX__BASE && r.code <= EX__MAX)
			t->ended[r.code - EX__BASE]++;
	}
}

static void
print_tally(const struct row *row, const char *times, const char *where, const struct tally *t)
{
	const char *comma = "";

	if (t->tried == 0)
		return;
	printf("| %s | %s | %s | %s | %d | %d |", row->call, row->how, times, where, t->tried, t->went_on);
	for (int i = 0; i < CODES; i++)
		if (t->ended[i] > 0) {
			printf("%s %d: %d", comma, EX__BASE + i, t->ended[i]);
			comma = ",";
		}
	printf(" |\n");
	fflush(stdout);
}

static void
try_row(const struct row *row)
{
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		for (int ever = 0; ever <= row->ever; ever++) {
			struct scene_fault f = {.calls = row->call, .how = row->how, .ever = ever};
			struct tally t = {0};

			try_points(&f, &places[i], &t);
			print_tally(row, ever ? "from then on" : "once", places[i].name, &t);
		}
}

static int
usage(void)
{
	fprintf(stderr, "usage: faults SINKD MODEL LIBRARY THINNED [CALL...]\n"
	    "in an empty folder. THINNED: 0 tries every point up to %d of each row; a number K, the more the farther\n"
	    "they are from the start the fewer: after point N comes N + 1 + N / K.\n", POINTS);
	return EX_USAGE;
}

static bool
is_named(const char *call, char **names, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(names[i], call) == 0)
			return true;
	return n == 0;
}

int
main(int argc, char **argv)
{
	if (argc < 5)
		return usage();
	scene_open(argv[1], argv[2], argv[3]);
	thinned = atol(argv[4]);
	printf("| call | fault | how often | counted from | points | went on | ended, by exit code |\n|---|---|---|---|---|---|---|\n");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (is_named(rows[i].call, argv + 5, argc - 5))
			try_row(&rows[i]);
	return bad > 0;
}
