#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# What the disk does to a daemon with a state: checkpoints that fail, and an
# output that is renamed, removed, cut or named otherwise. Every event is in the
# output once, and what cannot be promised is said.

load sinkd.bash

teardown()
{
	end_processes
	if mountpoint -q full 2>/dev/null; then umount full; fi
}

# follow ARG...: a daemon that reads log from its start, as plain text, into out.
follow()
{
	daemon --follow log --from start --format plain --state state --output out --control ctl "$@"
}

# whole [FILE]: what an undisturbed daemon writes for all of FILE.
whole()
{
	"$sinkd" "${tiny[@]}" --format plain "${1-log}"
}

# checkpoint_number NAME: a number of the status's checkpoint member.
checkpoint_number()
{
	sinkctl status --json | jq ".sinkd.checkpoint.$1"
}

failing()
{
	[ "$(checkpoint_number failing)" = "$1" ]
}

# ---- checkpoints that fail

@test "a checkpoint that fails after the first one: said once, tried again without new events, and the stream goes on" {
	seq 5 >log
	follow --checkpoint-interval 1
	until_true has_lines out 5
	until_true test ! -e state/checkpoint.tmp
	mkdir state/checkpoint.tmp
	seq 6 9 >>log
	until_true has_lines out 9
	until_true failing 1
	until_true eval '[ "$(checkpoint_number failed)" -ge 2 ]'
	[ "$(grep -c 'checkpoint failed' err)" -eq 1 ]
	grep -q 'state/checkpoint.tmp: Is a directory' err
	[[ $(sinkctl status --json | jq -r .sinkd.checkpoint.failure) == *"Is a directory"* ]]
	until_true grep -q 'STATUS=.*no checkpoint: .*Is a directory' notified
	run sinkctl checkpoint
	[ "$status" -eq 75 ]
	[[ $output == *"Is a directory"* ]]
	rmdir state/checkpoint.tmp
	until_true failing 0
	grep -q 'checkpoints work again' err
	# That one came without new events, and it is right.
	stop KILL
	follow
	seq 10 12 >>log
	until_true has_lines out 12
	stop
	[ "$status" -eq 0 ]
	whole | cmp - out
}

@test "another cause is another message" {
	seq 5 >log
	follow --checkpoint-interval 1
	until_true has_lines out 5
	mv state away
	sinkctl checkpoint || true
	until_true grep -q 'state.*No such file' err
	mkdir -m 700 state state/checkpoint.tmp
	sinkctl checkpoint || true
	until_true grep -q 'Is a directory' err
	[ "$(grep -c 'checkpoint failed' err)" -eq 2 ]
}

@test "the last checkpoint fails: the output is whole, and exit status 74 says so" {
	for how in TERM end; do
		rm -rf state out
		seq 5 >log
		if [ $how = TERM ]; then
			follow
			until_true has_lines out 5
			mkdir state/checkpoint.tmp
			stop
		else
			mkfifo events
			"$sinkd" "${tiny[@]}" --format plain --state state --output out <events 2>>err 3>&- &
			pid=$!
			pids+=("$pid")
			exec 8>events
			until_true test -e state/checkpoint
			until_true test ! -e state/checkpoint.tmp
			mkdir state/checkpoint.tmp
			cat log >&8
			exec 8>&-
			status=0
			wait "$pid" || status=$?
		fi
		[ "$status" -eq 74 ]
		whole | cmp - out
		grep -q 'Is a directory' err
	done
}

@test "a full disk under the state: no crash, and exit status 74" {
	[ "$(id -u)" -eq 0 ] || skip "only the superuser can mount a small disk"
	mkdir full
	mount -t tmpfs -o size=64k,mode=700 tmpfs full || skip "no tmpfs can be mounted"
	seq 200 >log
	run "$sinkd" "${tiny[@]}" --format plain --window 200 --state full/state --output out log
	echo "$output"
	[ "$status" -eq 74 ]
	[[ $output == *"cannot write full/state/checkpoint.tmp: No space left on device"* ]]
	[ "$(grep -c 'is tried again' <<<"$output")" -eq 1 ]
	"$sinkd" "${tiny[@]}" --format plain --window 200 log | cmp - out
}

@test "the first checkpoint fails: nothing is read, and the sentence says why" {
	seq 5 >log
	mkdir -m 700 state state/checkpoint.tmp
	run "$sinkd" "${tiny[@]}" --format plain --state state --output out log
	[ "$status" -eq 74 ]
	[[ $output == *"state/checkpoint.tmp: Is a directory"* ]]
	[ ! -s out ]
}

@test "a damaged checkpoint never takes the place of the whole one before it" {
	seq 5 >log
	follow
	until_true has_lines out 5
	sinkctl checkpoint
	seq 6 9 >>log
	until_true has_lines out 9
	stop
	printf X | dd of=state/checkpoint bs=1 seek=3000 conv=notrunc status=none
	follow
	# The start has made a checkpoint of its own. Without it the one before the damaged one must be there.
	stop KILL
	mv state/checkpoint gone
	seq 10 12 >>log
	follow
	until_true has_lines out 12
	stop
	whole | cmp - out
}

@test "a state folder of another user, or one that others write to, is refused with status 77" {
	mkdir -m 777 open
	run "$sinkd" "${tiny[@]}" --state open </dev/null
	[ "$status" -eq 77 ]
	[[ $output == *"other users can write to the folder open"* ]]
	[ "$(id -u)" -eq 0 ] || skip "only the superuser can give a folder away"
	mkdir -m 700 theirs
	chown 12345 theirs
	run "$sinkd" "${tiny[@]}" --state theirs </dev/null
	[ "$status" -eq 77 ]
	[[ $output == *"belongs to user 12345"* ]]
}

# ---- an output that is renamed, removed, cut or named otherwise

# go_on FILE...: another daemon writes the rest; then the files hold what an undisturbed run writes.
go_on()
{
	seq 101 120 >>log
	follow
	until_true eval '[ "$(cat '"$*"' | wc -l)" -ge 120 ]'
	stop
	[ "$status" -eq 0 ]
	whole >want
	cat "$@" | cmp - want
}

# begun: 100 events are written, and the checkpoint is of the first 50.
begun()
{
	seq 50 >log
	follow --checkpoint-interval 0
	until_true has_lines out 50
	sinkctl checkpoint
	seq 51 100 >>log
	until_true has_lines out 100
}

@test "renamed and killed before SIGHUP: the lines after the checkpoint are in one file" {
	begun
	mv out out.1
	stop KILL
	go_on out.1 out
	[ "$(wc -l <out.1)" -eq 50 ]
	grep -q 'the output of the checkpoint is .*out.1 now' err
}

@test "renamed, made anew by others, and killed before SIGHUP" {
	begun
	mv out out-20261130
	touch out
	stop KILL
	go_on out-20261130 out
}

@test "renamed, SIGHUP, and the checkpoint after it fails: lines in the new file are taken back too" {
	seq 50 >log
	follow --checkpoint-interval 0
	until_true has_lines out 50
	sinkctl checkpoint
	seq 51 60 >>log
	until_true has_lines out 60
	mkdir state/checkpoint.tmp
	mv out out.1
	kill -HUP "$pid"
	until_true test -e out
	seq 61 70 >>log
	until_true has_lines out 10
	mv out.1 out.2
	mv out out.1
	kill -HUP "$pid"
	until_true test -e out
	seq 71 100 >>log
	until_true has_lines out 30
	stop KILL
	rmdir state/checkpoint.tmp
	go_on out.2 out.1 out
	[ "$(wc -l <out.2)" -eq 50 ]
	[ ! -s out.1 ]
}

@test "copied and cut, as logrotate's copytruncate does, and killed" {
	begun
	cp out out.1
	: >out
	seq 101 110 >>log
	until_true has_lines out 10
	stop KILL
	seq 111 120 >>log
	follow
	until_true has_lines out 70
	stop
	whole >want
	cat out.1 out | cmp - want
}

@test "another name for the output: the earlier file ends where the checkpoint was made" {
	begun
	stop KILL
	seq 101 120 >>log
	daemon --follow log --from start --format plain --state state --output other
	until_true has_lines other 70
	stop
	whole >want
	cat out other | cmp - want
	grep -q 'the output of the checkpoint is .*out now; it ends with event 50, and the stream goes on in other' err
}

@test "standard output instead of the file: the same" {
	begun
	stop KILL
	daemon --follow log --from start --format plain --state state >other
	until_true has_lines other 50
	stop
	whole >want
	cat out other | cmp - want
}

@test "the marked file is not there any more: that is said, with the number" {
	begun
	mv out out.1
	gzip out.1
	stop KILL
	seq 101 120 >>log
	follow
	until_true has_lines out 70
	stop
	grep -q 'events after number 50 may be there twice' err
	whole | tail -n 70 | cmp - out
}

@test "lines of others after the checkpoint's place are left alone, and so are older files with the same numbers" {
	seq 50 >log
	whole >out.1
	touch -d 2026-01-01 out.1
	cp out.1 before
	follow --checkpoint-interval 0
	until_true has_lines out 50
	stop
	echo 'a note by hand' >>out
	seq 51 60 >>log
	follow --checkpoint-interval 0
	until_true has_lines out 61
	stop KILL
	grep -q 'out was written to by others after event 50' err
	[ "$(sed -n 51p out)" = 'a note by hand' ]
	[ "$(grep -vc 'a note' out)" -eq 60 ]
	cmp out.1 before
}

@test "an output that is removed: said, and opened anew" {
	begun
	rm out
	until_true test -e out
	grep -q 'out was removed' err
	[ "$(grep -c 'out was removed' err)" -eq 1 ]
	seq 101 110 >>log
	until_true has_lines out 10
	stop KILL
	follow
	stop
	whole | tail -n 10 | cmp - out
}

@test "SIGHUP where a FIFO has taken the output's name: the loop goes on, and so do lines into the file" {
	begun
	mv out out.1
	mkfifo out
	kill -HUP "$pid"
	until_true grep -q 'out is no regular file any more' err
	seq 101 120 >>log
	until_true has_lines out.1 120
	rm out
	kill -HUP "$pid"
	until_true test -f out
	stop
	[ "$status" -eq 0 ]
	whole | cmp - out.1
}
