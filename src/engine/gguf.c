/*
 * Reader of GGUF files: maps the file, checks all of it once, and keeps sorted
 * indexes of keys and tensors. Works on foreign bytes, so every number read is
 * bounded by the bytes that remain before it is used.
 */
#include "engine/gguf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/mapping.h"
#include "engine/quant.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF data is used in place");

enum {
	MAX_KEYS = 65536,
	MAX_KEY_LEN = 65535,       /* the format's own limit */
	MAX_TENSORS = 1 << 20,
	MAX_NAME_LEN = 255,        /* the format says 64, some writers exceed it */
	MAX_DIMS = 4,
	MAX_ALIGNMENT = 1 << 20,
	DEFAULT_ALIGNMENT = 32,
	N_VALUE_TYPES = GGUF_F64 + 1,
	MIN_KEY_BYTES = 8 + 1 + 4 + 1,          /* length, one character, type, value */
	MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* length, one character, dimensions, type, offset */
	QUOTED_LEN = 72,
};

/* Bytes of a value; 0: not of fixed size. */
static const unsigned char value_size[N_VALUE_TYPES] = {
	[GGUF_U8] = 1, [GGUF_I8] = 1, [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
	[GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_STRING] = 0, [GGUF_ARRAY] = 0, [GGUF_U64] = 8, [GGUF_I64] = 8,
	[GGUF_F64] = 8,
};

struct entry {
	struct gguf_string key;
	enum gguf_value_type type;         /* of the elements, if is_array */
	bool is_array;
	bool asked;                        /* somebody looked for the key */
	uint64_t count;                    /* elements; 1 unless is_array */
	const unsigned char *values;       /* fixed size: the values, unaligned */
	const unsigned char **strings;     /* strings: where each one's length stands */
};

struct gguf {
	char *path;
	const unsigned char *base;
	size_t size;
	struct mapping file;               /* without a base where the bytes were given */
	size_t alignment;
	size_t n_entries;
	struct entry *entries;             /* sorted by key once read */
	size_t n_tensors;
	struct gguf_tensor *tensors;       /* in file order */
	struct gguf_tensor **by_name;      /* sorted by name */
};

/* Where reading stands, and what a complaint needs. */
struct reader {
	struct gguf *g;
	size_t pos;
	struct err *e;
};

/* Complain about the file's content. Returns -1. */
static int __attribute__((format(printf, 2, 3)))
gguf_fail(struct reader *r, const char *fmt, ...)
{
	char text[sizeof r->e->text];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return err_set(r->e, EX_DATAERR, "%s: %s", r->g->path, text);
}

/* A name of the file made fit for a message: plain ASCII, shortened. Returns buf. */
static const char *
quote(char buf[QUOTED_LEN], struct gguf_string s)
{
	size_t n = s.len < QUOTED_LEN - 4 ? s.len : QUOTED_LEN - 4;

	for (size_t i = 0; i < n; i++)
		buf[i] = s.data[i] >= 0x20 && s.data[i] < 0x7f ? s.data[i] : '?';
	strcpy(buf + n, n < s.len ? "..." : "");
	return buf;
}

static size_t
bytes_left(const struct reader *r)
{
	return r->g->size - r->pos;
}

static bool
read_bytes(struct reader *r, void *to, size_t n)
{
	if (bytes_left(r) < n)
		return false;
	memcpy(to, r->g->base + r->pos, n);
	r->pos += n;
	return true;
}

static bool
read_string(struct reader *r, struct gguf_string *s)
{
	uint64_t len;

	if (!read_bytes(r, &len, sizeof len) || len > bytes_left(r))
		return false;
	s->data = (const char *)r->g->base + r->pos;
	s->len = (size_t)len;
	r->pos += s->len;
	return true;
}

static int
read_string_array(struct reader *r, struct entry *en)
{
	char name[QUOTED_LEN];
	struct gguf_string s;
	size_t start = r->pos;

	if (en->count > bytes_left(r) / sizeof(uint64_t))
		return gguf_fail(r, "metadata key '%s': the file ends inside its array of %llu strings",
		    quote(name, en->key), (unsigned long long)en->count);
	/* Count first: memory is only spent on strings that are there. */
	for (uint64_t i = 0; i < en->count; i++)
		if (!read_string(r, &s))
			return gguf_fail(r, "metadata key '%s': the file ends inside string %llu", quote(name, en->key),
			    (unsigned long long)i);
	en->strings = calloc((size_t)en->count + 1, sizeof *en->strings);
	if (en->strings == NULL)
		return err_set(r->e, EX_OSERR, "%s: no memory for metadata key '%s'", r->g->path,
		    quote(name, en->key));
	r->pos = start;
	for (uint64_t i = 0; i < en->count; i++) {
		en->strings[i] = r->g->base + r->pos;
		read_string(r, &s);
	}
	return 0;
}

static int
read_values(struct reader *r, struct entry *en)
{
	char name[QUOTED_LEN];
	size_t n = value_size[en->type];

	if (en->type == GGUF_STRING)
		return read_string_array(r, en);
	if (en->count > bytes_left(r) / n)
		return gguf_fail(r, "metadata key '%s': the file ends inside its value", quote(name, en->key));
	en->values = r->g->base + r->pos;
	r->pos += (size_t)en->count * n;
	if (en->type == GGUF_BOOL)
		for (uint64_t i = 0; i < en->count; i++)
			if (en->values[i] > 1)
				return gguf_fail(r, "metadata key '%s': %d is not a truth value", quote(name, en->key),
				    en->values[i]);
	return 0;
}

static int
gguf_read_entry(struct reader *r, struct entry *en)
{
	char name[QUOTED_LEN];
	uint32_t type;

	if (!read_string(r, &en->key))
		return gguf_fail(r, "the file ends inside metadata key %zu", (size_t)(en - r->g->entries));
	if (en->key.len == 0 || en->key.len > MAX_KEY_LEN || memchr(en->key.data, '\0', en->key.len) != NULL)
		return gguf_fail(r, "metadata key %zu has an impossible name", (size_t)(en - r->g->entries));
	if (!read_bytes(r, &type, sizeof type))
		return gguf_fail(r, "the file ends after metadata key '%s'", quote(name, en->key));
	en->count = 1;
	en->is_array = type == GGUF_ARRAY;
	if (en->is_array && (!read_bytes(r, &type, sizeof type) || !read_bytes(r, &en->count, sizeof en->count)))
		return gguf_fail(r, "metadata key '%s': the file ends inside its value", quote(name, en->key));
	if (type == GGUF_ARRAY)
		return gguf_fail(r, "metadata key '%s': arrays of arrays are not supported", quote(name, en->key));
	if (type >= N_VALUE_TYPES)
		return gguf_fail(r, "metadata key '%s': unknown value type %lu", quote(name, en->key),
		    (unsigned long)type);
	if (en->count > INT64_MAX)
		return gguf_fail(r, "metadata key '%s': impossible array length", quote(name, en->key));
	en->type = (enum gguf_value_type)type;
	return read_values(r, en);
}

static int
compare_strings(struct gguf_string a, struct gguf_string b)
{
	if (a.len != b.len)
		return a.len < b.len ? -1 : 1;
	return memcmp(a.data, b.data, a.len);
}

static int
compare_entries(const void *a, const void *b)
{
	return compare_strings(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static int
read_entries(struct reader *r, uint64_t count)
{
	struct gguf *g = r->g;
	char name[QUOTED_LEN];

	if (count > MAX_KEYS || count > bytes_left(r) / MIN_KEY_BYTES)
		return gguf_fail(r, "impossible number of metadata keys (%llu)", (unsigned long long)count);
	if (count == 0)
		return 0;
	g->entries = calloc((size_t)count, sizeof *g->entries);
	if (g->entries == NULL)
		return err_set(r->e, EX_OSERR, "%s: no memory for %llu metadata keys", g->path,
		    (unsigned long long)count);
	for (g->n_entries = 0; g->n_entries < count;)
		if (gguf_read_entry(r, &g->entries[g->n_entries++]) != 0)
			return -1;
	qsort(g->entries, g->n_entries, sizeof *g->entries, compare_entries);
	for (size_t i = 1; i < g->n_entries; i++)
		if (compare_entries(&g->entries[i - 1], &g->entries[i]) == 0)
			return gguf_fail(r, "metadata key '%s' occurs twice", quote(name, g->entries[i].key));
	return 0;
}

static int
check_alignment(struct reader *r)
{
	struct gguf *g = r->g;
	int64_t a;

	g->alignment = DEFAULT_ALIGNMENT;
	if (!gguf_has_key(g, "general.alignment"))
		return 0;
	if (!gguf_get_int(g, "general.alignment", &a))
		return gguf_fail(r, "general.alignment is not an integer");
	if (a < 1 || a > MAX_ALIGNMENT || (a & (a - 1)) != 0)
		return gguf_fail(r, "general.alignment is %lld; a power of two up to %d is needed", (long long)a,
		    (int)MAX_ALIGNMENT);
	g->alignment = (size_t)a;
	return 0;
}

static struct gguf_string
string_of(const char *s)
{
	return (struct gguf_string){ s, strlen(s) };
}

/* Dimensions of t as the file gives them; the number of weights must fit an int64_t. */
static int
read_dimensions(struct reader *r, struct gguf_tensor *t)
{
	char name[QUOTED_LEN];
	uint32_t n_dims;
	int64_t weights = 1;

	if (!read_bytes(r, &n_dims, sizeof n_dims))
		return gguf_fail(r, "the file ends inside the description of tensor '%s'",
		    quote(name, string_of(t->name)));
	if (n_dims < 1 || n_dims > MAX_DIMS)
		return gguf_fail(r, "tensor '%s' has %lu dimensions; 1 to %d are supported",
		    quote(name, string_of(t->name)), (unsigned long)n_dims, (int)MAX_DIMS);
	t->n_dims = (int)n_dims;
	for (int i = 0; i < MAX_DIMS; i++) {
		uint64_t n = 1;

		if (i < t->n_dims && !read_bytes(r, &n, sizeof n))
			return gguf_fail(r, "the file ends inside the description of tensor '%s'",
			    quote(name, string_of(t->name)));
		if (n < 1 || n > INT64_MAX || __builtin_mul_overflow(weights, (int64_t)n, &weights))
			return gguf_fail(r, "tensor '%s' has impossible dimensions", quote(name, string_of(t->name)));
		t->ne[i] = (int64_t)n;
	}
	return 0;
}

/* The type of t, and from it the size of its data, which must be less than the file's. */
static int
read_type(struct reader *r, struct gguf_tensor *t)
{
	char name[QUOTED_LEN];
	const struct quant_info *info;
	uint64_t blocks;

	if (!read_bytes(r, &t->type, sizeof t->type))
		return gguf_fail(r, "the file ends inside the description of tensor '%s'",
		    quote(name, string_of(t->name)));
	info = quant_get_info(t->type);
	if (info == NULL && quant_get_name(t->type) != NULL)
		return gguf_fail(r, "tensor '%s' has type %s, which is not supported", quote(name, string_of(t->name)),
		    quant_get_name(t->type));
	if (info == NULL)
		return gguf_fail(r, "tensor '%s' has unknown type %lu", quote(name, string_of(t->name)),
		    (unsigned long)t->type);
	if (t->ne[0] % info->block != 0)
		return gguf_fail(r, "tensor '%s' has rows of %lld weights, not a multiple of %s's %d",
		    quote(name, string_of(t->name)), (long long)t->ne[0], info->name, info->block);
	blocks = (uint64_t)t->ne[0] * (uint64_t)t->ne[1] * (uint64_t)t->ne[2] * (uint64_t)t->ne[3]
	    / (uint64_t)info->block;
	if (blocks > r->g->size / (size_t)info->bytes)
		return gguf_fail(r, "the data of tensor '%s' is not inside the file", quote(name, string_of(t->name)));
	t->size = (size_t)blocks * (size_t)info->bytes;
	return 0;
}

/* One tensor's description. *offset: of its data, from where all data starts. */
static int
read_tensor(struct reader *r, struct gguf_tensor *t, uint64_t *offset)
{
	struct gguf_string s;
	char name[QUOTED_LEN];

	if (!read_string(r, &s))
		return gguf_fail(r, "the file ends inside the name of tensor %zu", (size_t)(t - r->g->tensors));
	if (s.len == 0 || s.len > MAX_NAME_LEN || memchr(s.data, '\0', s.len) != NULL)
		return gguf_fail(r, "tensor %zu has an impossible name", (size_t)(t - r->g->tensors));
	t->name = strndup(s.data, s.len);
	if (t->name == NULL)
		return err_set(r->e, EX_OSERR, "%s: no memory for the name of a tensor", r->g->path);
	if (read_dimensions(r, t) != 0 || read_type(r, t) != 0)
		return -1;
	if (!read_bytes(r, offset, sizeof *offset))
		return gguf_fail(r, "the file ends inside the description of tensor '%s'", quote(name, s));
	return 0;
}

/* What the elements of a block need: float32 four bytes, all others hold nothing wider than two. */
static size_t
type_alignment(uint32_t type)
{
	return type == QUANT_F32 ? sizeof(float) : sizeof(uint16_t);
}

static int
place_tensor(struct reader *r, struct gguf_tensor *t, size_t start, uint64_t offset)
{
	struct gguf *g = r->g;
	char name[QUOTED_LEN];

	if (start > g->size || offset > g->size - start || t->size > g->size - start - offset)
		return gguf_fail(r, "the data of tensor '%s' is not inside the file", quote(name, string_of(t->name)));
	if (offset % g->alignment != 0 || (start + offset) % type_alignment(t->type) != 0)
		return gguf_fail(r, "the data of tensor '%s' is not aligned", quote(name, string_of(t->name)));
	t->data = g->base + start + offset;
	return 0;
}

static int
compare_names(const void *a, const void *b)
{
	const struct gguf_tensor *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static int
index_tensors(struct reader *r)
{
	struct gguf *g = r->g;
	char name[QUOTED_LEN];

	for (size_t i = 0; i < g->n_tensors; i++)
		g->by_name[i] = &g->tensors[i];
	qsort(g->by_name, g->n_tensors, sizeof *g->by_name, compare_names);
	for (size_t i = 1; i < g->n_tensors; i++)
		if (compare_names(&g->by_name[i - 1], &g->by_name[i]) == 0)
			return gguf_fail(r, "tensor '%s' occurs twice", quote(name, string_of(g->by_name[i]->name)));
	return 0;
}

static int
read_tensors(struct reader *r, uint64_t count)
{
	struct gguf *g = r->g;
	uint64_t *offsets = NULL;
	size_t start;
	int rv = -1;

	if (count > MAX_TENSORS || count > bytes_left(r) / MIN_TENSOR_BYTES)
		return gguf_fail(r, "impossible number of tensors (%llu)", (unsigned long long)count);
	if (count == 0)
		return 0;
	g->tensors = calloc((size_t)count, sizeof *g->tensors);
	g->by_name = calloc((size_t)count, sizeof *g->by_name);
	offsets = calloc((size_t)count, sizeof *offsets);
	if (g->tensors == NULL || g->by_name == NULL || offsets == NULL) {
		err_set(r->e, EX_OSERR, "%s: no memory for %llu tensors", g->path, (unsigned long long)count);
		goto out;
	}
	for (g->n_tensors = 0; g->n_tensors < count; g->n_tensors++)
		if (read_tensor(r, &g->tensors[g->n_tensors], &offsets[g->n_tensors]) != 0) {
			free(g->tensors[g->n_tensors].name);
			goto out;
		}
	start = (r->pos + g->alignment - 1) & ~(g->alignment - 1);
	for (size_t i = 0; i < g->n_tensors; i++)
		if (place_tensor(r, &g->tensors[i], start, offsets[i]) != 0)
			goto out;
	rv = index_tensors(r);
out:
	free(offsets);
	return rv;
}

static int
read_file(struct reader *r)
{
	unsigned char magic[4];
	uint32_t version;
	uint64_t n_tensors, n_keys;

	if (!read_bytes(r, magic, sizeof magic) || (memcmp(magic, "GGUF", 4) != 0 && memcmp(magic, "FUGG", 4) != 0))
		return gguf_fail(r, "not a GGUF file");
	if (!read_bytes(r, &version, sizeof version))
		return gguf_fail(r, "the file ends inside its header");
	if (magic[0] == 'F' || (version != 0 && (version & 0xffff) == 0))
		return gguf_fail(r, "a big-endian GGUF file; only little-endian ones are supported");
	if (version != 2 && version != 3)
		return gguf_fail(r, "GGUF version %lu is not supported; 2 and 3 are", (unsigned long)version);
	if (!read_bytes(r, &n_tensors, sizeof n_tensors) || !read_bytes(r, &n_keys, sizeof n_keys))
		return gguf_fail(r, "the file ends inside its header");
	if (read_entries(r, n_keys) != 0 || check_alignment(r) != 0)
		return -1;
	return read_tensors(r, n_tensors);
}

struct gguf *
gguf_open_memory(const void *data, size_t size, const char *name, struct err *e)
{
	struct gguf *g = calloc(1, sizeof *g);
	struct reader r = { .g = g, .e = e };

	assert((uintptr_t)data % DEFAULT_ALIGNMENT == 0);
	if (g == NULL || (g->path = strdup(name)) == NULL) {
		free(g);
		err_set(e, EX_OSERR, "%s: no memory", name);
		return NULL;
	}
	g->base = data;
	g->size = size;
	g->file.fd = -1;
	if (read_file(&r) != 0) {
		gguf_close(g);
		return NULL;
	}
	return g;
}

struct gguf *
gguf_open(const char *path, struct err *e)
{
	struct mapping m;
	struct gguf *g;

	if (mapping_open(&m, path, e) < 0)
		return NULL;
	if ((g = gguf_open_memory(m.base, m.size, path, e)) == NULL) {
		mapping_close(&m);
		return NULL;
	}
	g->file = m;
	return g;
}

void
gguf_close(struct gguf *g)
{
	if (g == NULL)
		return;
	for (size_t i = 0; i < g->n_entries; i++)
		free(g->entries[i].strings);
	for (size_t i = 0; i < g->n_tensors; i++)
		free(g->tensors[i].name);
	free(g->entries);
	free(g->by_name);
	free(g->tensors);
	mapping_close(&g->file);
	free(g->path);
	free(g);
}

void
gguf_forget(const struct gguf *g)
{
	if (g->file.base != NULL)
		mapping_forget(&g->file);
}

const char *
gguf_get_path(const struct gguf *g)
{
	return g->path;
}

size_t
gguf_get_size(const struct gguf *g)
{
	return g->size;
}

int
gguf_check(const struct gguf *g, struct err *e)
{
	return g->file.base != NULL ? mapping_check(&g->file, g->path, e) : 0;
}

int
gguf_get_file(const struct gguf *g)
{
	return g->file.fd;
}

size_t
gguf_count_tensors(const struct gguf *g)
{
	return g->n_tensors;
}

const struct gguf_tensor *
gguf_get_tensor(const struct gguf *g, size_t i)
{
	assert(i < g->n_tensors);
	return &g->tensors[i];
}

const struct gguf_tensor *
gguf_find_tensor(const struct gguf *g, const char *name)
{
	size_t low = 0, high = g->n_tensors;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(name, g->by_name[mid]->name);

		if (c == 0)
			return g->by_name[mid];
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

static const struct entry *
find_entry(const struct gguf *g, const char *key)
{
	const struct entry wanted = { .key = string_of(key) };
	struct entry *en;

	if (g->n_entries == 0)
		return NULL;
	en = bsearch(&wanted, g->entries, g->n_entries, sizeof *g->entries, compare_entries);
	if (en != NULL)
		en->asked = true;
	return en;
}

static const struct entry *
find_scalar(const struct gguf *g, const char *key)
{
	const struct entry *en = find_entry(g, key);

	return en != NULL && !en->is_array ? en : NULL;
}

/* The array at key if it has an element i. */
static const struct entry *
find_array(const struct gguf *g, const char *key, int64_t i)
{
	const struct entry *en = find_entry(g, key);

	return en != NULL && en->is_array && i >= 0 && (uint64_t)i < en->count ? en : NULL;
}

#define LOAD(type, to, from) do { type v_; memcpy(&v_, (from), sizeof v_); (to) = v_; } while (0)

/* Where value i of fixed size stands. */
static const unsigned char *
value_at(const struct entry *en, int64_t i)
{
	return en->values + (size_t)i * value_size[en->type];
}

static bool
load_int(const struct entry *en, int64_t i, bool allow_bool, int64_t *value)
{
	const unsigned char *p;
	uint64_t u;

	if (en->type == GGUF_STRING)
		return false;
	p = value_at(en, i);
	switch (en->type) {
	case GGUF_U8:
		LOAD(uint8_t, *value, p);
		return true;
	case GGUF_I8:
		LOAD(int8_t, *value, p);
		return true;
	case GGUF_U16:
		LOAD(uint16_t, *value, p);
		return true;
	case GGUF_I16:
		LOAD(int16_t, *value, p);
		return true;
	case GGUF_U32:
		LOAD(uint32_t, *value, p);
		return true;
	case GGUF_I32:
		LOAD(int32_t, *value, p);
		return true;
	case GGUF_I64:
		LOAD(int64_t, *value, p);
		return true;
	case GGUF_U64:
		LOAD(uint64_t, u, p);
		if (u > INT64_MAX)
			return false;
		*value = (int64_t)u;
		return true;
	case GGUF_BOOL:
		if (allow_bool)
			*value = *p;
		return allow_bool;
	default:
		return false;
	}
}

static bool
load_float(const struct entry *en, int64_t i, double *value)
{
	if (en->type == GGUF_F32)
		LOAD(float, *value, value_at(en, i));
	else if (en->type == GGUF_F64)
		LOAD(double, *value, value_at(en, i));
	else
		return false;
	return true;
}

static bool
load_string(const struct entry *en, int64_t i, struct gguf_string *value)
{
	if (en->type != GGUF_STRING)
		return false;
	LOAD(uint64_t, value->len, en->strings[i]);
	value->data = (const char *)en->strings[i] + sizeof(uint64_t);
	return true;
}

bool
gguf_has_key(const struct gguf *g, const char *key)
{
	return find_entry(g, key) != NULL;
}

bool
gguf_next_unasked(const struct gguf *g, const char *prefix, size_t *i, struct gguf_string *key)
{
	size_t len = strlen(prefix);

	while (*i < g->n_entries) {
		const struct entry *en = &g->entries[(*i)++];

		if (!en->asked && en->key.len > len && memcmp(en->key.data, prefix, len) == 0) {
			*key = en->key;
			return true;
		}
	}
	return false;
}

bool
gguf_get_int(const struct gguf *g, const char *key, int64_t *value)
{
	const struct entry *en = find_scalar(g, key);

	return en != NULL && load_int(en, 0, false, value);
}

bool
gguf_get_float(const struct gguf *g, const char *key, double *value)
{
	const struct entry *en = find_scalar(g, key);

	return en != NULL && load_float(en, 0, value);
}

bool
gguf_get_bool(const struct gguf *g, const char *key, bool *value)
{
	const struct entry *en = find_scalar(g, key);

	if (en == NULL || en->type != GGUF_BOOL)
		return false;
	*value = en->values[0] != 0;
	return true;
}

bool
gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *value)
{
	const struct entry *en = find_scalar(g, key);

	return en != NULL && load_string(en, 0, value);
}

int64_t
gguf_get_array(const struct gguf *g, const char *key, enum gguf_value_type *type)
{
	const struct entry *en = find_entry(g, key);

	if (en == NULL || !en->is_array)
		return -1;
	*type = en->type;
	return (int64_t)en->count;
}

bool
gguf_get_array_string(const struct gguf *g, const char *key, int64_t i, struct gguf_string *value)
{
	const struct entry *en = find_array(g, key, i);

	return en != NULL && load_string(en, i, value);
}

bool
gguf_get_array_int(const struct gguf *g, const char *key, int64_t i, int64_t *value)
{
	const struct entry *en = find_array(g, key, i);

	return en != NULL && load_int(en, i, true, value);
}

bool
gguf_get_array_float(const struct gguf *g, const char *key, int64_t i, double *value)
{
	const struct entry *en = find_array(g, key, i);

	return en != NULL && load_float(en, i, value);
}
