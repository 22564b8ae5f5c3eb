noinst_LIBRARIES += libdaemon.a
libdaemon_a_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS) $(JANSSON_CFLAGS) $(SECCOMP_CFLAGS) $(SYSTEMD_CFLAGS) \
	$(XXHASH_CFLAGS)
libdaemon_a_SOURCES = \
	src/daemon/check.c \
	src/daemon/check.h \
	src/daemon/checkpoint.c \
	src/daemon/checkpoint.h \
	src/daemon/control/command.c \
	src/daemon/control/command.h \
	src/daemon/control/control.c \
	src/daemon/control/control.h \
	src/daemon/control/turns.c \
	src/daemon/control/turns.h \
	src/daemon/control/watch.c \
	src/daemon/control/watch.h \
	src/daemon/daemon.c \
	src/daemon/daemon.h \
	src/daemon/delivery.c \
	src/daemon/delivery.h \
	src/daemon/http/metrics.c \
	src/daemon/http/metrics.h \
	src/daemon/http/page.c \
	src/daemon/identity.c \
	src/daemon/identity.h \
	src/daemon/input/beginning.c \
	src/daemon/input/beginning.h \
	src/daemon/input/feed.c \
	src/daemon/input/feed.h \
	src/daemon/input/files.c \
	src/daemon/input/files.h \
	src/daemon/input/follow.c \
	src/daemon/input/follow.h \
	src/daemon/input/intake.c \
	src/daemon/input/intake.h \
	src/daemon/input/journal.c \
	src/daemon/input/journal.h \
	src/daemon/input/pool.c \
	src/daemon/input/pool.h \
	src/daemon/input/producers.c \
	src/daemon/input/producers.h \
	src/daemon/input/rotation.c \
	src/daemon/input/rotation.h \
	src/daemon/input/skips.c \
	src/daemon/input/skips.h \
	src/daemon/input/target.c \
	src/daemon/input/target.h \
	src/daemon/input/tracked.c \
	src/daemon/input/tracked.h \
	src/daemon/output/destination.h \
	src/daemon/output/destinations.c \
	src/daemon/output/messages.c \
	src/daemon/output/messages.h \
	src/daemon/output/output.c \
	src/daemon/output/output.h \
	src/daemon/output/output_file.c \
	src/daemon/output/output_file.h \
	src/daemon/output/output_lines.c \
	src/daemon/output/output_lines.h \
	src/daemon/output/output_stream.c \
	src/daemon/output/output_stream.h \
	src/daemon/output/resume.c \
	src/daemon/output/resume.h \
	src/daemon/parts.h \
	src/daemon/peers/listener.c \
	src/daemon/peers/listener.h \
	src/daemon/peers/peers.c \
	src/daemon/peers/peers.h \
	src/daemon/peers/peers_accept.c \
	src/daemon/peers/peers_inner.h \
	src/daemon/progress.c \
	src/daemon/progress.h \
	src/daemon/queue.c \
	src/daemon/queue.h \
	src/daemon/request.c \
	src/daemon/request.h \
	src/daemon/result.c \
	src/daemon/result.h \
	src/daemon/sandbox.c \
	src/daemon/sandbox.h \
	src/daemon/schedule.c \
	src/daemon/schedule.h \
	src/daemon/service.c \
	src/daemon/service.h \
	src/daemon/settings.c \
	src/daemon/settings.h \
	src/daemon/setup.c \
	src/daemon/signals.c \
	src/daemon/signals.h \
	src/daemon/stats.c \
	src/daemon/stats.h \
	src/daemon/status.c \
	src/daemon/worker.c \
	src/daemon/worker.h \
	src/daemon/worker_inner.h \
	src/daemon/worker_requests.c
daemon_libs = libdaemon.a $(stream_libs) $(EVENT_LIBS) $(SECCOMP_LIBS) $(SYSTEMD_LIBS) $(XXHASH_LIBS)

bin_PROGRAMS += sinkd
sinkd_LDADD = $(daemon_libs)
sinkd_SOURCES = src/daemon/main.c
