# Fuzz targets. fuzz_X.seeds has the inputs with which fuzz_X begins, fuzz_X.dict the words that it puts in.
fuzz_engine_targets = \
	tests/fuzz/fuzz_gguf \
	tests/fuzz/fuzz_tokenizer
fuzz_daemon_targets = \
	tests/fuzz/fuzz_checkpoint \
	tests/fuzz/fuzz_command \
	tests/fuzz/fuzz_ctl \
	tests/fuzz/fuzz_follow \
	tests/fuzz/fuzz_journal \
	tests/fuzz/fuzz_options \
	tests/fuzz/fuzz_record \
	tests/fuzz/fuzz_schema
fuzz_targets = $(fuzz_engine_targets) $(fuzz_daemon_targets)
EXTRA_DIST += $(fuzz_targets:=.dict) $(fuzz_targets:=.seeds)
fuzz_ldflags = $(AM_LDFLAGS) -fsanitize=fuzzer
fuzz_cppflags = $(AM_CPPFLAGS) $(EVENT_CFLAGS) $(JANSSON_CFLAGS) $(SYSTEMD_CFLAGS) $(XXHASH_CFLAGS)

if FUZZING
noinst_PROGRAMS += $(fuzz_engine_targets)
tests_fuzz_fuzz_gguf_LDADD = $(engine_libs)
tests_fuzz_fuzz_gguf_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_tokenizer_LDADD = $(engine_libs)
tests_fuzz_fuzz_tokenizer_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_tokenizer_SOURCES = \
	tests/fuzz/fuzz_tokenizer.c \
	tests/fuzz/plain_tokenizer.c \
	tests/fuzz/plain_tokenizer.h \
	tests/unit/gguf_build.h
if DAEMON
noinst_PROGRAMS += $(fuzz_daemon_targets)
tests_fuzz_fuzz_checkpoint_CPPFLAGS = $(fuzz_cppflags) \
	-DFUZZ_OLD_CHECKPOINT='"$(abs_top_srcdir)/tests/unit/checkpoint.format2"' \
	-DFUZZ_MODEL='"$(abs_top_srcdir)/tests/golden/llama-gqa/model.gguf"'
tests_fuzz_fuzz_checkpoint_LDADD = $(stream_libs)
tests_fuzz_fuzz_checkpoint_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_command_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_command_LDADD = $(daemon_libs)
tests_fuzz_fuzz_command_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_ctl_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_ctl_LDADD = $(stream_libs)
tests_fuzz_fuzz_ctl_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_ctl_SOURCES = \
	src/tools/ctl.h \
	src/tools/ctl_connect.c \
	src/tools/ctl_show.c \
	src/tools/ctl_since.c \
	src/tools/ctl_status.c \
	src/tools/ctl_tail.c \
	tests/fuzz/fuzz_ctl.c
tests_fuzz_fuzz_follow_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_follow_LDADD = $(daemon_libs)
tests_fuzz_fuzz_follow_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_journal_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_journal_LDADD = $(daemon_libs)
tests_fuzz_fuzz_journal_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_options_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_options_LDADD = $(daemon_libs)
tests_fuzz_fuzz_options_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_record_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_record_LDADD = $(stream_libs)
tests_fuzz_fuzz_record_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_schema_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_schema_LDADD = $(stream_libs)
tests_fuzz_fuzz_schema_LDFLAGS = $(fuzz_ldflags)
endif
endif
