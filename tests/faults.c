/*
 * Every call that can fail, does, at every point of a scene (see scenes.c), and tables say what became of it.
 * Exits 1 if something went wrong. See usage.
 */
#include <signal.h>
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
	const char *path; /* as in struct scene_fault */
} rows[] = {
	{"malloc", "ENOMEM", true, NULL},
	{"calloc", "ENOMEM", true, NULL},
	{"realloc", "ENOMEM", true, NULL},
	{"aligned_alloc", "ENOMEM", true, NULL},
	{"mmap", "ENOMEM", true, NULL},
	{"open", "EMFILE", true, NULL},
	{"open", "EIO", false, NULL},
	{"openat", "EMFILE", true, NULL},
	{"openat", "ENOSPC", true, NULL},
	{"fopen", "EMFILE", true, NULL},
	{"fdopen", "ENOMEM", true, NULL},
	{"opendir", "EMFILE", true, NULL},
	{"mkdir", "ENOSPC", false, NULL},
	{"read", "EIO", true, "/"}, /* not sockets and eventfds, which have no such error */
	{"read", "EINTR", false, NULL},
	{"read", "short", true, NULL},
	{"pread", "EIO", true, NULL},
	{"pread", "short", true, NULL},
	{"write", "EIO", true, "/"}, /* nor this one */
	{"write", "ENOSPC", true, "/"},
	{"write", "EINTR", false, "/"},
	{"write", "short", true, NULL},
	{"pwrite", "EIO", true, NULL},
	{"pwrite", "ENOSPC", true, NULL},
	{"pwrite", "short", true, NULL},
	{"fwrite", "ENOSPC", true, NULL},
	{"fwrite", "short", true, NULL},
	{"fclose", "EIO", true, NULL},
	{"fsync", "EIO", true, NULL},
	{"fdatasync", "ENOSPC", true, NULL},
	{"fdatasync", "EIO", true, NULL},
	{"rename", "EIO", true, NULL},
	{"renameat", "EIO", true, NULL},
	{"renameat", "ENOSPC", true, NULL},
	{"link", "EIO", true, NULL},
	{"unlink", "EIO", false, NULL},
	{"unlinkat", "EIO", true, NULL},
	{"ftruncate", "EIO", true, NULL},
	{"fstat", "EIO", true, NULL},
	{"stat", "ENOMEM", true, NULL},
	{"lstat", "ENOMEM", true, NULL},
	{"dup", "EMFILE", true, NULL},
	{"fcntl", "EMFILE", true, NULL},
	{"dup3", "EMFILE", true, NULL},
	{"pipe2", "EMFILE", false, NULL},
	{"socketpair", "EMFILE", false, NULL},
	{"socket", "EMFILE", true, NULL},
	{"bind", "ENOSPC", false, NULL},
	{"listen", "ENOMEM", false, NULL},
	{"accept4", "EMFILE", false, NULL},
	{"accept4", "ENOMEM", false, NULL},
	{"accept4", "EINTR", false, NULL},
	{"accept4", "EAGAIN", false, NULL},
	{"accept4", "ECONNABORTED", false, NULL},
	{"recv", "ENOMEM", false, NULL},
	{"recv", "EINTR", false, NULL},
	{"recv", "short", true, NULL},
	{"send", "ENOMEM", false, NULL},
	{"send", "EINTR", false, NULL},
	{"send", "EAGAIN", false, NULL},
	{"send", "short", true, NULL},
	{"poll", "EINTR", false, NULL},
	{"poll", "ENOMEM", false, NULL},
	{"epoll_create1", "EMFILE", true, NULL},
	{"epoll_ctl", "ENOMEM", true, NULL},
	{"epoll_wait", "EINTR", false, NULL},
	{"epoll_wait", "EIO", false, NULL},
	{"eventfd", "EMFILE", true, NULL},
	{"inotify_init1", "EMFILE", true, NULL},
	{"inotify_add_watch", "ENOSPC", true, NULL},
	{"pthread_create", "EAGAIN", true, NULL},
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
	int tried, went_on, ended[CODES], terminated;
};

static void
tell(const struct scene_fault *f, const struct place *p, const struct scene_result *r)
{
	const char *line = r->errors, *end;

	bad++;
	printf("# %s %s %s, %s, number %ld: %s\n", f->calls, f->how, f->ever ? "from then on" : "once", p->name,
	    f->from, r->why);
	for (int i = 0; i < SHOWN && (end = strchr(line, '\n')) != NULL; i++, line = end + 1)
		printf("#   %.*s\n", (int)(end - line), line);
	fflush(stdout);
}

/* A fault that stays has a last checkpoint tried three times, which takes seconds: a sample has fewer of them. */
static long
get_next(const struct scene_fault *f)
{
	return f->from + 1 + (thinned == 0 ? 0 : (f->ever ? 3 : 1) * f->from / thinned);
}

static void
try_points(struct scene_fault *f, const struct place *p, struct tally *t)
{
	f->in_loop = p->in_loop;
	f->resumed = p->resumed;
	for (f->from = 1; f->from <= POINTS; f->from = get_next(f)) {
		struct scene_result r;

		scene_try(f, &r);
		if (r.why[0] != '\0')
			tell(f, p, &r);
		free(r.errors);
		if (!r.struck)
			return;
		t->tried++;
		t->went_on += r.code == 0;
		t->terminated += r.code == -SIGTERM;
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
	if (t->terminated > 0)
		printf("%s SIGTERM as it ended: %d", comma, t->terminated);
	printf(" |\n");
	fflush(stdout);
}

static void
try_row(const struct row *row)
{
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		for (int ever = 0; ever <= row->ever && (ever == 0 || !places[i].in_loop || thinned == 0); ever++) {
			struct scene_fault f = {.calls = row->call, .how = row->how, .path = row->path, .ever = ever};
			struct tally t = {0};

			try_points(&f, &places[i], &t);
			print_tally(row, ever ? "from then on" : "once", places[i].name, &t);
		}
}

/* One point by itself, which leaves its files in the folder. */
static int
try_one(char **argv)
{
	struct scene_fault f = {.calls = argv[0], .how = argv[1], .ever = strcmp(argv[2], "ever") == 0,
	    .from = atol(argv[4])};

	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		struct scene_result r;

		if (strcmp(places[i].name, argv[3]) != 0)
			continue;
		f.in_loop = places[i].in_loop;
		f.resumed = places[i].resumed;
		scene_try(&f, &r);
		printf("%s, code %d, %s\n%s", r.struck ? "struck" : "not struck", r.code, r.why[0] == '\0' ? "well"
		    : r.why, r.errors);
		free(r.errors);
		return r.why[0] != '\0';
	}
	return EX_USAGE;
}

static int
usage(void)
{
	fprintf(stderr, "usage: faults SINKD MODEL LIBRARY THINNED [CALL...]\n"
	    "       faults SINKD MODEL LIBRARY one CALL FAULT once|ever start|loop|restart NUMBER\n"
	    "in an empty folder. THINNED: 0 tries every point up to %d of each row; a number K, the more the farther\n"
	    "they are from the start the fewer: after point N comes N + 1 + N / K, and of faults that stay there are "
	    "fewer.\n", POINTS);
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
	if (strcmp(argv[4], "one") == 0)
		return argc == 10 ? try_one(argv + 5) : usage();
	thinned = atol(argv[4]);
	printf("| call | fault | how often | counted from | points | went on | ended, by exit code "
	    "|\n|---|---|---|---|---|---|---|\n");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (is_named(rows[i].call, argv + 5, argc - 5))
			try_row(&rows[i]);
	return bad > 0;
}
