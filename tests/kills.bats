#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# kill -9 at random moments, and at every call that touches the state or the output: the last run of all leaves, byte
# for byte, what one that was never killed leaves.

load sinkd.bash

# Kills of each random case; on a slow disk a tenth of them, with rotations a quarter.
kills=${KILLS-200}

setup()
{
	need_true_memory
	cd "$BATS_TEST_TMPDIR"
}

# took MS COMMAND...: how many milliseconds COMMAND takes to succeed, into the variable MS.
took()
{
	local -n result=$1
	local from=${EPOCHREALTIME//[.,]/}

	until_true "${@:2}"
	result=$(((${EPOCHREALTIME//[.,]/} - from) / 1000))
}

# wait_randomly MS: for 10 ms to twice MS, and a little more.
wait_randomly()
{
	local ms=$((10 + RANDOM % (2 * $1 + 60)))

	sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
}

# prepare EVENTS ARG...: the file all, and what is written for it, whole. ms: what a daemon takes to its first line.
prepare()
{
	local events=$1
	shift
	events "$events" | grep -v '^not' >all
	# A followed file has no end, and so no digest at its end.
	"$sinkd" "${tiny[@]}" "$@" all | sed '$d' >whole
	cp all log
	launch --follow log --from start --state probe --output probed
	took ms [ -s probed ]
	stop
	: >log
}

# feed: the file log grows to what all is, and somebody asks for checkpoints; both in the background.
feed()
{
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
}

# written: all output, also what was rotated away, in order.
written()
{
	find . -name 'out.*' | sort -t. -k3n | xargs -r cat
	[ ! -e out ] || cat out
}

# has_written N: so many lines or more.
has_written()
{
	[ "$(written | wc -l)" -ge "$1" ]
}

# rotate_input: log becomes log.1, and so on; the next part begins a new one.
rotate_input()
{
	local i
	for ((i = 98; i > 0; i--)); do
		[ ! -e log.$i ] || mv log.$i log.$((i + 1))
	done
	[ ! -s log ] || mv log log.1
}

# rotate_output N: out becomes out.N, and the daemon is told, or killed before.
rotate_output()
{
	[ -s out ] || return 0
	mv out "out.$1"
	kill -HUP "$pid"
	wait_randomly 5
}

# killed KILLS EVENTS [rotated]: a growing file is followed by daemons that are killed one after the other, each at a
# moment between its start and twice the time that it takes to write something; the last one is left alone.
killed()
{
	local kills=$1 rotated=${3-} ms i args=(--digest-every 100)
	[ -z "$rotated" ] || args+=(--rolling)
	prepare "$2" "${args[@]}"
	args=(--follow log --from start --state state --output out "${args[@]}")
	feed
	for ((i = 1; i <= kills; i++)); do
		launch "${args[@]}" --control ctl
		wait_randomly "$ms"
		[ -z "$rotated" ] || [ $((RANDOM % 3)) -gt 0 ] || rotate_output "$i"
		stop KILL
		[ -z "$rotated" ] || [ $((RANDOM % 3)) -gt 0 ] || rotate_input
	done
	kill "$asker"
	echo "$ms ms to the first line; after $kills kills $(written | wc -l) lines of $(wc -l <whole); $(sort err | uniq -c)"
	daemon "${args[@]}"
	until_true has_written "$(wc -l <whole)"
	stop
	written | cmp - whole
}

@test "killed at random moments: the output is, byte for byte, as if it had not been" {
	killed "$kills" 5000
}

@test "killed on a slow disk: the same" {
	export LD_PRELOAD=$BUILD/tests/fail_calls.so SLOW_SYNC_MS=150
	killed $((kills / 10)) 1000
}

@test "killed while its input and output are rotated, with a rolling digest: the same" {
	killed $((kills / 4)) 5000 rotated
}

# calls [before]: each call in the scenes of tests/kills.c is the last one.
calls()
{
	mkdir scene
	cd scene
	"$BUILD/tests/kills" "$sinkd" "$model" "$BUILD/tests/fail_calls.so" "$@" >../table 3>&- || { cat ../table; return 1; }
	tail -n 1 ../table
}

@test "killed before each call that touches the state or the output: the same" {
	calls before
}

@test "killed after each of them, and on a slow disk: the same" {
	[ "$kills" -ge 500 ] || skip "a part of the long run: KILLS=500"
	calls
	cd ..
	rm -r scene
	SLOW_SYNC_MS=20 calls
}
