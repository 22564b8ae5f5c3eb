/* Scenes with sinkd in which calls fail, or are its last; in the current folder, which must be the caller's own. */
#ifndef SINKD_TESTS_SCENES_H
#define SINKD_TESTS_SCENES_H

#include <stdbool.h>

/* See fail_calls.c for what these mean. */
struct scene_fault {
	const char *calls, *how, *path; /* path: NULL for all */
	long from;
	bool ever, in_loop;
	bool resumed; /* not in a first run, but in one that goes on after another one was killed */
	bool rotated; /* with resumed: between the two the followed file is rotated more than once */
	int again;    /* so many more runs with the same fault, before the one without */
};

struct scene_result {
	bool struck;        /* there were so many calls */
	bool may_be_killed;
	int code;           /* the daemon's exit code, or the negative number of the signal that ended it */
	char why[128];      /* what is wrong; empty: all is as it should be */
	char *errors;       /* what the daemon said, to be freed */
};

/* The program, a model's file and the library of fail_calls.c: names that are valid in the current folder. */
void scene_open(const char *program, const char *file, const char *preloaded);

/* Play it, let a run without faults finish the work, and compare its output. */
void scene_try(const struct scene_fault *f, struct scene_result *r);

#endif
