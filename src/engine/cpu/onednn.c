/*
 * Products by oneDNN's matmul, which uses AMX where the processor has it. Its
 * kernels are made for a number of rows, so n rows are cut into powers of two;
 * each of these is tried out, at every place of a larger one, before it is
 * used: the same row must get the same bits (batched = streamed).
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/random.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/matmul.h"
#include "engine/cpu/onednn_load.h"
#include "engine/quant.h"

enum {
	SIZES = 9,                /* products have 1, 2, 4 ... */
	ROWS = 1 << (SIZES - 1),  /* ... 256 rows */
	PROBE_COLUMNS = 512,      /* of the first product, which says whether any works */
};

enum { X, WEIGHTS, Y, SCRATCH, ARGUMENTS };

/* Memory objects hold an address and so belong to one thread. */
struct arguments {
	dnnl_exec_arg_t a[ARGUMENTS];
};

/* The products with weights of so many (padded) columns. */
struct shape {
	int64_t cols;
	dnnl_primitive_t products[SIZES];
	struct arguments *arguments; /* [threads, SIZES] */
};

struct matmul {
	struct onednn lib;
	int threads;
	dnnl_engine_t engine;
	dnnl_stream_t *streams;      /* [threads] */
	float **results;             /* [threads] of [ROWS, TILE] */
	void **scratch;              /* [threads] of scratch_size bytes, for oneDNN */
	size_t scratch_size;
	struct shape *shapes;
	int n_shapes;
};

static void
free_shape(struct matmul *m, struct shape *s)
{
	for (int i = 0; s->arguments != NULL && i < m->threads * SIZES; i++)
		for (int j = 0; j < ARGUMENTS; j++)
			m->lib.dnnl_memory_destroy(s->arguments[i].a[j].memory);
	for (int i = 0; i < SIZES; i++)
		m->lib.dnnl_primitive_destroy(s->products[i]);
	free(s->arguments);
}

static void
close_onednn(struct matmul *m)
{
	if (m == NULL)
		return;
	for (int i = 0; i < m->n_shapes; i++)
		free_shape(m, &m->shapes[i]);
	for (int i = 0; i < m->threads; i++) {
		if (m->streams != NULL)
			m->lib.dnnl_stream_destroy(m->streams[i]);
		if (m->results != NULL)
			free(m->results[i]);
		if (m->scratch != NULL)
			free(m->scratch[i]);
	}
	m->lib.dnnl_engine_destroy(m->engine);
	free(m->streams);
	free(m->results);
	free(m->scratch);
	free(m->shapes);
	free(m);
}

static bool
takes(uint32_t type)
{
	/* F32 and F16 weights have more digits than bfloat16 keeps. */
	return type != QUANT_F32 && type != QUANT_F16;
}

static size_t
tile_size(int64_t cols)
{
	return (size_t)(TILE * matmul_pad(cols)) * sizeof(uint16_t);
}

/* Up to PANEL rows, pairs of columns side by side: oneDNN's BA16a16b2a, and the words of bfloat16 weights. */
static void
pack_panel(const struct cpu_kernels *k, const struct weight *w, int64_t first, int rows, uint32_t *panel,
    float *scratch)
{
	const struct weight rounded = { .type = QUANT_BF16, .rows = PANEL, .cols = 2 * BLOCK_K, .data = scratch };
	size_t row_size = quant_row_size(w->type, w->cols);

	for (int64_t k0 = 0; k0 < w->cols; k0 += BLOCK_K) {
		int64_t n = w->cols - k0 < BLOCK_K ? w->cols - k0 : BLOCK_K;
		const char *src = (const char *)w->data + (size_t)first * row_size + quant_row_size(w->type, k0);

		for (int r = 0; r < rows && w->type != QUANT_BF16; r++) {
			float *row = scratch + r * BLOCK_K;

			k->decode(w->type, src + (size_t)r * row_size, n, row);
			k->to_bf16(row, n, (uint16_t *)row);
		}
		if (w->type == QUANT_BF16)
			k->transpose(w, first, rows, k0, n, panel + k0 / 2 * PANEL);
		else
			k->transpose(&rounded, 0, rows, 0, n, panel + k0 / 2 * PANEL);
	}
	for (int64_t i = (w->cols + 1) / 2; i < matmul_pad(w->cols) / 2; i++)
		memset(panel + i * PANEL, 0, PANEL * sizeof *panel);
}

static void
pack(const struct cpu_kernels *k, const struct weight *w, int64_t first, int rows, void *tile, float *scratch)
{
	uint32_t *panel = tile;

	for (int r = 0; r < TILE; r += PANEL, panel += matmul_pad(w->cols) / 2 * PANEL) {
		if (r < rows)
			pack_panel(k, w, first + r, rows - r < PANEL ? rows - r : PANEL, panel, scratch);
		else
			memset(panel, 0, (size_t)(matmul_pad(w->cols) / 2 * PANEL) * sizeof *panel);
	}
}

/* One product of 1 << size rows. Nothing that can fail is left in it: memory and kernel are there. */
static void
execute(struct matmul *m, const struct shape *s, int size, int worker, const uint16_t *x, const void *tile, float *y)
{
	const struct arguments *a = &s->arguments[worker * SIZES + size];
	dnnl_status_t status = m->lib.dnnl_memory_set_data_handle(a->a[X].memory, (void *)(uintptr_t)x);

	status |= m->lib.dnnl_memory_set_data_handle(a->a[WEIGHTS].memory, (void *)(uintptr_t)tile);
	status |= m->lib.dnnl_memory_set_data_handle(a->a[Y].memory, y);
	status |= m->lib.dnnl_memory_set_data_handle(a->a[SCRATCH].memory, m->scratch[worker]);
	status |= m->lib.dnnl_primitive_execute(s->products[size], m->streams[worker], ARGUMENTS, a->a);
	assert(status == dnnl_success);
}

static const struct shape *
find_shape(const struct matmul *m, int64_t cols)
{
	for (int i = 0; i < m->n_shapes; i++)
		if (m->shapes[i].cols == matmul_pad(cols))
			return &m->shapes[i];
	return NULL;
}

static void
product(struct matmul *m, int worker, const uint16_t *x, int n, int64_t cols, const void *tile, int n_panels, float *y,
    int64_t ldy)
{
	const struct shape *s = find_shape(m, cols);

	assert(s != NULL);
	for (int size = SIZES - 1, rows; n > 0; n -= rows, x += rows * s->cols, y += rows * ldy) {
		float *results = ldy == TILE ? y : m->results[worker]; /* oneDNN's rows lie side by side */

		while (1 << size > n)
			size--;
		rows = 1 << size;
		execute(m, s, size, worker, x, tile, results);
		for (int i = 0; i < rows && results != y; i++)
			memcpy(y + i * ldy, results + i * TILE, (size_t)(n_panels * PANEL) * sizeof *y);
	}
}

/* Is it a kernel over panels, as those for AMX are? What oneDNN has besides is slow, or its sums depend on the rows. */
static bool
is_blocked(const struct matmul *m, const_dnnl_primitive_desc_t d)
{
	const char *name = NULL;

	return m->lib.dnnl_primitive_desc_query(d, dnnl_query_impl_info_str, 0, &name) == dnnl_success &&
	    strncmp(name, "brg", 3) == 0;
}

/* The operands of a product of so many rows and columns, in the order of enum { X, WEIGHTS, Y }. */
static dnnl_status_t
describe(const struct matmul *m, int64_t rows, int64_t cols, dnnl_memory_desc_t md[SCRATCH])
{
	dnnl_dims_t x = { rows, cols }, weights = { cols, TILE }, y = { rows, TILE };
	dnnl_status_t status = m->lib.dnnl_memory_desc_init_by_tag(&md[X], 2, x, dnnl_bf16, dnnl_ab);

	status |= m->lib.dnnl_memory_desc_init_by_tag(&md[WEIGHTS], 2, weights, dnnl_bf16, dnnl_BA16a16b2a);
	return status | m->lib.dnnl_memory_desc_init_by_tag(&md[Y], 2, y, dnnl_f32, dnnl_ab);
}

/* One scratch for all products of a thread. What oneDNN keeps itself is for the thread that made them. */
static int
grow_scratch(struct matmul *m, size_t size)
{
	for (int i = 0; i < m->threads && size > m->scratch_size; i++) {
		free(m->scratch[i]);
		m->scratch[i] = cpu_alloc(size);
		if (m->scratch[i] == NULL)
			return -1;
	}
	m->scratch_size = size > m->scratch_size ? size : m->scratch_size;
	return 0;
}

/* Every thread's memory objects for a product. */
static dnnl_status_t
make_arguments(struct matmul *m, struct shape *s, int size, const dnnl_memory_desc_t *const md[ARGUMENTS])
{
	static const int names[ARGUMENTS] = { DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD };
	dnnl_status_t status = dnnl_success;

	for (int i = 0; i < m->threads; i++)
		for (int j = 0; j < ARGUMENTS; j++) {
			dnnl_exec_arg_t *a = &s->arguments[i * SIZES + size].a[j];

			a->arg = names[j];
			status |= m->lib.dnnl_memory_create(&a->memory, md[j], m->engine, DNNL_MEMORY_NONE);
		}
	return status;
}

static int
make_product(struct matmul *m, struct shape *s, int size, struct err *e)
{
	dnnl_memory_desc_t md[SCRATCH];
	dnnl_matmul_desc_t operation;
	dnnl_primitive_attr_t attributes = NULL;
	dnnl_primitive_desc_t d = NULL;
	dnnl_status_t status = describe(m, 1 << size, s->cols, md);
	int result = -1;

	status |= m->lib.dnnl_primitive_attr_create(&attributes);
	if (status == dnnl_success)
		status = m->lib.dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
	status |= m->lib.dnnl_matmul_desc_init(&operation, &md[X], &md[WEIGHTS], NULL, &md[Y]);
	if (status != dnnl_success ||
	    m->lib.dnnl_primitive_desc_create(&d, &operation, attributes, m->engine, NULL) != dnnl_success ||
	    !is_blocked(m, d)) {
		err_set(e, EX_UNAVAILABLE, "oneDNN has no bfloat16 kernel of its own for this processor");
	} else {
		const dnnl_memory_desc_t *scratch = m->lib.dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0);
		const dnnl_memory_desc_t *const all[ARGUMENTS] = { &md[X], &md[WEIGHTS], &md[Y], scratch };

		if (m->lib.dnnl_primitive_create(&s->products[size], d) != dnnl_success ||
		    make_arguments(m, s, size, all) != dnnl_success ||
		    grow_scratch(m, m->lib.dnnl_memory_desc_get_size(scratch)) < 0)
			err_set(e, EX_OSERR, "out of memory for oneDNN's products");
		else
			result = 0;
	}
	m->lib.dnnl_primitive_desc_destroy(d);
	m->lib.dnnl_primitive_attr_destroy(attributes);
	return result;
}

/* n bfloat16 numbers of either sign, from 2^-8 to 2. */
static void
fill(uint16_t *x, int64_t n)
{
	uint64_t state = 1;

	for (int64_t i = 0; i < n; i++) {
		uint64_t r = random_next(&state);

		x[i] = (uint16_t)((r & 1) << 15 | (119 + (r >> 1 & 7)) << 7 | (r >> 4 & 0x7f));
	}
}

/* Do rows get the same bits in products of every size, at every place? */
static int
check_sums(struct matmul *m, const struct shape *s, struct err *e)
{
	uint16_t *x = cpu_alloc((size_t)(ROWS * s->cols) * sizeof *x), *tile = cpu_alloc(tile_size(s->cols));
	float *all = cpu_alloc(ROWS * TILE * sizeof *all), *parts = cpu_alloc(ROWS * TILE * sizeof *parts);
	int result = 0;

	if (x == NULL || tile == NULL || all == NULL || parts == NULL) {
		result = err_set(e, EX_OSERR, "out of memory for a trial of oneDNN's products");
	} else {
		fill(x, ROWS * s->cols);
		fill(tile, TILE * s->cols);
		execute(m, s, SIZES - 1, 0, x, tile, all);
	}
	for (int size = 0; size < SIZES - 1 && result == 0; size++) {
		for (int row = 0; row < ROWS; row += 1 << size)
			execute(m, s, size, 0, x + row * s->cols, tile, parts + row * TILE);
		if (memcmp(all, parts, ROWS * TILE * sizeof *all) != 0)
			result = err_set(e, EX_UNAVAILABLE,
			    "oneDNN's sums over %lld columns depend on the number of rows on this processor (%d or %d)",
			    (long long)s->cols, 1 << size, ROWS);
	}
	free(x);
	free(tile);
	free(all);
	free(parts);
	return result;
}

static int
prepare(struct matmul *m, int64_t cols, struct err *e)
{
	struct shape s = { .cols = matmul_pad(cols) }, *shapes;
	int threads = m->lib.omp_get_max_threads(), result = 0;

	if (find_shape(m, cols) != NULL)
		return 0;
	shapes = realloc(m->shapes, (size_t)(m->n_shapes + 1) * sizeof *shapes);
	s.arguments = calloc((size_t)m->threads * SIZES, sizeof *s.arguments);
	if (shapes != NULL)
		m->shapes = shapes;
	if (shapes == NULL || s.arguments == NULL) {
		free(s.arguments);
		return err_set(e, EX_OSERR, "out of memory for oneDNN's products");
	}
	/* A product keeps for ever the number of threads that its maker might have used: one, it is a worker's own. */
	m->lib.omp_set_num_threads(1);
	for (int i = 0; i < SIZES && result == 0; i++)
		result = make_product(m, &s, i, e);
	m->lib.omp_set_num_threads(threads);
	if (result == 0)
		result = check_sums(m, &s, e);
	if (result == 0)
		m->shapes[m->n_shapes++] = s;
	else
		free_shape(m, &s);
	return result;
}

static bool
allocate(struct matmul *m)
{
	if (m->lib.dnnl_engine_create(&m->engine, dnnl_cpu, 0) != dnnl_success)
		return false;
	m->streams = calloc((size_t)m->threads, sizeof(*m->streams));
	m->results = calloc((size_t)m->threads, sizeof *m->results);
	m->scratch = calloc((size_t)m->threads, sizeof *m->scratch);
	if (m->streams == NULL || m->results == NULL || m->scratch == NULL)
		return false;
	for (int i = 0; i < m->threads; i++) {
		m->results[i] = cpu_alloc(ROWS * TILE * sizeof *m->results[i]);
		if (m->results[i] == NULL ||
		    m->lib.dnnl_stream_create(&m->streams[i], m->engine, dnnl_stream_default_flags) != dnnl_success)
			return false;
	}
	return true;
}

static struct matmul *
open_onednn(int threads, struct err *e)
{
	struct matmul *m = calloc(1, sizeof *m);

	if (m == NULL) {
		err_set(e, EX_OSERR, "out of memory for oneDNN");
		return NULL;
	}
	if (onednn_load(&m->lib, e) < 0) {
		free(m);
		return NULL;
	}
	m->threads = threads;
	if (!allocate(m))
		err_set(e, EX_OSERR, "out of memory for oneDNN");
	else if (prepare(m, PROBE_COLUMNS, e) == 0)
		return m;
	close_onednn(m);
	return NULL;
}

const struct matmul_ops matmul_onednn = {
	.open = open_onednn,
	.close = close_onednn,
	.takes = takes,
	.prepare = prepare,
	.tile_size = tile_size,
	.pack = pack,
	.product = product,
};
