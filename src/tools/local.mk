# sinkeval stands alone over the engine: --disable-daemon builds it, without the commands that read JSON.
bin_PROGRAMS += sinkeval
sinkeval_SOURCES = \
	src/tools/eval.c \
	src/tools/eval.h \
	src/tools/eval_bench.c \
	src/tools/eval_logits.c \
	src/tools/eval_machine.c \
	src/tools/eval_machine.h \
	src/tools/eval_measures.c \
	src/tools/eval_measures.h \
	src/tools/eval_peer.c \
	src/tools/eval_peer.h \
	src/tools/eval_ppl.c \
	src/tools/eval_recall.c \
	src/tools/eval_report.c \
	src/tools/eval_report.h \
	src/tools/eval_stream.c \
	src/tools/eval_stream.h \
	src/tools/sinkeval.c
sinkeval_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) $(JANSSON_CFLAGS)
if DAEMON
sinkeval_SOURCES += \
	src/tools/eval_chat.c \
	src/tools/eval_lines.c \
	src/tools/eval_lines.h \
	src/tools/eval_qa.c \
	src/tools/eval_questions.c \
	src/tools/eval_questions.h \
	src/tools/eval_tokenize.c
sinkeval_LDADD = $(stream_libs)
else
sinkeval_LDADD = $(engine_libs)
endif

if DAEMON
bin_PROGRAMS += sinkctl
sinkctl_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
sinkctl_LDADD = $(stream_libs)
sinkctl_SOURCES = \
	src/tools/ctl.h \
	src/tools/ctl_connect.c \
	src/tools/ctl_show.c \
	src/tools/ctl_since.c \
	src/tools/ctl_status.c \
	src/tools/ctl_tail.c \
	src/tools/sinkctl.c
endif

dist_bin_SCRIPTS = src/tools/sinkd-fetch-model
