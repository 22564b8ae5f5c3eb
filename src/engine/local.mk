noinst_LIBRARIES += libengine.a
libengine_a_CFLAGS = $(numeric_cflags)
libengine_a_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS)
libengine_a_SOURCES = \
	src/engine/arch.c \
	src/engine/arch.h \
	src/engine/aside.c \
	src/engine/backend.c \
	src/engine/backend.h \
	src/engine/bpe.c \
	src/engine/bpe.h \
	src/engine/chat_template.c \
	src/engine/context.c \
	src/engine/context.h \
	src/engine/cpu/aligned.h \
	src/engine/cpu/attend.c \
	src/engine/cpu/cache.c \
	src/engine/cpu/cache.h \
	src/engine/cpu/copies.c \
	src/engine/cpu/copies.h \
	src/engine/cpu/cpu.c \
	src/engine/cpu/cpu.h \
	src/engine/cpu/kernels.h \
	src/engine/cpu/kernels_bf16.h \
	src/engine/cpu/kernels_generic.c \
	src/engine/cpu/kernels_plain.c \
	src/engine/cpu/kernels_q8.h \
	src/engine/cpu/kernels_simd.h \
	src/engine/cpu/kernels_words.h \
	src/engine/cpu/linear.c \
	src/engine/cpu/simd.h \
	src/engine/cpu/snapshot.c \
	src/engine/cpu/team.c \
	src/engine/cpu/team.h \
	src/engine/cpu/weights.c \
	src/engine/engine.h \
	src/engine/fault.c \
	src/engine/fault.h \
	src/engine/finite.h \
	src/engine/forward.c \
	src/engine/forward.h \
	src/engine/gguf.c \
	src/engine/gguf.h \
	src/engine/hyper.c \
	src/engine/hyper.h \
	src/engine/mapping.c \
	src/engine/mapping.h \
	src/engine/merge.c \
	src/engine/merge.h \
	src/engine/model.c \
	src/engine/model.h \
	src/engine/presplit.c \
	src/engine/presplit.h \
	src/engine/quant.c \
	src/engine/quant.h \
	src/engine/quant_decode.h \
	src/engine/rope.c \
	src/engine/rope.h \
	src/engine/snapshot.c \
	src/engine/specials.c \
	src/engine/specials.h \
	src/engine/spm.c \
	src/engine/spm.h \
	src/engine/tokenizer.c \
	src/engine/tokenizer.h \
	src/engine/vocab.c \
	src/engine/vocab.h

# The code paths of the CPU backend: each a library with its own -m flags,
# called through a table only after the processor was asked.
cpu_libs =
if HAVE_AVX2
noinst_LIBRARIES += libcpu_avx2.a
cpu_libs += libcpu_avx2.a
libcpu_avx2_a_CFLAGS = $(numeric_cflags) $(AVX2_CFLAGS)
libcpu_avx2_a_SOURCES = src/engine/cpu/kernels_avx2.c
endif
if HAVE_AVX512
noinst_LIBRARIES += libcpu_avx512.a
cpu_libs += libcpu_avx512.a
libcpu_avx512_a_CFLAGS = $(numeric_cflags) $(AVX512_CFLAGS)
libcpu_avx512_a_SOURCES = src/engine/cpu/kernels_avx512.c
endif
if HAVE_AVX512VNNI
noinst_LIBRARIES += libcpu_avx512vnni.a
cpu_libs += libcpu_avx512vnni.a
libcpu_avx512vnni_a_CFLAGS = $(numeric_cflags) $(AVX512VNNI_CFLAGS)
libcpu_avx512vnni_a_SOURCES = src/engine/cpu/kernels_avx512vnni.c
endif
if HAVE_AVX512BF16
noinst_LIBRARIES += libcpu_avx512bf16.a
cpu_libs += libcpu_avx512bf16.a
libcpu_avx512bf16_a_CFLAGS = $(numeric_cflags) $(AVX512BF16_CFLAGS)
libcpu_avx512bf16_a_SOURCES = src/engine/cpu/kernels_avx512bf16.c
endif

# What a program over the engine links with, in this order.
engine_libs = libengine.a $(cpu_libs) libbase.a $(PCRE2_LIBS)
