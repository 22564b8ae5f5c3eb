/*
 * Reader of GGUF files (version 2 and 3), mapped read-only. Everything in the
 * file is foreign: each count, length, offset and type is checked in
 * gguf_open, so that what the other functions return can be trusted. (Only a
 * file that others write to while it is mapped cannot be survived; see
 * gguf_check, and base/guard.h for one that is cut short.)
 */
#ifndef SINKD_ENGINE_GGUF_H
#define SINKD_ENGINE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Value types of metadata; the numbers are the file format's. */
enum gguf_value_type {
	GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
	GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64,
};

struct gguf;

struct gguf_string {
	const char *data; /* not NUL-terminated, borrowed from the mapping */
	size_t len;
};

/* A matrix or vector of the file. ne[0] is the length of a row (contiguous). */
struct gguf_tensor {
	char *name;       /* NUL-terminated, owned by the struct gguf */
	uint32_t type;    /* enum quant_type (quant.h), checked */
	int n_dims;       /* 1..4 */
	int64_t ne[4];    /* each >= 1; 1 beyond n_dims */
	const void *data; /* in the mapping, all of it inside the file; aligned for the type's fields:
			   * F32 four bytes, all others two, and more where general.alignment says so */
	size_t size;      /* bytes */
};

/*
 * Map and check the file at path. Returns NULL with *e set: EX_NOINPUT,
 * EX_DATAERR (one sentence that names file and object) or EX_OSERR.
 */
struct gguf *gguf_open(const char *path, struct err *e);

/* The same over bytes in memory (borrowed; 32-byte aligned); name is used in messages. */
struct gguf *gguf_open_memory(const void *data, size_t size, const char *name, struct err *e);
void gguf_close(struct gguf *g);

/* Is a mapped file what it was when it was opened? Cheap. Returns 0, or -1 with *e set (EX_IOERR). */
int gguf_check(const struct gguf *g, struct err *e);

/* Give back the memory that a mapped file takes; what is read again comes from the file. */
void gguf_forget(const struct gguf *g);

const char *gguf_get_path(const struct gguf *g);
size_t gguf_get_size(const struct gguf *g); /* bytes of the file */

/* The file's descriptor, borrowed; -1: there is none, the bytes were given. */
int gguf_get_file(const struct gguf *g);

/* Tensors in file order, and by name (NULL if there is none). */
size_t gguf_count_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_get_tensor(const struct gguf *g, size_t i);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name);

/*
 * Metadata by key. get_* return true and fill *value if the key exists and
 * its value is of that kind and in range (int: any integer type that fits;
 * float: F32 or F64; any number of an int array may be asked for as ints);
 * false otherwise, with *value untouched.
 */
bool gguf_has_key(const struct gguf *g, const char *key);
bool gguf_get_int(const struct gguf *g, const char *key, int64_t *value);
bool gguf_get_float(const struct gguf *g, const char *key, double *value);
bool gguf_get_bool(const struct gguf *g, const char *key, bool *value);
bool gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *value);

/*
 * The next key that begins with prefix and that none of these functions was
 * asked for so far, from *i on, which begins with 0. Returns false at the end.
 */
bool gguf_next_unasked(const struct gguf *g, const char *prefix, size_t *i, struct gguf_string *key);

/* Length of the array at key, or -1 if there is none; *type receives its element type. */
int64_t gguf_get_array(const struct gguf *g, const char *key, enum gguf_value_type *type);

/* Element i of an array of strings, integers (incl. bool) or floats; false when of another kind or out of range. */
bool gguf_get_array_string(const struct gguf *g, const char *key, int64_t i, struct gguf_string *value);
bool gguf_get_array_int(const struct gguf *g, const char *key, int64_t i, int64_t *value);
bool gguf_get_array_float(const struct gguf *g, const char *key, int64_t i, double *value);

#endif
