# Every test speaks TAP: cmocka (one group a program), BATS and scripts, so that `make check` counts cases. They find
# things by the variables below.

TEST_EXTENSIONS = .bats .tap
LOG_COMPILER = $(top_srcdir)/tests/cmocka-tap
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
BATS_LOG_DRIVER = $(LOG_DRIVER)
BATS_LOG_COMPILER = $(BATS) --tap
TAP_LOG_DRIVER = $(LOG_DRIVER)
# A case that hangs is ended and named, long before a whole suite would be.
# What the address sanitizer guesses of the thread-local memory of libraries that are loaded at run time may be
# wrong; its search for leaks then crashes.
AM_TESTS_ENVIRONMENT = \
	BATS_TEST_TIMEOUT=480; export BATS_TEST_TIMEOUT; \
	CMOCKA_MESSAGE_OUTPUT=TAP; export CMOCKA_MESSAGE_OUTPUT; \
	ASAN_OPTIONS=$${ASAN_OPTIONS:+$$ASAN_OPTIONS:}intercept_tls_get_addr=0; export ASAN_OPTIONS; \
	BUILD='$(abs_top_builddir)'; export BUILD; \
	TSAN_OPTIONS=$${TSAN_OPTIONS:+$$TSAN_OPTIONS:}halt_on_error=1; export TSAN_OPTIONS; \
	SANITIZED='$(SANITIZE_CFLAGS)'; export SANITIZED; \
	SRC='$(abs_top_srcdir)'; export SRC; \
	SHARED="$$SRC/../shared"; export SHARED; \
	: "$${MODEL=$${XDG_DATA_HOME:-$$HOME/.local/share}/sinkd/SmolLM2-135M-Instruct.Q4_1.gguf}"; export MODEL;
TESTS =
EXTRA_DIST += \
	tests/cmocka-tap \
	tests/cuda/orders.cu \
	tests/golden \
	tests/layers \
	tests/layers.awk \
	tests/racecheck \
	tests/run \
	tests/setup.sh \
	tests/sinkd.bash \
	tests/soak \
	tests/system
include tests/unit/local.mk
include tests/fuzz/local.mk

# Every operation of every code path against the plain one.
check_PROGRAMS += tests/ops
TESTS += tests/ops
tests_ops_LDADD = $(engine_libs)
tests_ops_SOURCES = \
	tests/ops.c \
	tests/ops.h \
	tests/ops_attention.c \
	tests/ops_faults.c \
	tests/ops_layers.c \
	tests/ops_products.c \
	tests/ops_rows.c \
	tests/random_data.c \
	tests/random_data.h

# Models of any shape for measurements.
check_PROGRAMS += tests/make_model
tests_make_model_LDADD = $(engine_libs)
tests_make_model_SOURCES = \
	tests/make_model.c \
	tests/random_data.c \
	tests/random_data.h

# Long streams, by hand.
check_PROGRAMS += tests/long_run
tests_long_run_LDADD = $(engine_libs)
tests_long_run_SOURCES = \
	tests/long_run.c \
	tests/random_data.c \
	tests/random_data.h

# These drive the programs that were built.
# Those that take longest begin first, so that none is left alone at the end.
bats_tests = \
	tests/kills.bats \
	tests/sinkeval.bats \
	tests/process.bats \
	tests/badinput.bats \
	tests/checkpoint.bats \
	tests/control.bats \
	tests/durability.bats \
	tests/examples.bats \
	tests/fairness.bats \
	tests/faults.bats \
	tests/fetch_model.bats \
	tests/filter.bats \
	tests/follow.bats \
	tests/inputs.bats \
	tests/memory.bats \
	tests/metrics.bats \
	tests/model_faults.bats \
	tests/overload.bats \
	tests/promises.bats \
	tests/recipes.bats \
	tests/sandbox.bats \
	tests/systemd.bats
golden_tests = \
	tests/golden.tap \
	tests/ppl.tap
EXTRA_DIST += $(bats_tests) $(golden_tests)

# Models with a number that is not finite.
check_PROGRAMS += tests/spoil_model
tests_spoil_model_LDADD = $(engine_libs)
tests_spoil_model_SOURCES = tests/spoil_model.c

check_PROGRAMS += tests/compare_f32
tests_compare_f32_LDADD =
tests_compare_f32_SOURCES = tests/compare_f32.c

check_PROGRAMS += tests/crowd
tests_crowd_LDADD =
tests_crowd_SOURCES = tests/crowd.c

# Scenes with the daemon in which calls fail, or are its last.
check_PROGRAMS += tests/faults tests/kills
tests_kills_LDADD =
tests_kills_SOURCES = \
	tests/kills.c \
	tests/scenes.c \
	tests/scenes.h
tests_faults_LDADD =
tests_faults_SOURCES = \
	tests/faults.c \
	tests/scenes.c \
	tests/scenes.h

# Libraries that are loaded before the C library, for programs under test.
preloaded = \
	tests/fail_calls.so \
	tests/hold_call.so \
	tests/move_clock.so \
	tests/try_calls.so
check_DATA = $(preloaded)
EXTRA_DIST += $(preloaded:.so=.c)
CLEANFILES += $(preloaded)
$(preloaded): tests/%.so: tests/%.c
	@$(MKDIR_P) tests
	$(AM_V_CC)$(CC) -shared -fPIC -O2 -D_GNU_SOURCE -o $@ $<

TESTS += tests/layers
if HAVE_BATS
TESTS += $(golden_tests)
if DAEMON
TESTS += $(bats_tests)
endif
endif

check-bats:
	$(MAKE) check TESTS='$(bats_tests)'

check-golden:
	$(MAKE) check TESTS='$(golden_tests)'

# With SINKD_TEST_OPTIONS=--sandbox: the suites that drive a daemon.
sandbox_tests = \
	tests/checkpoint.bats \
	tests/control.bats \
	tests/durability.bats \
	tests/fairness.bats \
	tests/inputs.bats \
	tests/metrics.bats \
	tests/process.bats
check-sandbox:
	$(MAKE) check TESTS='$(sandbox_tests)'

# For ThreadSanitizer: where several threads are at work.
thread_tests = \
	tests/unit/test_ahead \
	tests/unit/test_context \
	tests/unit/test_digest \
	tests/unit/test_pool \
	tests/unit/test_worker \
	tests/checkpoint.bats \
	tests/control.bats \
	tests/inputs.bats \
	tests/metrics.bats
check-threads:
	$(MAKE) check TESTS='$(thread_tests)'

check-unit:
	$(MAKE) check TESTS='$(unit_tests)'

.PHONY: check-bats check-golden check-sandbox check-threads check-unit
