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

@test "killed at 200 moments: the output is, byte for byte, as if it had not been" {
	need_true_memory
	kills=200
	events 5000 >all
	cp all log
	# A followed file has no end, and so no digest at its end.
	"$sinkd" "${tiny[@]}" --digest-every 100 log | sed '$d' >whole
	lines=$(wc -l <whole)
	[ "$lines" -eq 5049 ]
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
		sleep "0.$(printf %03d $((RANDOM % 150 + 10)))"
		kill -KILL "$pid"
		wait "$pid" 2>/dev/null || true
	done
	kill "$asker"
	has=$(wc -l <out)
	daemon --follow log --from start --state state --output out --digest-every 100
	until_true has_lines out "$lines"
	stop
	echo "after $kills kills $has lines of $lines; $(sort err | uniq -c)"
	cmp out whole
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
