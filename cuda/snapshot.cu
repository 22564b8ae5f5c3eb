/*
 * Keys and values of tokens as bytes: per token and head the key's row, the
 * value's, and their scales (q8_0), each as it lies in the cache.
 */
#include "device.cuh"

static size_t
cuda_snapshot_element_size(enum kv_type type)
{
	return type == KV_F32 ? sizeof(float) : type == KV_F16 ? sizeof(__half) : 1;
}

/* The arrays of a cache: bytes from slot to slot. */
struct part {
	char *base;
	size_t row;
};
enum { PARTS = 4 };

static void
list_parts(const struct cache *c, struct part parts[PARTS])
{
	size_t size = cuda_snapshot_element_size(c->s.type), scales = c->s.type == KV_Q8_0 ? sizeof(__half) : 0;

	parts[0] = { static_cast<char *>(c->k), (size_t)c->k_ld * size };
	parts[1] = { static_cast<char *>(c->v), (size_t)c->v_ld * size };
	parts[2] = { reinterpret_cast<char *>(c->k_scale), (size_t)c->k_ld / 32 * scales };
	parts[3] = { reinterpret_cast<char *>(c->v_scale), (size_t)c->v_ld / 32 * scales };
}

void
cache_set_sinks(struct backend *b, struct cache *c, int64_t sinks)
{
	struct cuda *u = cuda_of(b);

	cuda_use(u);
	plan_flush(u);
	plan_forget(u);
	c->s.sinks = sinks;
}

size_t
cache_token_bytes(const struct cache *c)
{
	struct part parts[PARTS];
	size_t all = 0;

	list_parts(c, parts);
	for (int i = 0; i < PARTS; i++)
		all += parts[i].row;
	return all * (size_t)c->s.n_head_kv;
}

/* n tokens whose slots follow each other. */
static void
copy_run(struct cuda *u, const struct cache *c, int layer, int64_t slot, int64_t n, char *host, bool save)
{
	struct part parts[PARTS];
	size_t pitch = cache_token_bytes(c);

	list_parts(c, parts);
	for (int h = 0; h < c->s.n_head_kv; h++)
		for (int i = 0; i < PARTS; i++) {
			int64_t row = ((int64_t)layer * c->s.n_head_kv + h) * c->slots + slot;
			char *device = parts[i].base + (size_t)row * parts[i].row;

			if (parts[i].row == 0)
				continue;
			if (save)
				CHECK(u, cudaMemcpy2DAsync(host, pitch, device, parts[i].row, parts[i].row, (size_t)n,
				    cudaMemcpyDeviceToHost, u->stream));
			else
				CHECK(u, cudaMemcpy2DAsync(device, parts[i].row, host, pitch, parts[i].row, (size_t)n,
				    cudaMemcpyHostToDevice, u->stream));
			host += parts[i].row;
		}
}

static int
cuda_snapshot_copy_tokens(struct cuda *u, const struct cache *c, int layer, int64_t first, int64_t n, char *host,
    bool save,
    struct err *e)
{
	cuda_use(u);
	plan_flush(u);
	while (n > 0) {
		bool sink = first < c->s.sinks;
		int64_t at = sink ? first : (first - c->s.sinks) % c->s.slots,
		    run = (sink ? c->s.sinks : c->s.slots) - at;

		if (run > n)
			run = n;
		copy_run(u, c, layer, sink ? at : c->sink_slots + at, run, host, save);
		first += run;
		n -= run;
		host += (size_t)run * cache_token_bytes(c);
	}
	CHECK(u, cudaStreamSynchronize(u->stream));
	return cuda_report(u, e);
}

int
cache_save(struct backend *b, struct cache *c, int layer, int64_t first, int64_t n, void *to, struct err *e)
{
	return cuda_snapshot_copy_tokens(cuda_of(b), c, layer, first, n, static_cast<char *>(to), true, e);
}

int
cache_load(struct backend *b, struct cache *c, int layer, int64_t first, int64_t n, const void *from, struct err *e)
{
	return cuda_snapshot_copy_tokens(cuda_of(b), c, layer, first, n, static_cast<char *>(const_cast<void *>(from)),
	    false, e);
}

int
cache_copy(struct backend *b, struct cache *to, const struct cache *from, struct err *e)
{
	struct cuda *u = cuda_of(b);
	struct part parts[PARTS], copies[PARTS];
	size_t rows = (size_t)from->s.n_layer * (size_t)from->s.n_head_kv * (size_t)from->slots;

	if (to->s.sinks != from->s.sinks)
		cache_set_sinks(b, to, from->s.sinks);
	cuda_use(u);
	plan_flush(u);
	list_parts(from, parts);
	list_parts(to, copies);
	for (int i = 0; i < PARTS; i++)
		if (parts[i].row > 0)
			CHECK(u, cudaMemcpyAsync(copies[i].base, parts[i].base, rows * parts[i].row,
			    cudaMemcpyDeviceToDevice, u->stream));
	CHECK(u, cudaStreamSynchronize(u->stream));
	return cuda_report(u, e);
}
