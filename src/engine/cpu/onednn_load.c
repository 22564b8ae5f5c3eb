/* oneDNN is loaded by the name that its version has; see onednn_load.h. */
#include "engine/cpu/onednn_load.h"

#include <assert.h>
#include <dlfcn.h>
#include <string.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define NAME(name) #name,

int
onednn_load(struct onednn *o, struct err *e)
{
	static const char library[] = "libdnnl.so." TEXT(DNNL_VERSION_MAJOR);
	static const char *const names[] = { ONEDNN_FUNCTIONS(NAME) };
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL), *symbol;

	static_assert(sizeof *o == sizeof names / sizeof names[0] * sizeof symbol, "nothing but pointers");
	if (handle == NULL)
		return err_set(e, EX_UNAVAILABLE, "oneDNN cannot be loaded: %s", dlerror());
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		/* Those of libgomp are found too: it is what the library needs itself. */
		if ((symbol = dlsym(handle, names[i])) == NULL)
			return err_set(e, EX_UNAVAILABLE, "oneDNN cannot be used: %s", dlerror());
		memcpy((char *)o + i * sizeof symbol, &symbol, sizeof symbol);
	}
	return 0;
}
