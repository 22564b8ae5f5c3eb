#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# The examples that use the daemon run as they are; examples/journal does in
# systemd.bats, where there is a journal.

load sinkd.bash

setup()
{
	cd "$BATS_TEST_TMPDIR"
	PATH=$BUILD:$PATH
}

teardown()
{
	end_processes
}

example()
{
	timeout 120 "$SRC/examples/$1" "${@:2}" 3>&-
}

@test "containers: logs of several, and a digest of all" {
	for name in a b; do
		for ((i = 0; i < 20; i++)); do
			echo "{\"log\":\"$name took $i ms\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}"
		done >$name
	done
	SINKD_OPTIONS=${tiny[*]} example containers a b >out
	grep -q '^events 1 to 40$' out
	grep -q '20x stdout: [ab] took' out
	run example containers
	[ "$status" -eq 64 ]
}

@test "meeting: a rolling digest every 25 contributions, and at the end" {
	for ((i = 1; i <= 60; i++)); do echo "{\"from\":\"P$((i % 3))\",\"text\":\"point $i of the agenda\"}"; done |
		example meeting "${tiny[@]}" >out
	[ "$(grep -c ', of 25:$' out)" -eq 2 ]
	[ "$(grep -c '^51 to 60, of 10:$' out)" -eq 1 ]
	grep -q '^  P[012]: point' out
}

@test "assistant: every line is answered, and joins the stream" {
	printf 'hello\nhow are you\n' | example assistant "${tiny[@]}" >out 2>err
	[ "$(wc -l <out)" -ge 2 ]
}

@test "producers: each gets its own events back" {
	example producers "${tiny[@]}" >out
	for name in web database backup; do
		[ "$(sed -nE "s/^$name got back event [0-9]+: step ([0-9]) is done, surprise .*/\\1/p" out | tr -d '\n')" = 12345 ]
	done
}

# is_empty DIR
is_empty()
{
	[ -z "$(ls -A "$1")" ]
}

@test "a signal ends an example's daemon and removes its files" {
	mkdir tmp
	mkfifo typed
	exec 8<>typed
	TMPDIR=$PWD/tmp "$SRC/examples/assistant" "${tiny[@]}" <typed >out 2>err 3>&- &
	pids+=($!)
	until_true grep -q '>' err
	kill -TERM $!
	until_true is_empty tmp
	exec 8>&-
}
