noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = \
	src/base/buf.c \
	src/base/buf.h \
	src/base/bytes.h \
	src/base/clock.c \
	src/base/clock.h \
	src/base/commands.c \
	src/base/commands.h \
	src/base/err.c \
	src/base/err.h \
	src/base/fd.h \
	src/base/file.c \
	src/base/file.h \
	src/base/guard.c \
	src/base/guard.h \
	src/base/log.c \
	src/base/log.h \
	src/base/memory.c \
	src/base/memory.h \
	src/base/model_path.c \
	src/base/model_path.h \
	src/base/options.c \
	src/base/options.h \
	src/base/options_help.c \
	src/base/random.c \
	src/base/random.h \
	src/base/utf8.c \
	src/base/utf8.h
