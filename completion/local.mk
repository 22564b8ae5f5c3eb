if DAEMON
completiondir = $(datadir)/bash-completion/completions
dist_completion_DATA = \
	completion/sinkctl \
	completion/sinkd
endif
