/*
 * Which backend computes. The CUDA backend is a module of its own, so that one
 * program runs with and without a GPU: it is looked for beside the program
 * (as it lies after building), then where it was installed.
 */
#include "engine/backend.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *const context_devices[] = { "auto", "cpu", "cuda", NULL };

static const char module_name[] = "sinkd-cuda.so";

/* The path of the module to load. */
static const char *
find_module(char path[PATH_MAX], const char *wanted)
{
	ssize_t n;
	char *slash;

	if (wanted != NULL)
		return wanted;
	n = readlink("/proc/self/exe", path, PATH_MAX - sizeof module_name);
	if (n > 0) {
		path[n] = '\0';
		slash = strrchr(path, '/');
		strcpy(slash != NULL ? slash + 1 : path, module_name);
		if (access(path, R_OK) == 0)
			return path;
	}
	snprintf(path, PATH_MAX, "%s/%s", PKGLIBDIR, module_name);
	return path;
}

/*
 * Is there a GPU? The driver alone is asked, which is small: the module takes
 * cuBLAS along, 150 MB of memory that would be of no use without one.
 */
static int
check_driver(struct err *e)
{
	void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL), *symbols[2];
	int (*init)(unsigned), (*count)(int *), n = 0;

	if (driver == NULL)
		return err_set(e, EX_UNAVAILABLE, "there is no driver of an NVIDIA GPU (libcuda.so.1)");
	symbols[0] = dlsym(driver, "cuInit");
	symbols[1] = dlsym(driver, "cuDeviceGetCount");
	memcpy(&init, &symbols[0], sizeof init);
	memcpy(&count, &symbols[1], sizeof count);
	if (symbols[0] == NULL || symbols[1] == NULL || init(0) != 0 || count(&n) != 0)
		n = 0;
	if (n > 0)
		return 0; /* it stays loaded, as the module needs it */
	dlclose(driver);
	return err_set(e, EX_UNAVAILABLE, "the NVIDIA driver finds no GPU");
}

/* A module that computes stays loaded: what it registered with the driver goes with the process. */
static struct backend *
open_cuda(const struct backend_choice *choice, const struct backend_limits *limits, struct err *e)
{
	const struct backend_module *(*entry)(void);
	const struct backend_module *module;
	char path[PATH_MAX];
	const char *file = find_module(path, choice->module);
	void *handle, *symbol;
	struct backend *b = NULL;

	if (access(file, F_OK) != 0) {
		err_set(e, EX_UNAVAILABLE, "there is no CUDA module, %s", file);
		return NULL;
	}
	/* A module that was named may need no driver. */
	if (choice->module == NULL && check_driver(e) < 0)
		return NULL;
	handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	symbol = handle != NULL ? dlsym(handle, "sinkd_backend_module") : NULL;
	if (symbol == NULL) {
		err_set(e, EX_UNAVAILABLE, "the CUDA module cannot be loaded: %s", dlerror());
		return NULL;
	}
	memcpy(&entry, &symbol, sizeof entry);
	module = entry();
	if (module->version != BACKEND_MODULE_VERSION)
		err_set(e, EX_UNAVAILABLE, "%s is of another version than this program", file);
	else
		b = module->open(choice, limits, e);
	if (b == NULL)
		dlclose(handle);
	return b;
}

struct backend *
backend_open(const struct backend_choice *choice, const struct backend_limits *limits, struct err *e)
{
	const char *device = choice->device != NULL ? choice->device : "auto";
	const char *path = choice->path != NULL ? choice->path : "auto";
	struct backend *b;

	if (strcmp(device, "cuda") == 0)
		return open_cuda(choice, limits, e);
	if (strcmp(device, "auto") != 0 && strcmp(device, "cpu") != 0) {
		err_set(e, EX_USAGE, "there is no device '%.40s', only auto, cpu and cuda", device);
		return NULL;
	}
	/* Whoever names a code path means the CPU. */
	if (strcmp(device, "auto") == 0 && strcmp(path, "auto") == 0) {
		b = open_cuda(choice, limits, e);
		if (b != NULL)
			return b;
	}
	return backend_open_cpu(path, choice->threads, limits, e);
}
