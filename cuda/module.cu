/*
 * The CUDA module's entry: opening a device, its memory, its errors. All
 * device work of a backend runs on one stream; the calling thread may change.
 */
#include <new>
#include <stdlib.h>
#include <string.h>

#include "launch.cuh"

bool
cuda_failed(struct cuda *c, cudaError_t r, const char *what)
{
	if (r == cudaSuccess)
		return c->failure.code != 0;
	if (c->failure.code == 0)
		err_set(&c->failure, EX_TEMPFAIL, "%s: %s (%.60s)", c->path, cudaGetErrorString(r), what);
	cudaGetLastError();
	return true;
}

int
cuda_report(const struct cuda *c, struct err *e)
{
	if (c->failure.code == 0)
		return 0;
	return err_set(e, c->failure.code, "%s", c->failure.text);
}

void
cuda_use(const struct cuda *c)
{
	cudaSetDevice(c->device);
}

void *
cuda_scratch(struct cuda *c, enum scratch_slot slot, size_t bytes)
{
	if (c->scratch[slot].size >= bytes)
		return c->scratch[slot].p;
	plan_forget(c);
	CHECK(c, cudaStreamSynchronize(c->stream));
	cudaFree(c->scratch[slot].p);
	c->scratch[slot].p = NULL;
	c->scratch[slot].size = 0;
	if (CHECK(c, cudaMalloc(&c->scratch[slot].p, bytes)) ||
	    (slot == SCRATCH_POSTS && CHECK(c, cudaMemsetAsync(c->scratch[slot].p, 0xff, bytes, c->stream))))
		return NULL;
	c->scratch[slot].size = bytes;
	return c->scratch[slot].p;
}

int
cuda_clusters_at_once(struct cuda *c, const void *kernel, int cluster, int threads, size_t shared)
{
	cudaLaunchConfig_t config = {};
	cudaLaunchAttribute attribute = cluster_of((unsigned)cluster);
	int n = 0, i;

	if (!c->overlap)
		return 0;
	for (i = 0; i < c->n_clusters; i++)
		if (c->clusters[i].kernel == kernel && c->clusters[i].cluster == cluster &&
		    c->clusters[i].threads == threads &&
		    c->clusters[i].shared == shared)
			return c->clusters[i].at_once;
	config.gridDim = dim3((unsigned)cluster);
	config.blockDim = dim3((unsigned)threads);
	config.dynamicSmemBytes = shared;
	config.attrs = &attribute;
	config.numAttrs = 1;
	/* More than eight are a device's own affair; what it refuses is no failure. */
	if ((cluster > 8 &&
	        cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) != cudaSuccess) ||
	    cudaOccupancyMaxActiveClusters(&n, kernel, &config) != cudaSuccess) {
		cudaGetLastError();
		n = 0;
	}
	if (i == CLUSTERS_KNOWN)
		i = 0;
	else
		c->n_clusters++;
	c->clusters[i].kernel = kernel;
	c->clusters[i].cluster = cluster;
	c->clusters[i].threads = threads;
	c->clusters[i].shared = shared;
	c->clusters[i].at_once = n;
	return n;
}

void
cuda_close(struct backend *b)
{
	struct cuda *c = cuda_of(b);

	cuda_use(c);
	if (c->stream != NULL)
		cudaStreamSynchronize(c->stream);
	if (c->plan != NULL)
		plan_free(c, c->plan);
	arena_free(c->arena);
	for (int i = 0; i < SCRATCH_COUNT; i++)
		cudaFree(c->scratch[i].p);
	cudaFree(c->counters);
	cudaFree(c->results_device);
	cudaFreeHost(c->results);
	cudaFree(c->likeliest);
	cudaFreeHost(c->told);
	if (c->blas != NULL)
		cublasDestroy(c->blas);
	if (c->stream != NULL)
		cudaStreamDestroy(c->stream);
	free(c);
}

/* Whether there is a device of that number; its properties go to c. */
static int
choose_device(struct cuda *c, int gpu, struct err *e)
{
	struct cudaDeviceProp p;
	int count = 0;
	cudaError_t r = cudaGetDeviceCount(&count);

	if (r == cudaErrorInsufficientDriver)
		return err_set(e, EX_UNAVAILABLE, "CUDA: there is no NVIDIA driver, or one that is too old");
	if (r != cudaSuccess)
		return err_set(e, EX_UNAVAILABLE, "CUDA: %s", cudaGetErrorString(r));
	if (gpu < 0 || gpu >= count)
		return err_set(e, EX_UNAVAILABLE, "CUDA: there is no GPU %d, only %d in all", gpu, count);
	r = cudaGetDeviceProperties(&p, gpu);
	if (r == cudaSuccess)
		r = cudaSetDevice(gpu);
	if (r != cudaSuccess)
		return err_set(e, EX_UNAVAILABLE, "CUDA: GPU %d: %s", gpu, cudaGetErrorString(r));
	if (p.major < 8)
		return err_set(e, EX_UNAVAILABLE, "CUDA: GPU %d (%.100s) has compute capability %d.%d, at least 8.0 is "
		    "needed", gpu, p.name, p.major, p.minor);
	c->device = gpu;
	c->sms = p.multiProcessorCount;
	c->shared = p.sharedMemPerBlockOptin;
	c->shared_all = p.sharedMemPerMultiprocessor;
	c->memory = p.totalGlobalMem;
	c->hopper = p.major == 9 && p.minor == 0;
	c->overlap = p.major >= 9;
	snprintf(c->path, sizeof c->path, "cuda:%d %s", gpu, p.name);
	return 0;
}

/*
 * Small models fill the machine, and pay for their many launches, with more
 * tokens. Those of large ones take memory: some 800 KiB each where Llama 2 7B is.
 */
static int
choose_chunk(const struct cuda *c)
{
	if (c->limits.widest <= 2048)
		return 8192;
	return c->limits.widest <= 4096 || c->memory >= (size_t)40 << 30 ? 4096 : 2048;
}

static int
prepare_device(struct cuda *c, struct err *e)
{
	size_t results = (size_t)c->limits.chunk * sizeof(float);

	if (CHECK(c, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking)) ||
	    CHECK(c, cudaMalloc(&c->counters, COUNTERS_ALL * sizeof *c->counters)) ||
	    CHECK(c, cudaMemsetAsync(c->counters, 0, COUNTERS_ALL * sizeof *c->counters, c->stream)) ||
	    CHECK(c, cudaMalloc(&c->results_device, results)) || CHECK(c, cudaMallocHost(&c->results, results)) ||
	    CHECK(c, cudaMalloc(&c->likeliest, sizeof *c->likeliest)) ||
	    CHECK(c, cudaMemsetAsync(c->likeliest, 0, sizeof *c->likeliest, c->stream)) ||
	    CHECK(c, cudaMallocHost(&c->told, LIKELIEST_MAX * sizeof *c->told)))
		return err_set(e, EX_OSERR, "%s", c->failure.text);
	memset(c->told, 0, LIKELIEST_MAX * sizeof *c->told);
	if (cublasCreate(&c->blas) != CUBLAS_STATUS_SUCCESS ||
	    cublasSetStream(c->blas, c->stream) != CUBLAS_STATUS_SUCCESS)
		return err_set(e, EX_UNAVAILABLE, "%s: cuBLAS cannot be started", c->path);
	c->arena = arena_new();
	c->plan = plan_new(c);
	if (c->arena == NULL || c->plan == NULL)
		return err_set(e, EX_OSERR, "%s: out of memory", c->path);
	return 0;
}

static struct backend *
open_device(const struct backend_choice *choice, const struct backend_limits *limits, struct err *e)
{
	struct cuda *c = static_cast<struct cuda *>(calloc(1, sizeof *c));

	if (c == NULL) {
		err_set(e, EX_OSERR, "out of memory for the CUDA backend");
		return NULL;
	}
	c->limits = *limits;
	if (choose_device(c, choice->gpu, e) < 0) {
		free(c);
		return NULL;
	}
	if (c->limits.chunk == 0)
		c->limits.chunk = choose_chunk(c);
	c->base.ops = &plan_ops;
	c->base.path = c->path;
	c->base.threads = 1;
	c->base.chunk = c->limits.chunk;
	c->base.device = true;
	c->base.kv = KV_F16;
	if (prepare_device(c, e) < 0) {
		cuda_close(&c->base);
		return NULL;
	}
	return &c->base;
}

static const struct backend_module module_entry = { BACKEND_MODULE_VERSION, open_device };

extern "C" __attribute__((visibility("default"))) const struct backend_module *
sinkd_backend_module(void)
{
	return &module_entry;
}
