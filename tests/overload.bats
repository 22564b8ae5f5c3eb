#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# More events than can be computed, and a date that jumps: nothing is lost uncounted, nothing hangs, no number is
# negative.

load sinkd.bash

# huge_events N: so many that take a hundred times as long to compute as to write; each 97th is no JSON.
huge_events()
{
	events "$1" | awk '{
		text = sprintf("%1000s", "")
		gsub(/ /, "abcdefghi ", text)
		sub(/"text":"/, "&" substr(text, 1, 900))
		print
	}'
}

# count TYPE: lines of out with that type of annotation.
count()
{
	grep -c "\"sinkd\":{\"type\":\"$1\"" out || true
}

# number NAME: of the status.
number()
{
	sinkctl status --json | jq -r ".sinkd.$1"
}

# has_read N: so many lines were read, and nothing of them is on its way.
has_read()
{
	[ "$(number seq)" -eq "$1" ] && [ "$(number lag.events)" -eq 0 ]
}

@test "a producer that is far too fast, --on-overload block: it waits, and every line is annotated or an error" {
	local parts=4
	no is_sanitized || parts=1
	daemon --socket sock --control ctl --answer none --output out
	huge_events $((parts * 97)) >in
	talk sock <in
	until_true has_read $((parts * 97))
	stop
	[ "$status" -eq 0 ]
	[ "$(count error)" -eq $parts ]
	[ "$(count event)" -eq $((parts * 96)) ]
	[ "$(count skipped)" -eq 0 ]
	keeps_bytes <(grep -v '^not' in) <(grep '"type":"event"' out)
}

@test "a producer that is far too fast, --on-overload skip: annotated + skipped + errors = read" {
	no is_sanitized || skip "what fits into memory takes this build minutes to compute"
	daemon --socket sock --control ctl --answer none --output out --on-overload skip
	huge_events 4000 >in
	talk sock <in
	until_true has_read 4000
	[ $(($(number events) + $(number errors) + $(number skipped))) -eq 4000 ]
	[ "$(number skipped)" -gt 0 ]
	stop
	[ "$status" -eq 0 ]
	skipped=$(jq -s 'map(.sinkd | select(.type == "skipped").count) | add' out)
	echo "$(count event) events, $(count error) errors, $skipped skipped"
	[ $(($(count event) + $(count error) + skipped)) -eq 4000 ]
}

# never_negative FILE: no number of sinkd in it, at any depth, is below zero.
never_negative()
{
	jq -es '[.[].sinkd | .. | numbers | select(. < 0)] == []' "$1"
}

@test "the date jumps hours forth and back: lag, durations, digests by interval and timers do not" {
	need_true_memory
	echo 0 >offset
	: >log
	LD_PRELOAD=$BUILD/tests/move_clock.so MOVE_CLOCK=$PWD/offset daemon --follow log --from start --state state \
		--checkpoint-interval 1 --output out --control ctl --digest-interval 1
	n=0
	for jump in 7200 -36000 86400 -1 0; do
		echo "$jump" >offset.new
		mv offset.new offset
		made=$(number checkpoint.made)
		digests=$(count digest)
		events 10 | sed "s/}/,\"jump\":$jump}/" >>log
		n=$((n + 10))
		until_true has_lines out "$n"
		more_digests() { [ "$(count digest)" -gt "$digests" ]; }
		more_checkpoints() { [ "$(number checkpoint.made)" -gt "$made" ]; }
		until_true more_digests
		until_true more_checkpoints
		sinkctl status --json >>numbers
		sinkctl digest --json --since 15m >>numbers
	done
	stop
	[ "$status" -eq 0 ]
	[ ! -s err ]
	never_negative numbers
	never_negative out
	# What the followed file holds is there once, with the bytes of a run whose date did not jump.
	[ "$(count event)" -eq 50 ]
	keeps_bytes log <(grep '"type":"event"' out)
}
