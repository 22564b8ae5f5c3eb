/*
 * The functions of oneDNN that onednn.c calls. The library is loaded when its
 * code path is chosen: linked, it would cost every start of every program
 * several milliseconds and megabytes, for a path that few choose.
 */
#ifndef SINKD_ENGINE_ONEDNN_LOAD_H
#define SINKD_ENGINE_ONEDNN_LOAD_H

#include <oneapi/dnnl/dnnl.h>

#include "base/err.h"

/* Of libgomp, which Debian's oneDNN runs on; clang brings no omp.h that would declare them. */
int omp_get_max_threads(void);
void omp_set_num_threads(int n);

#define ONEDNN_FUNCTIONS(F) \
	F(dnnl_engine_create) \
	F(dnnl_engine_destroy) \
	F(dnnl_matmul_desc_init) \
	F(dnnl_memory_create) \
	F(dnnl_memory_desc_get_size) \
	F(dnnl_memory_desc_init_by_tag) \
	F(dnnl_memory_destroy) \
	F(dnnl_memory_set_data_handle) \
	F(dnnl_primitive_attr_create) \
	F(dnnl_primitive_attr_destroy) \
	F(dnnl_primitive_attr_set_scratchpad_mode) \
	F(dnnl_primitive_create) \
	F(dnnl_primitive_desc_create) \
	F(dnnl_primitive_desc_destroy) \
	F(dnnl_primitive_desc_query) \
	F(dnnl_primitive_desc_query_md) \
	F(dnnl_primitive_destroy) \
	F(dnnl_primitive_execute) \
	F(dnnl_stream_create) \
	F(dnnl_stream_destroy) \
	F(omp_get_max_threads) \
	F(omp_set_num_threads)

/* A pointer to each, by its own name. */
struct onednn {
#define ONEDNN_POINTER(name) __typeof__(name) *name;
	ONEDNN_FUNCTIONS(ONEDNN_POINTER)
#undef ONEDNN_POINTER
};

/* Load the library, which stays loaded. Returns 0, or -1 with *e set (EX_UNAVAILABLE: it is not there, or another). */
int onednn_load(struct onednn *o, struct err *e);

#endif
