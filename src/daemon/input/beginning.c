/* Where the inputs began; see beginning.h. Loop thread. */
#include "daemon/input/beginning.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static const char name[] = "beginning", tmp_name[] = "beginning.tmp";

static int
beginning_open_folder(const char *folder)
{
	return open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

json_t *
beginning_load(const char *folder, const json_t *asked)
{
	int dir = beginning_open_folder(folder), fd = dir < 0 ? -1
	    : openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	json_t *whole, *inputs = NULL;
	json_error_t error;

	if (dir >= 0)
		close(dir);
	if (fd < 0)
		return NULL;
	whole = json_loadfd(fd, 0, &error);
	close(fd);
	if (whole == NULL)
		log_message(LOG_WARNING, "%s/%s is damaged and not used: %s", folder, name, error.text);
	/* Whoever asks for something else now does not want to go on with that. */
	else if (json_equal(json_object_get(whole, "asked"), asked))
		inputs = json_incref(json_object_get(whole, "inputs"));
	json_decref(whole);
	return inputs;
}

/* Returns 0, or -1 with errno set. */
static int
write_all(int dir, const char *text)
{
	int fd = openat(dir, tmp_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), rc = -1, why;
	size_t len = strlen(text), done = 0;
	ssize_t n = 0;

	if (fd < 0)
		return -1;
	while (done < len && (n = write(fd, text + done, len - done)) > 0)
		done += (size_t)n;
	if (done == len && fsync(fd) == 0)
		rc = 0;
	why = n == 0 && done < len ? ENOSPC : errno;
	close(fd);
	if (rc == 0 && renameat(dir, tmp_name, dir, name) == 0)
		return fsync(dir);
	errno = rc == 0 ? errno : why;
	return -1;
}

int
beginning_save(const char *folder, const json_t *asked, const json_t *inputs, struct err *e)
{
	json_t *whole = json_pack("{s:O, s:O}", "asked", asked, "inputs", inputs);
	char *text = whole == NULL ? NULL : json_dumps(whole, JSON_COMPACT);
	int dir = beginning_open_folder(folder), rc = 0;

	json_decref(whole);
	if (text == NULL)
		rc = err_set(e, EX_OSERR, "out of memory for the places of the inputs");
	else if (dir < 0 || write_all(dir, text) < 0)
		rc = err_set(e, EX_IOERR, "cannot write %s/%s: %s", folder, name, strerror(errno));
	if (dir >= 0)
		close(dir);
	free(text);
	return rc;
}

void
beginning_remove(const char *folder)
{
	int dir = beginning_open_folder(folder);

	if (dir < 0)
		return;
	(void)unlinkat(dir, name, 0);
	close(dir);
}
