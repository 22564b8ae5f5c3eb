/* The CPU backend: choice of the code path, row-wise operations, the table. */
#include "engine/cpu/cpu.h"

#ifdef HAVE_AVX2
#include <cpuid.h>
#endif
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/copies.h"
#include "engine/finite.h"
#include "engine/rope.h"

/* What "auto" stands for is the last of the others that is built and can run here. */
enum { AUTO, PLAIN, GENERIC, AVX2, AVX512, AVX512VNNI, AVX512BF16, PATHS };

const char *const context_paths[] = {
	[AUTO] = "auto",
	[PLAIN] = "plain",
	[GENERIC] = "generic",
	[AVX2] = "avx2",
	[AVX512] = "avx512",
	[AVX512VNNI] = "avx512vnni",
	[AVX512BF16] = "avx512bf16",
	[PATHS] = NULL,
};

static bool
always(void)
{
	return true;
}

/* clang 14 knows fewer names of features than gcc: the processor is asked directly for those. */
#if defined(HAVE_AVX512) || defined(HAVE_AVX512VNNI) || defined(HAVE_AVX512BF16)
static bool
has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

#if defined(HAVE_AVX512VNNI) || defined(HAVE_AVX512BF16)
static bool
has_avx512vnni(void)
{
	return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
#endif

#ifdef HAVE_AVX512BF16
/* Bit 5 of EAX of leaf 7, subleaf 1. */
static bool
has_avx512bf16(void)
{
	unsigned a, b, c, d;

	return has_avx512vnni() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1u << 5) != 0;
}
#endif

#ifdef HAVE_AVX2
static bool
has_avx2(void)
{
	unsigned a, b, c, d;

	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) != 0 &&
	    (c & bit_F16C) != 0;
}
#endif

static const struct path {
	const struct cpu_kernels *kernels; /* NULL: not built */
	bool (*usable)(void);
} paths[PATHS] = {
	[PLAIN] = { &kernels_plain, always },
	[GENERIC] = { &kernels_generic, always },
#ifdef HAVE_AVX2
	[AVX2] = { &kernels_avx2, has_avx2 },
#endif
#ifdef HAVE_AVX512
	[AVX512] = { &kernels_avx512, has_avx512 },
#endif
#ifdef HAVE_AVX512VNNI
	[AVX512VNNI] = { &kernels_avx512vnni, has_avx512vnni },
#endif
#ifdef HAVE_AVX512BF16
	[AVX512BF16] = { &kernels_avx512bf16, has_avx512bf16 },
#endif
};

/* Which of paths, or -1 with *e set. */
static int
pick_path(const char *name, struct err *e)
{
	bool any = strcmp(name, context_paths[AUTO]) == 0;

	for (int i = PATHS - 1; i > AUTO; i--)
		if ((any || strcmp(name, context_paths[i]) == 0) && paths[i].kernels != NULL && paths[i].usable())
			return i;
	return err_set(e, EX_USAGE, "code path '%s' is not available on this processor", name);
}

static void *
backend_alloc(struct backend *b, size_t bytes)
{
	(void)b;
	return aligned_new(bytes);
}

static void
backend_free(struct backend *b, void *p)
{
	(void)b;
	free(p);
}

static int
copy_bytes(struct backend *b, void *dst, const void *src, size_t bytes, struct err *e)
{
	(void)b;
	(void)e;
	memmove(dst, src, bytes);
	return 0;
}

static void
copy(struct backend *b, float *dst, const float *src, int64_t n)
{
	(void)b;
	if (dst != src)
		memcpy(dst, src, (size_t)n * sizeof *dst);
}

static int
load_vector(struct backend *b, struct vector *v, struct err *e)
{
	(void)b;
	(void)v;
	(void)e;
	return 0;
}

static void
unload_vector(struct backend *b, struct vector *v)
{
	(void)b;
	(void)v;
}

/* Row-wise operations share one job: what is done to row i. */
struct row_job {
	const struct cpu_kernels *k;
	int kind;
	float eps;
	const float *weight, *bias, *x, *x2;
	const struct rope *rope;
	const int64_t *positions;
	int heads, d;
	int64_t n, width;
	float *y;
};

enum { CHUNK_DEFAULT = 256 };

/* Rows that one task takes: enough work to pay for handing it out. */
enum { ROWS_PER_TASK = 8, VALUES_PER_TASK = 16384 };

static void
run_rows(struct backend *b, void (*fn)(void *, int, int), struct row_job *j)
{
	struct cpu *c = (struct cpu *)b;

	j->k = c->k;
	team_run(c->team, fn, j, (int)((j->n + ROWS_PER_TASK - 1) / ROWS_PER_TASK));
}

#define FOR_TASK_ROWS(i, j, task) \
	for (int64_t i = (int64_t)(task) * ROWS_PER_TASK; i < (j)->n && i < ((int64_t)(task) + 1) * ROWS_PER_TASK; i++)

static void
norm_rows(void *arg, int task, int worker)
{
	struct row_job *j = arg;

	(void)worker;
	FOR_TASK_ROWS(i, j, task)
		j->k->norm((enum norm_kind)j->kind, j->eps, j->weight, j->bias, j->x + i * j->width, j->width,
		    j->y + i * j->width);
}

static void
cpu_norm(struct backend *b, enum norm_kind kind, float eps, const struct vector *weight, const struct vector *bias,
    const float *x, int64_t n, int64_t width, float *y)
{
	struct row_job j = { .kind = (int)kind, .eps = eps, .weight = weight->data, .bias = bias->data, .x = x, .n = n,
		.width = width, .y = y };

	run_rows(b, norm_rows, &j);
}

static void
table_rows(void *arg, int task, int worker)
{
	struct row_job *j = arg;
	int half = j->rope->n_rot / 2;

	(void)worker;
	FOR_TASK_ROWS(i, j, task)
		for (int p = 0; p < half; p++) {
			float *out = j->y + (i * half + p) * 2;

			rope_angle(j->rope, p, j->positions[i], &out[0], &out[1]);
		}
}

static void
rope_table(struct backend *b, const struct rope *r, const int64_t *positions, int n, float *table)
{
	struct row_job j = { .rope = r, .positions = positions, .n = n, .y = table };

	run_rows(b, table_rows, &j);
}

static void
rotate_rows(void *arg, int task, int worker)
{
	struct row_job *j = arg;

	(void)worker;
	FOR_TASK_ROWS(i, j, task)
		j->k->rotate(j->rope, j->x2 + i * j->rope->n_rot, j->x + i * j->width, j->heads, j->d,
		    j->y + i * j->width);
}

static void
cpu_rotate(struct backend *b, const struct rope *r, const float *table, const float *x, int n, int heads, int d,
    float *y)
{
	struct row_job j = { .rope = r, .x = x, .x2 = table, .n = n, .heads = heads, .d = d,
	    .width = (int64_t)heads * d,
		.y = y };

	run_rows(b, rotate_rows, &j);
}

static void
activate_values(void *arg, int task, int worker)
{
	struct row_job *j = arg;
	int64_t first = (int64_t)task * VALUES_PER_TASK, n = j->n - first < VALUES_PER_TASK ? j->n - first
	    : VALUES_PER_TASK;

	(void)worker;
	j->k->activate((enum activation)j->kind, j->x + first, j->x2 != NULL ? j->x2 + first : NULL, n, j->y + first);
}

static void
cpu_activate(struct backend *b, enum activation act, const float *gate, const float *up, int64_t n, float *y)
{
	struct cpu *c = (struct cpu *)b;
	struct row_job j = { .k = c->k, .kind = (int)act, .x = gate, .x2 = up, .n = n, .y = y };

	team_run(c->team, activate_values, &j, (int)((n + VALUES_PER_TASK - 1) / VALUES_PER_TASK));
}

static void
add_values(void *arg, int task, int worker)
{
	struct row_job *j = arg;
	int64_t first = (int64_t)task * VALUES_PER_TASK, n = j->n - first < VALUES_PER_TASK ? j->n - first
	    : VALUES_PER_TASK;

	(void)worker;
	for (int64_t i = first; i < first + n; i++)
		j->y[i] += j->x[i];
}

static void
cpu_add(struct backend *b, float *x, const float *y, int64_t n)
{
	struct row_job j = { .x = y, .n = n, .y = x };

	team_run(((struct cpu *)b)->team, add_values, &j, (int)((n + VALUES_PER_TASK - 1) / VALUES_PER_TASK));
}

static int
sync_nothing(struct backend *b, struct err *e)
{
	(void)b;
	(void)e;
	return 0;
}

static bool
is_finite(struct backend *b, const float *x, int64_t n)
{
	(void)b;
	return floats_are_finite(x, n);
}

static void
close_cpu(struct backend *b)
{
	struct cpu *c = (struct cpu *)b;

	team_free(c->team);
	copies_free(c->copies);
	for (int i = 0; c->scratch != NULL && i < b->threads; i++) {
		free(c->scratch[i].panels);
		free(c->scratch[i].rows);
		free(c->scratch[i].tile);
	}
	free(c->scratch);
	free(c->x16);
	free(c->x8);
	free(c->partial);
	free(c);
}

static const struct backend_ops cpu_ops = {
	.close = close_cpu,
	.alloc = backend_alloc,
	.free = backend_free,
	.write = copy_bytes,
	.read = copy_bytes,
	.copy = copy,
	.load_weight = cpu_load_weight,
	.unload_weight = cpu_unload_weight,
	.load_vector = load_vector,
	.unload_vector = unload_vector,
	.cache_new = cpu_cache_new,
	.cache_free = cpu_cache_free,
	.cache_grow = cpu_cache_grow,
	.cache_set_sinks = cpu_cache_set_sinks,
	.cache_bytes = cpu_cache_bytes,
	.cache_token_bytes = cpu_cache_token_bytes,
	.cache_save = cpu_cache_save,
	.cache_load = cpu_cache_load,
	.cache_copy = cpu_cache_copy,
	.embed = cpu_embed,
	.norm = cpu_norm,
	.linear = cpu_linear,
	.rope_table = rope_table,
	.rotate = cpu_rotate,
	.store = cpu_store,
	.attend = cpu_attend,
	.activate = cpu_activate,
	.add = cpu_add,
	.score = cpu_score,
	.logits = cpu_logits,
	.sync = sync_nothing,
	.is_finite = is_finite,
};

static int
allocate_scratch(struct cpu *c)
{
	size_t chunk = (size_t)c->limits.chunk, panels = (size_t)TILE * BLOCK_K * sizeof(float);

	c->copies = copies_new(c->limits.copies);
	c->scratch = calloc((size_t)c->base.threads, sizeof *c->scratch);
	c->x16 = aligned_new(chunk * (size_t)aligned_pad(c->limits.widest) * sizeof *c->x16);
	c->x8 = aligned_new(chunk * (size_t)(c->limits.widest / Q8_BLOCK + 1) * sizeof *c->x8);
	if (c->copies == NULL || c->scratch == NULL || c->x16 == NULL || c->x8 == NULL)
		return -1;
	for (int i = 0; i < c->base.threads; i++) {
		c->scratch[i].panels = aligned_new(panels);
		c->scratch[i].rows = aligned_new((size_t)PANEL * BLOCK_K * sizeof(float));
		c->scratch[i].tile = aligned_new(chunk * TILE * sizeof(float));
		if (c->scratch[i].panels == NULL || c->scratch[i].rows == NULL || c->scratch[i].tile == NULL)
			return -1;
	}
	return 0;
}

static int
count_processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

struct backend *
backend_open_cpu(const char *path, int threads, const struct backend_limits *limits, struct err *e)
{
	int picked = pick_path(path, e);
	const struct path *p;
	struct cpu *c;

	if (picked < 0)
		return NULL;
	p = &paths[picked];
	c = calloc(1, sizeof *c);
	if (c == NULL) {
		err_set(e, EX_OSERR, "out of memory for the CPU backend");
		return NULL;
	}
	c->base = (struct backend){ .ops = &cpu_ops, .path = context_paths[picked],
		.threads = threads > 0 ? threads : count_processors(),
		.chunk = limits->chunk > 0 ? limits->chunk : CHUNK_DEFAULT,
		.kv = p->kernels->product_bf16 != NULL ? KV_BF16 : KV_F32 };
	c->k = p->kernels;
	c->limits = *limits;
	c->limits.chunk = c->base.chunk;
	if (allocate_scratch(c) < 0) {
		err_set(e, EX_OSERR, "out of memory for the CPU backend");
	} else if ((c->team = team_new(c->base.threads)) == NULL) {
		err_set(e, EX_OSERR, "%d threads cannot be started", c->base.threads);
	} else {
		return &c->base;
	}
	close_cpu(&c->base);
	return NULL;
}
