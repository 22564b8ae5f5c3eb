EXTRA_DIST += tests/unit/checkpoint.format2

# Unit tests link with everything below the daemon unless they say otherwise.
unit_libs = $(engine_libs) $(CMOCKA_LIBS)
LDADD = $(unit_libs)

unit_tests = \
	tests/unit/test_ahead \
	tests/unit/test_aside \
	tests/unit/test_chat_template \
	tests/unit/test_context \
	tests/unit/test_err \
	tests/unit/test_gguf \
	tests/unit/test_hyper \
	tests/unit/test_memory \
	tests/unit/test_model \
	tests/unit/test_options \
	tests/unit/test_quant \
	tests/unit/test_rope \
	tests/unit/test_snapshot \
	tests/unit/test_tokenizer_kinds \
	tests/unit/test_utf8
tests_unit_test_ahead_SOURCES = tests/unit/context_rig.h tests/unit/test_ahead.c
tests_unit_test_aside_SOURCES = tests/unit/context_rig.h tests/unit/test_aside.c
tests_unit_test_context_SOURCES = tests/unit/context_rig.h tests/unit/test_context.c
tests_unit_test_gguf_SOURCES = tests/unit/gguf_build.h tests/unit/test_gguf.c
tests_unit_test_hyper_SOURCES = tests/unit/gguf_build.h tests/unit/test_hyper.c
tests_unit_test_snapshot_SOURCES = tests/unit/context_rig.h tests/unit/test_snapshot.c
tests_unit_test_tokenizer_kinds_SOURCES = tests/unit/gguf_build.h tests/unit/test_tokenizer_kinds.c

if DAEMON
unit_tests += \
	tests/unit/test_annotate \
	tests/unit/test_answers \
	tests/unit/test_digest \
	tests/unit/test_faithful \
	tests/unit/test_lines \
	tests/unit/test_pool \
	tests/unit/test_reader \
	tests/unit/test_schema \
	tests/unit/test_state \
	tests/unit/test_tokenizer \
	tests/unit/test_turns \
	tests/unit/test_worker
tests_unit_test_annotate_LDADD = $(stream_libs) $(CMOCKA_LIBS)
tests_unit_test_answers_LDADD = $(daemon_libs) $(CMOCKA_LIBS)
tests_unit_test_answers_SOURCES = tests/unit/test_answers.c tests/unit/worker_rig.h
tests_unit_test_digest_LDADD = $(daemon_libs) $(CMOCKA_LIBS)
tests_unit_test_digest_SOURCES = tests/unit/test_digest.c tests/unit/worker_rig.h
tests_unit_test_faithful_LDADD = $(stream_libs) $(CMOCKA_LIBS)
tests_unit_test_lines_LDADD = $(stream_libs) $(CMOCKA_LIBS)
tests_unit_test_pool_LDADD = $(daemon_libs) $(CMOCKA_LIBS)
tests_unit_test_reader_LDADD = $(stream_libs) $(CMOCKA_LIBS)
tests_unit_test_schema_LDADD = $(daemon_libs) $(CMOCKA_LIBS)
tests_unit_test_schema_SOURCES = tests/unit/test_schema.c tests/unit/worker_rig.h
tests_unit_test_state_LDADD = $(stream_libs) $(CMOCKA_LIBS)
tests_unit_test_tokenizer_LDADD = $(stream_libs) $(CMOCKA_LIBS)
tests_unit_test_turns_LDADD = $(daemon_libs) $(CMOCKA_LIBS)
tests_unit_test_worker_LDADD = $(daemon_libs) $(CMOCKA_LIBS)
tests_unit_test_worker_SOURCES = tests/unit/test_worker.c tests/unit/worker_rig.h
endif

if HAVE_CMOCKA
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
