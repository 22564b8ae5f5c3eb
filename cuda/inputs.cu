/*
 * What changes from pass to pass: ids, positions, targets. They are gathered in
 * pinned memory of the host, and a pass's first kernel fetches them: neither
 * asking for a copy nor waiting for the engine that makes it costs time then.
 */
#include <string.h>

#include "launch.cuh"
#include "plan/plan.cuh"

enum {
	INPUTS_PER_TOKEN = 48,   /* ids, targets and four kinds of positions, and alignment */
	INPUTS_FIXED = 4096, FETCHERS = 1024,
};

void
inputs_new(struct cuda *c, struct pass_inputs *l)
{
	void *stages, *turns, *fetched;

	l->used = INPUTS_FIRSTS * sizeof(int64_t);
	l->size = ((size_t)c->limits.chunk * INPUTS_PER_TOKEN + INPUTS_FIXED + 15) / 16 * 16;
	if (CHECK(c, cudaMallocHost(&stages, STAGES * l->size)))
		return;
	l->stages = static_cast<char *>(stages);
	if (CHECK(c, cudaMallocHost(&fetched, sizeof *l->fetched)))
		return;
	l->fetched = static_cast<unsigned *>(fetched);
	*l->fetched = 0;
	if (CHECK(c, cudaMalloc(&l->device, l->size)) || CHECK(c, cudaMalloc(&turns, sizeof *l->turn)))
		return;
	l->turn = static_cast<unsigned *>(turns);
	CHECK(c, cudaMemsetAsync(l->turn, 0, sizeof *l->turn, c->stream));
}

void
inputs_free(struct pass_inputs *l)
{
	cudaFreeHost(l->stages);
	cudaFreeHost(l->fetched);
	cudaFree(l->device);
	cudaFree(l->turn);
}

bool
inputs_has_room(const struct pass_inputs *l, size_t bytes)
{
	return l->used + bytes + 64 <= l->size;
}

/* Where this pass's bytes are gathered. As a rule the device has fetched long ago what lay there before. */
static char *
inputs_stage_of(struct cuda *c, struct pass_inputs *l)
{
	while (!l->staged && l->passes - *static_cast<volatile unsigned *>(l->fetched) >= STAGES) {
		cudaError_t r = cudaStreamQuery(c->stream);

		if (r == cudaErrorNotReady)
			continue;
		CHECK(c, r);
		break;
	}
	l->staged = true;
	return l->stages + l->passes % STAGES * l->size;
}

const void *
inputs_put(struct cuda *c, struct pass_inputs *l, const void *data, size_t bytes)
{
	size_t at = (l->used + 15) / 16 * 16;

	if (c->failure.code != 0 || at + bytes > l->size)
		return l->device;
	memcpy(inputs_stage_of(c, l) + at, data, bytes);
	l->used = at + bytes;
	return l->device + at;
}

const int64_t *
inputs_put_first(struct cuda *c, struct pass_inputs *l, int64_t first)
{
	const int64_t *device = reinterpret_cast<const int64_t *>(l->device);
	int i = 0;

	if (c->failure.code != 0)
		return device;
	while (i < l->n_firsts && l->firsts[i] != first)
		i++;
	if (i == INPUTS_FIRSTS)
		return NULL;
	reinterpret_cast<int64_t *>(inputs_stage_of(c, l))[i] = l->firsts[i] = first;
	if (i == l->n_firsts)
		l->n_firsts++;
	return device + i;
}

/*
 * One block, which knows by itself whose turn it is, of as many threads as there
 * are pieces, so that all of these are on their way at once. Successors begin
 * when it has ended: attention looks at its position before it waits.
 */
static __global__ void __launch_bounds__(FETCHERS)
fetch_kernel(const char *stages, size_t size, int pieces, unsigned *turn, unsigned *fetched, uint4 *to)
{
	unsigned pass;
	const uint4 *from;

	wait_alone();
	pass = __ldcg(turn);
	from = reinterpret_cast<const uint4 *>(stages + pass % STAGES * size);
	for (int i = threadIdx.x; i < pieces; i += (int)blockDim.x)
		to[i] = __ldcv(from + i);
	__threadfence();
	__syncthreads();
	if (threadIdx.x == 0) {
		*turn = pass + 1;
		*static_cast<volatile unsigned *>(fetched) = pass + 1;
	}
}

void
inputs_fetch(struct cuda *c, const struct pass_inputs *l)
{
	int pieces = (int)((l->used + 15) / 16), threads = pieces < FETCHERS ? (pieces + 31) / 32 * 32 : FETCHERS;

	if (l->staged)
		launch(c, true, fetch_kernel, 1, (unsigned)threads, 0, static_cast<const char *>(l->stages), l->size,
		    pieces, l->turn, l->fetched, reinterpret_cast<uint4 *>(l->device));
}

void
inputs_end(struct pass_inputs *l)
{
	if (l->staged)
		l->passes++;
	l->staged = false;
	l->used = INPUTS_FIRSTS * sizeof(int64_t);
	l->n_firsts = 0;
}
