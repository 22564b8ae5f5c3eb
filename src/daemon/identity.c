/* What tells a file from another; see identity.h. Loop thread. */
#include "daemon/identity.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { NANO = 1000000000 };

/* ---- the bytes before a place --------------------------------------- */

void
identity_tail_add(struct identity_tail *t, const char *bytes, size_t n)
{
	if (n >= IDENTITY_TAIL) {
		memcpy(t->bytes, bytes + n - IDENTITY_TAIL, IDENTITY_TAIL);
		t->len = IDENTITY_TAIL;
		return;
	}
	if (t->len + n > sizeof t->bytes) {
		memmove(t->bytes, t->bytes + t->len - IDENTITY_TAIL, IDENTITY_TAIL);
		t->len = IDENTITY_TAIL;
	}
	memcpy(t->bytes + t->len, bytes, n);
	t->len += n;
}

const char *
identity_tail_get(const struct identity_tail *t, size_t *n)
{
	*n = t->len < IDENTITY_TAIL ? t->len : IDENTITY_TAIL;
	return t->bytes + t->len - *n;
}

/* ---- compare -------------------------------------------------------- */

void
identity_set_head(struct identity *id, const char *bytes, size_t n)
{
	id->head_len = n;
	id->head = n > 0 ? XXH3_64bits(bytes, n) : 0;
}

void
identity_set_tail(struct identity *id, const struct identity_tail *t)
{
	const char *bytes = identity_tail_get(t, &id->tail_len);

	id->tail = id->tail_len > 0 ? XXH3_64bits(bytes, id->tail_len) : 0;
}

ssize_t
identity_read(int fd, char *to, size_t n, int64_t from)
{
	size_t got = 0;

	while (got < n) {
		ssize_t k = pread(fd, to + got, n - got, (off_t)from + (off_t)got);

		if (k < 0 && errno != EINTR)
			return -1;
		if (k == 0)
			break;
		if (k > 0)
			got += (size_t)k;
	}
	return (ssize_t)got;
}

int
identity_read_tail(struct identity *id, int fd)
{
	char bytes[IDENTITY_TAIL];
	ssize_t n;

	id->tail_len = id->offset < IDENTITY_TAIL ? (size_t)id->offset : IDENTITY_TAIL;
	if ((n = identity_read(fd, bytes, id->tail_len, id->offset - (int64_t)id->tail_len)) < 0)
		return -1;
	if ((size_t)n < id->tail_len) {
		errno = ESTALE;
		return -1;
	}
	id->tail = id->tail_len > 0 ? XXH3_64bits(bytes, id->tail_len) : 0;
	return 0;
}

/* Are the len bytes at from those of that hash? */
static int
check_bytes(int fd, int64_t from, size_t len, uint64_t hash)
{
	char bytes[IDENTITY_TAIL];
	ssize_t n;

	if (len == 0)
		return 1;
	if ((n = identity_read(fd, bytes, len, from)) < 0)
		return -1;
	return (size_t)n == len && XXH3_64bits(bytes, len) == hash;
}

int
identity_check_content(const struct identity *id, int fd)
{
	char last;
	ssize_t n;
	int rc = check_bytes(fd, 0, id->head_len, id->head);

	if (rc > 0)
		rc = check_bytes(fd, id->offset - (int64_t)id->tail_len, id->tail_len, id->tail);
	/* It must be as long as what was read of it, also where no bytes before the place are known. */
	if (rc > 0 && id->tail_len == 0 && id->offset > 0) {
		n = identity_read(fd, &last, 1, id->offset - 1);
		rc = n < 0 ? -1 : n == 1;
	}
	return rc;
}

bool
identity_is_empty(const struct identity *id)
{
	return id->head_len == 0 && id->tail_len == 0;
}

/* ---- in a state ----------------------------------------------------- */

void
identity_save_hash(json_t *o, const char *name, uint64_t hash)
{
	char hex[17];

	snprintf(hex, sizeof hex, "%016" PRIx64, hash);
	json_object_set_new(o, name, json_string(hex));
}

bool
identity_load_hash(const json_t *o, const char *name, uint64_t *hash)
{
	const char *hex = json_string_value(json_object_get(o, name));
	char *end;

	if (hex == NULL || strlen(hex) != 16)
		return false;
	*hash = strtoull(hex, &end, 16);
	return *end == '\0';
}

/* A number of bytes between 0 and max, or fallback where there is none. */
static size_t
load_length(const json_t *o, const char *name, size_t max, size_t fallback)
{
	const json_t *n = json_object_get(o, name);

	if (!json_is_integer(n) || json_integer_value(n) < 0 || json_integer_value(n) > (json_int_t)max)
		return fallback;
	return (size_t)json_integer_value(n);
}

void
identity_save_time(json_t *o, const char *name, const struct timespec *t)
{
	json_object_set_new(o, name, json_integer((json_int_t)t->tv_sec * NANO + t->tv_nsec));
}

bool
identity_load_time(const json_t *o, const char *name, struct timespec *t)
{
	json_int_t n = json_integer_value(json_object_get(o, name));

	if (n <= 0)
		return false;
	*t = (struct timespec){(time_t)(n / NANO), (long)(n % NANO)};
	return true;
}

void
identity_save(const struct identity *id, json_t *o)
{
	identity_save_time(o, "modified", &id->modified);
	json_object_set_new(o, "inode", json_integer((json_int_t)id->inode));
	identity_save_hash(o, "head", id->head);
	json_object_set_new(o, "head_bytes", json_integer((json_int_t)id->head_len));
	identity_save_hash(o, "before", id->tail);
	json_object_set_new(o, "before_bytes", json_integer((json_int_t)id->tail_len));
}

bool
identity_load(struct identity *id, const json_t *o, int64_t offset)
{
	const json_t *inode = json_object_get(o, "inode");
	size_t before = offset < IDENTITY_TAIL ? (size_t)offset : IDENTITY_TAIL;

	*id = (struct identity){.offset = offset};
	if (!json_is_integer(inode) || !identity_load_hash(o, "head", &id->head))
		return false;
	id->inode = (ino_t)json_integer_value(inode);
	identity_load_time(o, "modified", &id->modified);
	id->head_len = load_length(o, "head_bytes", IDENTITY_HEAD, offset < IDENTITY_HEAD ? (size_t)offset
	    : IDENTITY_HEAD);
	if (identity_load_hash(o, "before", &id->tail))
		id->tail_len = load_length(o, "before_bytes", before, 0);
	return true;
}
