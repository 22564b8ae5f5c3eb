/* What a followed name stands for; see target.h. Loop thread. */
#include "daemon/input/target.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { LINKS = 40 }; /* as many as the kernel follows */

static const uint32_t what_matters = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_MOVE_SELF |
    IN_DELETE_SELF | IN_ONLYDIR;

/* ---- watching ------------------------------------------------------- */

/* A folder that cannot be watched is looked at from time to time all the same. */
static void
target_watch(struct target *t, const char *folder, const char *name)
{
	int number = inotify_add_watch(t->notify, folder[0] == '\0' ? "." : folder, what_matters);

	if (number < 0 || t->n == TARGET_WATCHES)
		return;
	t->watches[t->n].number = number;
	snprintf(t->watches[t->n].name, sizeof t->watches[t->n].name, "%s", name);
	t->n++;
}

static bool
has_number(const struct target *t, int number)
{
	for (int i = 0; i < t->n; i++)
		if (t->watches[i].number == number)
			return true;
	return false;
}

static void
begin_watches(struct target *t)
{
	memcpy(t->old, t->watches, sizeof t->old);
	t->n_old = t->n;
	t->n = 0;
}

static void
end_watches(struct target *t)
{
	for (int i = 0; i < t->n_old; i++)
		if (!has_number(t, t->old[i].number))
			(void)inotify_rm_watch(t->notify, t->old[i].number);
}

bool
target_is_concerned(const struct target *t, int number, const char *name)
{
	for (int i = 0; i < t->n; i++)
		if (t->watches[i].number == number &&
		    (name[0] == '\0' || strncmp(name, t->watches[i].name, strlen(t->watches[i].name)) == 0))
			return true;
	return false;
}

/* ---- the way -------------------------------------------------------- */

/* Append "/name" to a folder; nothing but name to "", which is the working folder. Returns 0 or an errno. */
static int
target_join(char *to, const char *folder, const char *name)
{
	const char *slash = folder[0] == '\0' || folder[strlen(folder) - 1] == '/' ? "" : "/";

	return snprintf(to, PATH_MAX, "%s%s%s", folder, slash, name) < PATH_MAX ? 0 : ENAMETOOLONG;
}

/* Cut the first name off a path. Returns false when there is none. */
static bool
cut_name(char *rest, char name[NAME_MAX + 1], int *error)
{
	size_t skip = strspn(rest, "/"), len = strcspn(rest + skip, "/");

	if (len > NAME_MAX) {
		*error = ENAMETOOLONG;
		return false;
	}
	memcpy(name, rest + skip, len);
	name[len] = '\0';
	memmove(rest, rest + skip + len, strlen(rest + skip + len) + 1);
	return len > 0;
}

static bool
target_is_earlier(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* The text of the link at path comes before what is left of the way. Returns 0 or an errno. */
static int
follow_link(struct target *t, const char *path, const struct stat *st, char *rest)
{
	char text[PATH_MAX], whole[PATH_MAX];
	ssize_t n = readlink(path, text, sizeof text);

	if (n < 0)
		return errno;
	if (n == 0 || n == sizeof text)
		return ENAMETOOLONG;
	text[n] = '\0';
	if (snprintf(whole, sizeof whole, "%s%s", text, rest) >= (int)sizeof whole)
		return ENAMETOOLONG;
	memcpy(rest, whole, sizeof whole);
	if (text[0] == '/')
		snprintf(t->path, sizeof t->path, "/");
	if (target_is_earlier(&t->since, &st->st_mtim))
		t->since = st->st_mtim;
	return 0;
}

/* Returns 0 or an errno. */
static int
walk(struct target *t, char *rest)
{
	char name[NAME_MAX + 1], path[PATH_MAX];
	int error = 0, links = 0;

	while (cut_name(rest, name, &error)) {
		if ((error = target_join(path, t->path, name)) != 0)
			return error;
		if (lstat(path, &t->st) < 0) {
			error = errno;
			target_watch(t, t->path, name);
			memcpy(t->path, path, sizeof path);
			if (strlen(t->path) + strlen(rest) < sizeof t->path)
				strcat(t->path, rest);
			return error;
		}
		if (S_ISLNK(t->st.st_mode)) {
			target_watch(t, t->path, name);
			if (++links > LINKS)
				return ELOOP;
			if ((error = follow_link(t, path, &t->st, rest)) != 0)
				return error;
			continue;
		}
		if (rest[strspn(rest, "/")] == '\0')
			target_watch(t, t->path, name);
		memcpy(t->path, path, sizeof path);
	}
	return error;
}

/* The folder of a file, and what begins with its name. */
static void
watch_beside(struct target *t, const char *file)
{
	const char *slash = strrchr(file, '/');
	char folder[PATH_MAX];

	snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 0 : slash == file ? 1 : (int)(slash - file), file);
	target_watch(t, folder, slash == NULL ? file : slash + 1);
}

void
target_look(struct target *t, const char *path, const char *beside)
{
	char rest[PATH_MAX];

	begin_watches(t);
	t->since = (struct timespec){0};
	snprintf(t->path, sizeof t->path, "%s", path[0] == '/' ? "/" : "");
	snprintf(rest, sizeof rest, "%s", path);
	t->error = walk(t, rest);
	if (t->error == 0 && !S_ISREG(t->st.st_mode))
		t->error = EINVAL;
	if (beside != NULL && beside[0] != '\0' && strcmp(beside, t->path) != 0)
		watch_beside(t, beside);
	end_watches(t);
}
