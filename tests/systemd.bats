#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# The installed units under a real systemd, booted in namespaces of its own
# (tests/system): activated by their sockets, asked, reloaded, killed by the
# watchdog, restarted with their state, stopped; the journal as an input; the
# commands of sinkd-service(7), and what is said to those who do not follow it.

load sinkd.bash

setup_file()
{
	export tree=$BATS_FILE_TMPDIR/tree system=$BATS_FILE_TMPDIR/system
	mkdir "$tree" "$system"
	! is_sanitized || { echo "this build has AddressSanitizer" >"$system/why"; return; }
	make -C "$BUILD" install DESTDIR="$tree" >"$BATS_FILE_TMPDIR/install.log" 2>&1 3>&-
	[ -x "$tree/usr/local/bin/sinkd" ] || { echo "the prefix is not /usr/local" >"$system/why"; return; }
	mkdir -p "$tree/etc/sinkd" "$tree/usr/local/share/sinkd" "$tree/etc/systemd/system/sinkd@.service.d"
	cp "$model" "$tree/usr/local/share/sinkd/tiny.gguf"
	mkdir -p "$tree/var/lib/sinkd" "$tree/home/somebody"
	cp "$model" "$tree/home/somebody/tiny.gguf"
	[ ! -f "$MODEL" ] || cp "$MODEL" "$tree/var/lib/sinkd/"
	common="model = /usr/local/share/sinkd/tiny.gguf\nthreads = 1\ncheckpoint-interval = 1\n"
	printf "${common}output = /var/lib/sinkd/x/out\n" >"$tree/etc/sinkd/x.conf"
	printf "${common}output = /var/lib/sinkd/j/out\njournal = yes\njournal-match = SYSLOG_IDENTIFIER=probe\n" \
		>"$tree/etc/sinkd/j.conf"
	printf '[Service]\nWatchdogSec=2\n' >"$tree/etc/systemd/system/sinkd@.service.d/test.conf"
	mkdir "$tree/etc/systemd/system/sinkd@j.service.d" "$tree/etc/systemd/system/sinkd@x.service.d"
	# The engine's thread of x hangs at `status --hash` and at a checkpoint while there is no file hold.go.
	cp "$BUILD/tests/hold_call.so" "$tree/usr/local/lib/"
	: >"$tree/etc/sinkd/hold.go"
	printf '[Service]\nEnvironment=LD_PRELOAD=%s HOLD_CALL=%s HOLD_FILE=%s\n' /usr/local/lib/hold_call.so \
		XXH3_createState /etc/sinkd/hold >"$tree/etc/systemd/system/sinkd@x.service.d/hold.conf"
	printf '[Service]\nSupplementaryGroups=systemd-journal\n' >"$tree/etc/systemd/system/sinkd@j.service.d/test.conf"
	"$SRC/tests/system" boot "$system" "$tree" 2>"$system/why" 3>&- || [ -s "$system/why" ]
}

teardown_file()
{
	"$SRC/tests/system" halt "$system"
}

setup()
{
	[ -f "$system/init" ] || skip "$(tail -n 1 "$system/why")"
	cd "$BATS_TEST_TMPDIR"
}

teardown()
{
	[ -n "${BATS_TEST_COMPLETED-}" ] || [ ! -f "$system/init" ] || inside journalctl --no-pager -n 30 -u 'sinkd*' || true
}

inside()
{
	timeout 60 "$SRC/tests/system" in "$system" "$@" 3>&-
}

ctl()
{
	inside sinkctl "$1" --instance x "${@:2}"
}

# property NAME [INSTANCE]
property()
{
	inside systemctl show -P "$1" "sinkd@${2-x}.service"
}

# is VALUE PROPERTY [INSTANCE]
is()
{
	[ "$(property "$2" "${3-x}")" = "$1" ]
}

event()
{
	printf '{"text":"%s"}\n' "$1" | inside socat -t 60 - UNIX:/run/sinkd/x/events
}

# has_written INSTANCE N
has_written()
{
	[ "$(inside cat "/var/lib/sinkd/$1/out" | wc -l)" -ge "$2" ]
}

@test "units: nothing to complain of, exposure at most 0.4" {
	units=/usr/local/lib/systemd/system
	inside systemd-analyze verify --man=no $units/sinkd@.service $units/sinkd-{events,control,metrics}@.socket >out 2>&1 ||
		{ cat out; false; }
	no grep sinkd out
	inside systemd-analyze security --offline=yes --threshold=4 --no-pager $units/sinkd@.service >exposure
	tail -n 1 exposure
}

@test "the sockets start the service when somebody comes" {
	inside systemctl start sinkd-events@x.socket sinkd-control@x.socket sinkd-metrics@x.socket
	is inactive ActiveState
	event first | jq -e '.sinkd.seq == 1'
	is active ActiveState
	[[ $(property StatusText) == [01]" events, "* ]]
	ctl ask -n 4 what is up
	ctl status --json | jq -e '.sinkd | .events == 1 and .replies == 1'
	printf 'GET /metrics HTTP/1.0\r\n\r\n' | inside socat -t 5 - UNIX:/run/sinkd/x/metrics | grep -q '^sinkd_events_total 1'
}

@test "it runs as nobody that is there otherwise, without rights" {
	main=$(property MainPID)
	inside cat "/proc/$main/status" >status
	grep -qE '^CapEff:[[:space:]]0+$' status
	grep -qE '^NoNewPrivs:[[:space:]]1$' status
	grep -qE '^Seccomp:[[:space:]]2$' status
	! "$sinkd" "${tiny[@]}" --sandbox </dev/null || inside cat "/proc/$main/cmdline" | tr '\0' '\n' | grep -qx -- --sandbox
	[ "$(awk '/^Uid:/ { print $2 }' status)" -ge 61184 ]
	[ "$(inside stat -c %a /var/lib/sinkd/x/checkpoint)" = 600 ]
}

@test "reload: the configuration is read again, the service stays" {
	main=$(property MainPID)
	inside sh -c 'echo "patience = 9" >>/etc/sinkd/x.conf'
	inside systemctl reload sinkd@x.service
	inside journalctl --no-pager -u sinkd@x.service | grep -q 'patience has changed'
	inside sh -c 'echo "patience = never" >>/etc/sinkd/x.conf'
	inside systemctl reload sinkd@x.service
	inside journalctl --no-pager -p err -u sinkd@x.service | grep -q 'the configuration stays as it was'
	inside sed -i /never/d /etc/sinkd/x.conf
	[ "$(property MainPID)" = "$main" ]
	is active ActiveState
}

@test "restarted, it goes on where it was, and producers stay connected" {
	mkfifo in
	inside socat -t 60 - UNIX:/run/sinkd/x/events <in >out &
	exec 7>in
	echo '{"text":"before"}' >&7
	until_true [ -s out ]
	hash=$(ctl status --hash --json | jq -r .sinkd.hash)
	main=$(property MainPID)
	inside systemctl restart sinkd@x.service
	[ "$(property MainPID)" != "$main" ]
	[ "$(ctl status --hash --json | jq -r .sinkd.hash)" = "$hash" ]
	echo '{"text":"after"}' >&7
	exec 7>&-
	wait $!
	[ "$(jq -c '[.text, .sinkd.seq]' out | tr -d '\n')" = '["before",2]["after",3]' ]
}

@test "an engine that hangs is killed by the watchdog, and the stream goes on from its checkpoint" {
	restarts=$(property NRestarts)
	event 'soon saved' >/dev/null
	ctl checkpoint
	inside rm /etc/sinkd/hold.go
	ctl status --hash >/dev/null 2>&1 &
	asked=$!
	until_true is "$((restarts + 1))" NRestarts
	inside touch /etc/sinkd/hold.go
	wait "$asked" || true
	inside journalctl --no-pager -u sinkd@x.service | grep -q "Failed with result 'watchdog'"
	until_true is active ActiveState
	event again | jq -e '.sinkd.seq == 5'
	[ "$(inside jq -c .sinkd.seq /var/lib/sinkd/x/out | tr '\n' ' ')" = '1 2 3 4 5 ' ]
}

@test "the journal is read natively, from now on, and after a restart from where it was" {
	inside systemd-tmpfiles --create --prefix=/run/log/journal # for the group that may read it
	printf 'old\n' | inside systemd-cat -t probe
	inside journalctl --sync
	inside systemctl start sinkd@j.service
	printf 'one\n' | inside systemd-cat -t probe
	printf 'other\n' | inside systemd-cat -t another
	until_true has_written j 1
	inside systemctl stop sinkd@j.service
	printf 'two\nthree\n' | inside systemd-cat -t probe
	inside systemctl start sinkd@j.service
	until_true has_written j 3
	printf 'four \001\377\n' | inside systemd-cat -t probe
	until_true has_written j 4
	inside systemctl kill -s KILL sinkd@j.service
	until_true is active ActiveState j
	printf 'five\n' | inside systemd-cat -t probe
	until_true has_written j 5
	inside cat /var/lib/sinkd/j/out >out
	[ "$(jq -r 'select(.MESSAGE | type == "string") | .MESSAGE' out | tr '\n' ' ')" = 'one two three five ' ]
	jq -es '.[3].MESSAGE | type == "array"' out
	jq -es 'map(.sinkd.seq) == [1, 2, 3, 4, 5] and all(.[]; .SYSLOG_IDENTIFIER == "probe" and has("__CURSOR"))' out
	inside systemctl stop sinkd@j.service
}

@test "examples/journal prints what stands out in the journal" {
	inside mkdir -p /root/example
	inside sh -c 'cat >/root/example/journal && chmod +x /root/example/journal' <"$SRC/examples/journal"
	# Its home is empty: that of the machine below may have such a state already.
	inside env -u XDG_STATE_HOME HOME=/root/example timeout 100 /root/example/journal 100 \
		--model /usr/local/share/sinkd/tiny.gguf --threads 1 \
		--journal-match SYSLOG_IDENTIFIER=odd >out 2>err &
	until_true inside test -f /root/example/.local/state/sinkd/journal/checkpoint
	# Who only listens from now on may come later than the checkpoint.
	says_odd()
	{
		printf 'something odd\n' | inside systemd-cat -t odd
		grep -qP '^ +1 +[0-9.]+  odd: something odd$' out
	}
	until_true says_odd
}

# refuses STATUS SENTENCE OPTION...: an instance with these lines of configuration does not start, says why, and is not
# started again.
refuses()
{
	printf '%s\n' 'model = /usr/local/share/sinkd/tiny.gguf' "${@:3}" | inside sh -c 'cat >/etc/sinkd/bad.conf'
	no inside systemctl start sinkd@bad.service
	inside journalctl --sync
	inside journalctl --no-pager -o cat -n 20 -u sinkd@bad.service >said
	grep -qF "$2" said || { cat said; false; }
	is "$1" ExecMainStatus bad
	is 0 NRestarts bad
	is failed ActiveState bad
	inside systemctl reset-failed sinkd@bad.service
}

@test "what a unit forbids is refused at the start, once, with a sentence that says what to do" {
	inside systemd-tmpfiles --create --prefix=/run/log/journal # for the group that may read it
	inside sh -c 'echo old | systemd-cat -t probe; journalctl --sync; touch /var/log/secret; chmod 600 /var/log/secret'
	refuses 66 'add SupplementaryGroups=systemd-journal, see sinkd-service(7)' 'journal = yes'
	refuses 66 'give the service the group of that file by SupplementaryGroups=' 'follow = /var/log/secret'
	refuses 66 'the unit hides home folders' 'model = /home/somebody/tiny.gguf'
	refuses 73 'the unit lets the service write only below /var/log/sinkd/NAME' 'output = /var/log/annotated.jsonl'
	refuses 78 'give sinkd-metrics@.socket a drop-in with ListenStream=127.0.0.1:9100' 'metrics = 9100'
	inside rm /etc/sinkd/bad.conf
	no inside systemctl start sinkd@bad.service
	inside journalctl --sync
	inside journalctl --no-pager -o cat -n 20 -u sinkd@bad.service >said
	grep -q 'cannot open .* /etc/sinkd/bad.conf: .* sinkd --example-config prints one' said
	inside systemctl reset-failed sinkd@bad.service
	inside systemctl stop sinkd-{events,control}@bad.socket
}

# page SECTION: the commands in that section of sinkd-service(7), with another port than one that may be in use.
page()
{
	awk -v section=".Sh $1" '
		/^\.Sh / { here = $0 == section }
		/^\.Ed/ { block = 0 }
		here && block { sub(/^# /, ""); print }
		/^\.Bd -literal/ { block = 1 }' "$SRC/doc/man/sinkd-service.7" | sed "s/:9100/:${port-9100}/" >commands
	[ -s commands ]
	cat commands
}

# follow_page SECTION
follow_page()
{
	inside sh -exc "$(page "$1")" >shown 2>trace || { cat trace; false; }
}

is_annotated()
{
	inside grep "$1" /var/log/sinkd/journal/annotated.jsonl >annotated 2>/dev/null
}

@test "sinkd-service(7): from make install to an annotated line of the journal, and all of it gone again" {
	need "$MODEL"
	port=$((20000 + $$ % 10000))
	inside systemd-tmpfiles --create --prefix=/run/log/journal
	follow_page 'SETTING UP'
	grep -q "^model name" shown
	until_true is_annotated 'the disk is on fire'
	jq -es '.[0] | .SYSLOG_IDENTIFIER == "hello" and (.sinkd.surprise | type == "number")' annotated
	is active ActiveState journal
	inside systemctl is-enabled sinkd@journal.service
	follow_page SOCKETS
	[ "$(inside stat -c %G /run/sinkd/journal/control)" = adm ]
	follow_page 'METRICS OVER TCP'
	printf 'GET /metrics HTTP/1.0\r\n\r\n' | socat -t 10 - "TCP:127.0.0.1:$port" | grep -q '^sinkd_events_total'
	follow_page 'CHANGING OPTIONS'
	inside journalctl --sync
	inside journalctl --no-pager -o cat -u sinkd@journal.service | grep -q 'digest-interval has changed'
	follow_page UPGRADING
	inside sh -c 'echo "another fire" | systemd-cat -t hello'
	until_true is_annotated 'another fire'
	follow_page UNINSTALLING
	is inactive ActiveState journal
	for path in /etc/sinkd/journal.conf /var/lib/sinkd/journal /var/log/sinkd/journal /run/sinkd/journal/events \
	    /etc/systemd/system/sinkd@journal.service.d; do
		inside test ! -e "$path"
	done
}

@test "stopped, it says so, and leaves a checkpoint and nothing that has failed" {
	inside systemctl stop sinkd@x.service sinkd-{events,control,metrics}@x.socket
	is inactive ActiveState
	is success Result
	inside test ! -e /run/sinkd/x/events
	[ -z "$(inside systemctl list-units --failed --no-legend --plain 'sinkd*')" ]
	inside journalctl --no-pager -u sinkd@x.service -u sinkd@j.service -p warning -o cat >complaints
	no grep -vE 'the configuration stays as it was|[Ww]atchdog|Killing process|killed|code=|Failed with result' complaints
}
