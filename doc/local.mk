EXTRA_DIST += doc/man/sinkeval-options
dist_man_MANS += \
	doc/man/sinkd-fetch-model.1 \
	doc/man/sinkeval.1
if DAEMON
dist_man_MANS += \
	doc/man/sinkctl.1 \
	doc/man/sinkd-protocol.7 \
	doc/man/sinkd-service.7 \
	doc/man/sinkd.1
endif

dist_doc_DATA = \
	CONTRIBUTING.md \
	README.md \
	doc/architecture.md \
	doc/four-million.csv \
	doc/glossary.md \
	doc/half-million.csv \
	doc/paper.md \
	doc/perplexity.svg \
	doc/races.md \
	doc/soak.csv \
	doc/soak.svg \
	doc/speed.md \
	doc/testing-faults.md \
	doc/testing.md
