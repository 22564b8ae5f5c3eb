/* Mapping a model's file, and noticing that it changed; see mapping.h. */
#include "engine/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/guard.h"

int
mapping_open(struct mapping *m, const char *path, struct err *e)
{
	struct stat st;
	void *base;
	int rc = -1;

	/* O_NONBLOCK: a FIFO is refused below instead of waited for. */
	*m = (struct mapping){ .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) };
	if (m->fd < 0 || fstat(m->fd, &st) != 0)
		err_set(e, EX_NOINPUT, "%s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		err_set(e, EX_NOINPUT, "%s: not a regular file", path);
	else if (st.st_size == 0)
		err_set(e, EX_DATAERR, "%s: not a GGUF file (it is empty)", path);
	else if ((base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, m->fd, 0)) == MAP_FAILED)
		err_set(e, EX_OSERR, "%s: cannot map the file: %s", path, strerror(errno));
	else {
		m->base = base;
		m->size = (size_t)st.st_size;
		m->modified = st.st_mtim;
		guard_add(m->base, m->size, path);
		rc = 0;
	}
	if (rc < 0)
		mapping_close(m);
	return rc;
}

void
mapping_close(struct mapping *m)
{
	if (m->base != NULL) {
		guard_remove(m->base);
		munmap((void *)m->base, m->size);
	}
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct mapping){ .fd = -1 };
}

int
mapping_check(const struct mapping *m, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(m->fd, &st) != 0)
		return err_set(e, EX_IOERR, "%s: cannot look at the file: %s", path, strerror(errno));
	if ((size_t)st.st_size == m->size && st.st_mtim.tv_sec == m->modified.tv_sec &&
	    st.st_mtim.tv_nsec == m->modified.tv_nsec)
		return 0;
	return err_set(e, EX_IOERR, "%s was written to while it was in use: start again; to replace a model, rename "
	    "the new file over the old one", path);
}

void
mapping_forget(const struct mapping *m)
{
	madvise((void *)m->base, m->size, MADV_DONTNEED);
}
