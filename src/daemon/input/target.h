/*
 * What the name of a followed file stands for: its symbolic links are followed
 * one by one, and every folder on the way in which the name may change is
 * watched with inotify. Used by follow.c. Loop thread.
 */
#ifndef SINKD_DAEMON_TARGET_H
#define SINKD_DAEMON_TARGET_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

enum { TARGET_WATCHES = 24 };

struct target {
	int notify;            /* inotify's descriptor */
	int error;             /* errno why there is no such file, or why that cannot be told; 0: there is one */
	char path[PATH_MAX];   /* of the file, free of links, or where it would be */
	struct stat st;        /* of the file, if there is one */
	struct timespec since; /* when the last of the links was made; zero: there is none */
	int n;
	struct {
		int number; /* inotify's */
		char name[NAME_MAX + 1]; /* what there matters begins with this */
	} watches[TARGET_WATCHES], old[TARGET_WATCHES];
	int n_old;
};

/*
 * Look where path leads to now, and watch that, and also the folder of the
 * file beside if that is not NULL or empty. Fills in error, path, st and since.
 */
void target_look(struct target *t, const char *path, const char *beside);

/* May an event of inotify in a folder have changed what the name stands for? name: of the entry, or "". */
bool target_is_concerned(const struct target *t, int number, const char *name);

#endif
