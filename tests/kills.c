/*
 * sinkd is killed before and after every call that touches its state or its output, in each of a few scenes (see
 * scenes.c). Prints a table, and exits 1 if an output is not what it would have been. See usage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "scenes.h"

static const char calls[] = "open,openat,mkdir,read,pread,write,pwrite,fwrite,fclose,fsync,fdatasync,fstat,ftruncate,"
    "rename,renameat,link,unlink,unlinkat,dup,dup3,fcntl,mmap";

/* The same call once more: what a killed run has left is gone on with by one that is killed as well. */
static const struct scene {
	const char *name;
	bool resumed, rotated;
	int again;
} scenes[] = {
	{"a first run", false, false, 0},
	{"a first run, and two that go on", false, false, 2},
	{"a run that goes on", true, false, 0},
	{"a run that goes on, its input rotated twice meanwhile", true, true, 0},
};

static const char *const paths[] = {"/state", "/out"}, *const moments[] = {"kill-before", "kill-after"};
static int bad;

/* Returns at how many calls it was killed. */
static int
try_calls(const struct scene *s, const char *path, const char *moment)
{
	struct scene_fault f = {.calls = calls, .how = moment, .path = path, .resumed = s->resumed,
	    .rotated = s->rotated, .again = s->again};
	struct scene_result r;

	for (f.from = 1;; f.from++) {
		scene_try(&f, &r);
		if (r.why[0] != '\0') {
			bad++;
			printf("# %s, %s, %s, call %ld: %s\n%s", s->name, path, moment, f.from, r.why, r.errors);
		}
		free(r.errors);
		if (!r.struck)
			return (int)f.from - 1;
	}
}

int
main(int argc, char **argv)
{
	int kills = 0;

	if (argc != 4 && argc != 5) {
		fprintf(stderr,
		    "usage: kills SINKD MODEL LIBRARIES [before]\nin an empty folder. before: not after calls.\n");
		return EX_USAGE;
	}
	scene_open(argv[1], argv[2], argv[3]);
	printf("| scene | calls on files below | when | kills |\n|---|---|---|---|\n");
	for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
		for (int j = 0; j < 4; j += argc == 5 ? 2 : 1) {
			int n = try_calls(&scenes[i], paths[j / 2], moments[j % 2]);

			printf("| %s | %s | %s | %d |\n", scenes[i].name, paths[j / 2], moments[j % 2], n);
			fflush(stdout);
			kills += n;
		}
	printf("%d kills, %d wrong\n", kills, bad);
	return bad > 0;
}
