# The CUDA module, loaded at run time where there is a GPU.
cuda_headers = \
	cuda/attention/cluster.cuh \
	cuda/attention/decode.cuh \
	cuda/attention/decode_join.cuh \
	cuda/attention/decode_queries.cuh \
	cuda/attention/decode_steps.cuh \
	cuda/attention/prefill.cuh \
	cuda/attention/prefill_hopper.cuh \
	cuda/attention/tma.cuh \
	cuda/barrier.cuh \
	cuda/device.cuh \
	cuda/forms.cuh \
	cuda/launch.cuh \
	cuda/plan/fuse.cuh \
	cuda/plan/plan.cuh \
	cuda/product/gemv.cuh \
	cuda/product/gemv_operand.cuh \
	cuda/product/gemv_rows.cuh \
	cuda/product/prefetch.cuh \
	cuda/product/ring.cuh \
	cuda/rows.cuh
cuda_sources = \
	cuda/attention/decode.cu \
	cuda/attention/decode_tma.cu \
	cuda/attention/plain.cu \
	cuda/attention/prefill.cu \
	cuda/attention/prefill_hopper.cu \
	cuda/cache.cu \
	cuda/inputs.cu \
	cuda/module.cu \
	cuda/plan/fuse.cu \
	cuda/plan/fuse_heads.cu \
	cuda/plan/fuse_products.cu \
	cuda/plan/fuse_values.cu \
	cuda/plan/plan.cu \
	cuda/product/gemm.cu \
	cuda/product/gemv.cu \
	cuda/rows.cu \
	cuda/snapshot.cu \
	cuda/weights.cu
# What it takes from the engine is compiled once more, to be independent of the program's own.
cuda_shared_sources = \
	src/base/err.c \
	src/base/utf8.c \
	src/engine/quant.c
EXTRA_DIST += $(cuda_headers) $(cuda_sources)

if HAVE_CUDA
cuda_objects = $(cuda_sources:.cu=.o)
cuda_shared_objects = $(cuda_shared_sources:.c=.pic.o)
cuda_flags = -std=c++17 -O3 -I$(top_srcdir)/src -I$(top_srcdir)/cuda \
	-Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra
moduledir = $(pkglibdir)
module_DATA = sinkd-cuda.so
cuda_dependencies = $(cuda_objects:.o=.d)
CLEANFILES += sinkd-cuda.so $(cuda_objects) $(cuda_shared_objects) $(cuda_dependencies)
-include $(cuda_dependencies)

SUFFIXES = .cu .pic.o
.cu.o:
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(NVCC) $(NVCC_ARCHS) $(cuda_flags) -MD -MT $@ -MF $(@:.o=.d) -c $< -o $@
cuda/attention/prefill_hopper.o: cuda/attention/prefill_hopper.cu
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(NVCC) $(NVCC_HOPPER) $(cuda_flags) -MD -MT $@ -MF $(@:.o=.d) \
	    -c $(srcdir)/cuda/attention/prefill_hopper.cu -o $@
.c.pic.o:
	$(AM_V_CC)$(MKDIR_P) $(@D) && $(CC) $(DEFS) $(AM_CPPFLAGS) -I. $(CPPFLAGS) $(AM_CFLAGS) $(CFLAGS) -fPIC \
	    -fvisibility=hidden -c $< -o $@
sinkd-cuda.so: $(cuda_objects) $(cuda_shared_objects)
	$(AM_V_CCLD)$(NVCC) $(NVCC_ARCHS) -shared -cudart static -o $@ $(cuda_objects) $(cuda_shared_objects) -lcublas
endif
