#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Checkpoints: a daemon that was ended, or killed at any moment, goes on as if
# it had never stopped; damaged and foreign states are refused.

load sinkd.bash

setup()
{
	cd "$BATS_TEST_TMPDIR"
}

teardown()
{
	end_processes
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

# sinkctl ARG...: at ctl.
sinkctl()
{
	"$BUILD/sinkctl" "$1" --socket ctl "${@:2}"
}

# has_lines FILE N
has_lines()
{
	[ "$(wc -l <"$1")" -ge "$2" ]
}

@test "ended and started again, it writes what it would have written" {
	events 600 >all
	head -n 300 all >log
	for run in one two; do
		daemon --follow log --from start --state state --output out --digest-every 50 --rolling
		[ "$run" = one ] || tail -n 300 all >>log
		until_true has_lines out "$([ "$run" = one ] && echo 305 || echo 611)"
		stop
		[ "$status" -eq 0 ]
	done
	cp all log
	daemon --follow log --from start --output whole --digest-every 50 --rolling
	until_true has_lines whole 611
	stop
	cmp out whole
	[ ! -s err ]
}

@test "files named as operands: a second run has nothing to do, a longer file is read on" {
	events 50 >a
	"$sinkd" "${tiny[@]}" --state state --output out a
	[ "$(wc -l <out)" -eq 50 ]
	"$sinkd" "${tiny[@]}" --state state --output out a
	[ "$(wc -l <out)" -eq 50 ]
	events 60 >a
	"$sinkd" "${tiny[@]}" --state state --output out a
	"$sinkd" "${tiny[@]}" a | cmp - out
	run "$sinkd" "${tiny[@]}" --state state --output out /dev/null
	[ "$status" -eq 78 ]
	[[ $output == *"the state is of another input file, a;"* ]]
}

# took MS COMMAND...: how many milliseconds COMMAND takes to succeed, into the variable MS.
took()
{
	local -n result=$1
	local from=${EPOCHREALTIME//[.,]/}

	until_true "${@:2}"
	result=$(((${EPOCHREALTIME//[.,]/} - from) / 1000))
}

# killed KILLS EVENTS: a growing file is followed by daemons that are killed one after the other, each at a moment
# between its start and twice the time that it takes to write something; the last one is left alone.
killed()
{
	local kills=$1 events=$2 lines has ms wait_ms i
	events "$events" >all
	cp all log
	# A followed file has no end, and so no digest at its end.
	"$sinkd" "${tiny[@]}" --digest-every 100 log | sed '$d' >whole
	lines=$(wc -l <whole)
	[ "$lines" -eq $((events + events / 100 - 1)) ]
	"$sinkd" "${tiny[@]}" --follow log --from start --state probe --output probed </dev/null 2>>err 3>&- &
	pid=$!
	pids+=("$pid")
	took ms [ -s probed ]
	stop
	: >log
	(
		split -l 250 all part.
		for part in part.*; do
			cat "$part" >>log
			sleep 0.3
		done
	) 3>&- &
	pids+=($!)
	(
		while :; do
			sinkctl checkpoint || true
			sleep 0.03
		done
	) >/dev/null 2>&1 3>&- &
	asker=$!
	pids+=("$asker")
	for ((i = 0; i < kills; i++)); do
		"$sinkd" "${tiny[@]}" --follow log --from start --state state --output out --control ctl \
			--digest-every 100 </dev/null 2>>err 3>&- &
		pid=$!
		pids+=("$pid")
		wait_ms=$((10 + RANDOM % (2 * ms + 60)))
		sleep "$((wait_ms / 1000)).$(printf %03d $((wait_ms % 1000)))"
		kill -KILL "$pid"
		wait "$pid" 2>/dev/null || true
	done
	kill "$asker"
	has=$(wc -l <out)
	daemon --follow log --from start --state state --output out --digest-every 100
	until_true has_lines out "$lines"
	stop
	echo "$ms ms to the first line; after $kills kills $has lines of $lines; $(sort err | uniq -c)"
	cmp out whole
}

@test "killed at 200 moments: the output is, byte for byte, as if it had not been" {
	need_true_memory
	killed 200 5000
}

@test "killed on a slow disk: the same" {
	need_true_memory
	export LD_PRELOAD=$BUILD/tests/slow_sync.so SLOW_SYNC_MS=150
	killed 20 1000
}

@test "nothing is read before there is a checkpoint that says from where" {
	need_true_memory
	events 90 >all
	: >log
	LD_PRELOAD=$BUILD/tests/slow_sync.so SLOW_SYNC_MS=60000 \
		"$sinkd" "${tiny[@]}" --follow log --from start --state state --output out </dev/null 2>>err 3>&- &
	pid=$!
	pids+=("$pid")
	until_true [ -s state/checkpoint.tmp ]
	cat all >>log
	sleep 0.5
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null || true
	daemon --follow log --from start --state state --output out
	until_true has_lines out 90
	stop
	"$sinkd" "${tiny[@]}" all | cmp - out
}

@test "a journal of rotated files is read on where it was left" {
	events 20 >all
	head -n 10 all >log
	daemon --follow log --from start --state state --output out
	until_true has_lines out 10
	stop
	tail -n 10 all | head -n 4 >>log
	mv log log.1
	tail -n 6 all >log
	daemon --follow log --from start --state state --output out
	until_true has_lines out 20
	stop
	"$sinkd" "${tiny[@]}" all | cmp - out
}

@test "standard output that nobody reads: it ends all the same, and the next start writes again what was lost" {
	events 3000 >log
	"$sinkd" "${tiny[@]}" log >whole
	mkfifo pipe
	exec 9<>pipe
	daemon --follow log --from start --state state --control ctl --patience 1 >pipe
	settled bytes consumed "$pid"
	stop
	[ "$status" -eq 74 ]
	grep -q 'nothing was taken from standard output for 1 s' err
	timeout 1 cat <&9 >first || true
	head -c "$(wc -c <first)" whole | cmp - first
	daemon --follow log --from start --state state >pipe
	head -n 3000 <&9 >second
	tail -n "$(wc -l <second)" whole | cmp - second
	[ "$(($(grep -c . first) + $(wc -l <second)))" -ge 3000 ]
	exec 9<&-
}

@test "two daemons on one state: the second exits 75 and names the first" {
	daemon --follow log --state state
	run "$sinkd" "${tiny[@]}" --state state </dev/null
	[ "$status" -eq 75 ]
	[[ $output == *"in use by process $pid" ]]
}

@test "a damaged checkpoint: the one before is used, and that is said; another model's is refused" {
	events 100 >log
	daemon --follow log --from start --state state --output out --control ctl
	until_true has_lines out 100
	sinkctl checkpoint
	sinkctl checkpoint --json | jq -e '.sinkd.type == "checkpoint" and .sinkd.bytes > 1000'
	events 150 | tail -n 50 >>log
	until_true has_lines out 150
	stop
	printf X | dd of=state/checkpoint bs=1 seek=5000 conv=notrunc status=none
	: >err
	daemon --follow log --from start --state state --output out
	until_true has_lines out 150
	stop
	grep -q 'state/checkpoint' err
	"$sinkd" "${tiny[@]}" log | cmp - out
	other=$SRC/tests/golden/llama-tied/model.gguf
	run "$sinkd" --model "$other" --follow log --state state --output out
	[ "$status" -eq 65 ]
	for f in state/checkpoint state/checkpoint.old; do : >"$f"; done
	run "$sinkd" "${tiny[@]}" --follow log --state state --output out
	[ "$status" -eq 65 ]
}

@test "a checkpoint is for the superuser and the daemon's own user to ask for; without a state there is none" {
	daemon --socket sock --control ctl
	run sinkctl checkpoint
	[ "$status" -eq 65 ]
	[[ $output == *"keeps no state"* ]]
	[ "$(id -u)" -eq 0 ] || skip "only the superuser can be somebody else"
	stop
	chmod 711 .
	daemon --socket sock --control ctl --socket-mode 666 --state state
	echo '{"op":"checkpoint"}' >request
	chmod 644 request
	run setpriv --reuid=65534 --regid=65534 --clear-groups socat -t 5 - UNIX:ctl <request
	[ "$(jq -r .sinkd.fault <<<"$output")" = request ]
	[[ $output == *"for the superuser"* ]]
}
