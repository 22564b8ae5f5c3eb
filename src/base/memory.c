/* Memory of this process; see memory.h. */
#include "base/memory.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { GROUPS_TEXT = 8192, PAGE = 4096 };

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* A number in a file; INT64_MAX where the file is not there, or says "max". */
static int64_t
read_number_file(const char *path)
{
	FILE *f = fopen(path, "re");
	char text[32] = "";
	long long v = 0;

	if (f == NULL)
		return INT64_MAX;
	if (fgets(text, sizeof text, f) != NULL)
		v = strtoll(text, NULL, 10);
	fclose(f);
	return v > 0 ? v : INT64_MAX;
}

/* The limit of a group and of all above it, up to the mount point of its hierarchy. */
static int64_t
read_upwards(const char *root, const char *hierarchy, const char *group, const char *file)
{
	char path[PATH_MAX], name[PATH_MAX + 64];
	int64_t limit = INT64_MAX;
	size_t shortest = strlen(root) + strlen(hierarchy);

	if (snprintf(path, sizeof path, "%s%s%s", root, hierarchy, group) >= (int)sizeof path)
		return INT64_MAX;
	for (;;) {
		char *slash;

		snprintf(name, sizeof name, "%s/%s", path, file);
		limit = least(limit, read_number_file(name));
		slash = strrchr(path, '/');
		if (slash == NULL || (size_t)(slash - path) < shortest)
			return limit;
		*slash = '\0';
	}
}

/* A line of /proc/self/cgroup is "0::GROUP" for version 2, "NUMBER:CONTROLLER,...:GROUP" for version 1. */
static int64_t
read_group_line(char *line, const char *root)
{
	char *controllers = strchr(line, ':'), *group, *save = NULL;

	if (controllers == NULL || (group = strchr(controllers + 1, ':')) == NULL)
		return INT64_MAX;
	*group++ = '\0';
	controllers++;
	if (strcmp(group, "/") == 0)
		group[0] = '\0';
	if (*controllers == '\0')
		return least(read_upwards(root, "", group, "memory.max"),
		    read_upwards(root, "/unified", group, "memory.max"));
	for (char *c = strtok_r(controllers, ",", &save); c != NULL; c = strtok_r(NULL, ",", &save))
		if (strcmp(c, "memory") == 0)
			return read_upwards(root, "/memory", group, "memory.limit_in_bytes");
	return INT64_MAX;
}

int64_t
memory_read_group_limits(const char *cgroups, const char *root)
{
	char text[GROUPS_TEXT], *save = NULL;
	int64_t limit = INT64_MAX;

	snprintf(text, sizeof text, "%s", cgroups);
	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
		limit = least(limit, read_group_line(line, root));
	return limit;
}

static int64_t
get_machine(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

	return pages > 0 && page > 0 ? (int64_t)pages * page : INT64_MAX;
}

/* The limits that are not everybody's on this machine. */
static int64_t
get_own(void)
{
	char text[GROUPS_TEXT] = "";
	FILE *f = fopen("/proc/self/cgroup", "re");
	int64_t limit;
	struct rlimit r;

	if (f != NULL) {
		text[fread(text, 1, sizeof text - 1, f)] = '\0';
		fclose(f);
	}
	limit = memory_read_group_limits(text, "/sys/fs/cgroup");
	if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY && r.rlim_cur <= INT64_MAX)
		limit = least(limit, (int64_t)r.rlim_cur);
	return limit;
}

int64_t
memory_get_limit(void)
{
	int64_t limit = least(get_machine(), get_own());

	return limit == INT64_MAX ? 0 : limit;
}

int64_t
memory_get_share(void)
{
	int64_t share = least(get_machine() / 4, get_own() / 2);

	return share == INT64_MAX / 4 ? 0 : share;
}

void
memory_touch(void *bytes, size_t n)
{
	volatile char *p = bytes;

	for (size_t i = 0; i < n; i += PAGE)
		p[i] = p[i];
	if (n > 0)
		p[n - 1] = p[n - 1];
}
