EXTRA_DIST += \
	examples/chat \
	examples/paper \
	examples/plot.awk

sampledir = $(docdir)/examples
dist_sample_DATA = \
	examples/SAMPLES.md \
	examples/rhel91_boot.jsonl \
	examples/ubuntu22_user_x3.jsonl
if DAEMON
# Those that need nothing but what is installed.
dist_sample_SCRIPTS = \
	examples/assistant \
	examples/containers \
	examples/journal \
	examples/meeting \
	examples/producers
sample_DATA = example.conf
CLEANFILES += example.conf
example.conf: sinkd$(EXEEXT)
	$(AM_V_GEN)./sinkd$(EXEEXT) --example-config >$@
endif
