# For the tests that drive sinkd: where things are, and a few helpers.

sinkd=$BUILD/sinkd
samples=$SRC/examples
shared=$SRC/../shared
# Tiny, with random weights: what it says means nothing, but it is a model like any other, and fast.
model=$SRC/tests/golden/llama-gqa/model.gguf
tiny=(--model "$model" --threads 1)
# tests/run sandbox runs suites once more with an option that must change nothing.
read -r -a further <<<"${SINKD_TEST_OPTIONS-}"
tiny+=("${further[@]}")

# Each case runs in a folder of its own, and ends what it started. A file may have other functions of these names.
setup()
{
	cd "$BATS_TEST_TMPDIR"
}

teardown()
{
	end_processes
}

# need FILE...: skip the test where one is not there.
need()
{
	local file
	for file; do
		[ -e "$file" ] || skip "${file#"$SRC"/} is not there"
	done
}

# no COMMAND...: COMMAND fails. (A bare "!" does not fail a test.)
no()
{
	! "$@"
}

# is_sanitized: was sinkd built with AddressSanitizer or ThreadSanitizer, which are slow and keep what was freed?
is_sanitized()
{
	grep -Eq '__(asan|tsan)_init' "$sinkd"
}

need_true_memory()
{
	no is_sanitized || skip "this build has a sanitizer that takes memory of its own"
}

# need_sandbox: skip the test where there is none. A sanitizer's run-time library makes calls that the sandbox forbids: it
# reads the memory map of its threads by new processes (leaks), and asks for signals and limits.
need_sandbox()
{
	no grep -qE '__(asan|tsan|msan)_init' "$sinkd" || skip "this build has a sanitizer"
	"$sinkd" "${tiny[@]}" --sandbox </dev/null 2>sandbox.err || skip "$(cat sandbox.err)"
}

# annotations [FILE...]: the members that sinkd added, one a line.
annotations()
{
	jq -c .sinkd "$@"
}

# keeps_bytes INPUT OUTPUT: every line of OUTPUT begins with its line of INPUT up to the last brace.
keeps_bytes()
{
	LC_ALL=C awk -v input="$1" '
		{
			if ((getline line <input) <= 0) exit bad = 1
			sub(/}[ \t\r]*$/, "", line)
			if (index($0, line) != 1) { print NR ": " $0; exit bad = 1 }
		}
		END { exit bad || (getline line <input) > 0 }' "$2"
}

# serve ARG...: start sinkd, to be fed through descriptor 8 and read from 9; its pid is in $pid.
serve()
{
	mkfifo "$BATS_TEST_TMPDIR/in" "$BATS_TEST_TMPDIR/out"
	"$sinkd" "${tiny[@]}" "$@" <"$BATS_TEST_TMPDIR/in" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" 3>&- &
	pid=$!
	exec 8>"$BATS_TEST_TMPDIR/in" 9<"$BATS_TEST_TMPDIR/out"
}

# held CALL COMMAND...: run COMMAND, which stops within its first call of CALL, see hold_call.c, until `let_go CALL`.
# Its pid is in $pid, and its errors are in CALL.err.
held()
{
	LD_PRELOAD=$BUILD/tests/hold_call.so HOLD_CALL=$1 HOLD_FILE=$PWD/$1 "${@:2}" </dev/null >"$1.out" 2>"$1.err" 3>&- &
	pid=$!
	pids+=("$pid")
	until_true [ -s "$1.held" ]
}

# stalling COMMAND...: run it so that the engine's thread of sinkd stalls at `status --hash` until `let_go hash`.
stalling()
{
	LD_PRELOAD=$BUILD/tests/hold_call.so HOLD_CALL=XXH3_createState HOLD_FILE=$PWD/hash "$@"
}

let_go()
{
	: >"$1.go"
}

# finish: end the input of what serve started, and wait for it; its exit status is in $status.
finish()
{
	exec 8>&-
	status=0
	wait "$pid" || status=$?
	exec 9<&-
}

# consumed PID: bytes that it has read so far, from anywhere.
consumed()
{
	awk '/^rchar:/ { print $2 }' "/proc/$1/io"
}

# rss PID: resident size in KiB.
rss()
{
	awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"
}

# ticks PID: processor time used so far, in hundredths of a second.
ticks()
{
	sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

# until_true COMMAND...: COMMAND succeeds within two minutes, which slow and busy machines may need.
until_true()
{
	local end=$((SECONDS + 120))
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}

# settled VARIABLE COMMAND...: wait until the number that COMMAND prints stays the same for half a second.
settled()
{
	local -n result=$1
	local before=-1 i
	shift
	for ((i = 0; i < 120; i++)); do
		result=$("$@")
		[ "$result" -eq "$before" ] && return 0
		before=$result
		sleep 0.5
	done
	return 1
}

# launch ARG...: start sinkd; its pid is in $pid, its errors in err.
launch()
{
	"$sinkd" "${tiny[@]}" "$@" </dev/null 2>>err 3>&- &
	pid=$!
	pids+=("$pid")
}

# daemon ARG...: start sinkd as a service would be, and wait until it is ready; its pid is in $pid, its errors in err.
daemon()
{
	if [ ! -S notify ]; then
		socat -u UNIX-RECV:notify OPEN:notified,creat,append 3>&- &
		pids+=($!)
		disown $!
		until_true [ -S notify ]
	fi
	: >notified
	NOTIFY_SOCKET=$PWD/notify launch "$@"
	until_true grep -q READY=1 notified
}

# stop [SIGNAL]: end what daemon started last; its exit status is in $status.
stop()
{
	kill -"${1-TERM}" "$pid"
	status=0
	wait "$pid" || status=$?
}

# end_processes: whatever daemon started and is still there.
end_processes()
{
	[ "${#pids[@]}" -eq 0 ] && return
	kill -KILL "${pids[@]}" 2>/dev/null || true
	wait "${pids[@]}" 2>/dev/null || true
}
pids=()

# talk SOCKET: give it standard input, and print what comes back until there is no more.
talk()
{
	socat -t 300 - "UNIX:$1" 3>&-
}

# sinkctl COMMAND ARG...: at ctl.
sinkctl()
{
	timeout 120 "$BUILD/sinkctl" "$1" --socket ctl "${@:2}"
}

# lines FILE N: it has as many.
lines()
{
	[ "$(wc -l <"$1")" -eq "$2" ]
}

# has_lines FILE N: it has as many or more.
has_lines()
{
	[ "$(wc -l <"$1")" -ge "$2" ]
}

# connections NAME N: the daemon has so many on its socket of that name.
connections()
{
	find "/proc/$pid/fd" -lname 'socket:*' -printf '%l\n' | tr -dc '0-9\n' >inodes
	[ "$(awk -v name="$1" 'NR == FNR { ours[$1]; next } $6 == "03" && $8 == name && $7 in ours' inodes \
	    /proc/net/unix | wc -l)" -eq "$2" ]
}

# event TEXT...: an event each. For hundreds of them use seq -f: bats makes each command of a loop slow.
event()
{
	printf '{"text":"%s"}\n' "$@"
}

# event_of SOURCE TEXT
event_of()
{
	printf '{"source":"%s","text":"%s"}\n' "$1" "$2"
}

# start ARG...: a daemon with a data socket sock and a control socket ctl, and what it wrote for five events of web: out.
start()
{
	daemon --socket sock --control ctl "$@"
	seq -f '{"source":"web","text":"request %g"}' 5 | talk sock >out
}

# texts FILE: the texts of events, and the types of other lines, in one line.
texts()
{
	jq -r '.text // .sinkd.type' "$1" | tr '\n' ' '
}

# long_events N: events that are long for a reader and short for a model. 1,300 of them are more than sinkd, a pipe and
# its own buffer hold.
long_events()
{
	seq -f "{\"text\":\"%g\",\"more\":\"$(printf '%0600d' 0)\"}" "$1"
}

# events N: so many, of several sources, some of them odd.
events()
{
	awk -v n="$1" 'BEGIN {
		srand(5)
		for (i = 1; i <= n; i++) {
			if (i % 97 == 0) print "not JSON"
			else printf "{\"source\":\"unit%d\",\"text\":\"job %d took %d ms\"}\n", i % 7, i, rand() * 1000
		}
	}'
}
