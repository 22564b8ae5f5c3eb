/* Where the default model lies; see model_path.h. */
#include "base/model_path.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The user's folder for data of programs, XDG Base Directory Specification. */
static bool
user_folder(char *buf, size_t size)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	int n;

	if (data != NULL && data[0] == '/')
		n = snprintf(buf, size, "%s/sinkd", data);
	else if (home != NULL && home[0] == '/')
		n = snprintf(buf, size, "%s/.local/share/sinkd", home);
	else
		return false;
	return n > 0 && (size_t)n < size;
}

static bool
readable(const char *folder, char *buf, size_t size)
{
	int n = snprintf(buf, size, "%s/" MODEL_PATH_DEFAULT, folder);

	return n > 0 && (size_t)n < size && access(buf, R_OK) == 0;
}

int
model_path_find(char *buf, size_t size, struct err *e)
{
	static const char *const system_folders[] = {PKGDATADIR, "/usr/local/share/sinkd", "/usr/share/sinkd",
	    "/var/lib/sinkd"};
	char user[4096] = "";

	if (user_folder(user, sizeof user) && readable(user, buf, size))
		return 0;
	for (size_t i = 0; i < sizeof system_folders / sizeof *system_folders; i++)
		if (readable(system_folders[i], buf, size))
			return 0;
	return err_set(e, EX_NOINPUT,
	    "the default model " MODEL_PATH_DEFAULT " is neither in %s nor in /var/lib/sinkd; "
	    "run sinkd-fetch-model to fetch it (for services and all users: sinkd-fetch-model --system), or name "
	    "another with --model", user[0] != '\0' ? user : PKGDATADIR);
}
