/* What may be done with a path; see file.h. */
#include "base/file.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* As access, for what is no folder. */
static int
access_file(const char *path, int mode)
{
	struct stat st;

	if (access(path, mode) < 0)
		return -1;
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	errno = EISDIR;
	return -1;
}

int
file_check_read(const char *path)
{
	return access_file(path, R_OK);
}

int
file_check_write(const char *path)
{
	char copy[PATH_MAX]; /* dirname writes into what it is given */

	if (access(path, F_OK) == 0)
		return access_file(path, W_OK);
	snprintf(copy, sizeof copy, "%s", path);
	return access(dirname(copy), W_OK | X_OK);
}
