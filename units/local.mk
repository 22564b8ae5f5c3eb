EXTRA_DIST += units/sinkd@.service.in
if DAEMON
dist_systemdsystemunit_DATA = \
	units/sinkd-control@.socket \
	units/sinkd-events@.socket \
	units/sinkd-metrics@.socket
systemdsystemunit_DATA = units/sinkd@.service
CLEANFILES += units/sinkd@.service
units/sinkd@.service: units/sinkd@.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && sed 's|[@]bindir[@]|$(bindir)|;s| *[@]SANDBOX[@]|$(SANDBOX:%= %)|' \
	    $(srcdir)/units/sinkd@.service.in >$@
endif
