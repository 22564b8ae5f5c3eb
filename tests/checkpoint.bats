#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Checkpoints: a daemon that was ended, or killed at any moment, goes on as if
# it had never stopped; damaged and foreign states are refused.

load sinkd.bash

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

@test "nothing is read before there is a checkpoint that says from where" {
	need_true_memory
	events 90 >all
	: >log
	LD_PRELOAD=$BUILD/tests/fail_calls.so SLOW_SYNC_MS=60000 SLOW_SYNC_NAME=checkpoint \
		launch --follow log --from start --state state --output out
	until_true [ -s state/checkpoint.tmp ]
	cat all >>log
	sleep 0.5
	stop KILL
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
	long_events 1300 >log
	"$sinkd" "${tiny[@]}" log >whole
	mkfifo pipe
	exec 9<>pipe
	daemon --follow log --from start --state state --control ctl --patience 1 >pipe
	IFS= read -r -t 120 -u 9 line
	settled bytes consumed "$pid"
	stop
	[ "$status" -eq 74 ]
	grep -q 'nothing was taken from standard output for 1 s' err
	echo "$line" >first
	timeout 1 cat <&9 >>first || true
	head -c "$(wc -c <first)" whole | cmp - first
	daemon --follow log --from start --state state >pipe
	timeout 120 head -n 1300 <&9 >second
	tail -n "$(wc -l <second)" whole | cmp - second
	[ "$(($(grep -c . first) + $(wc -l <second)))" -ge 1300 ]
	exec 9<&-
}

# part N M: lines N to M of all.
part()
{
	sed -n "$1,$2p" all
}

# rotate: log becomes log.1, log.1 becomes log.2 and so on.
rotate()
{
	local i
	for ((i = 8; i > 0; i--)); do
		[ ! -e log.$i ] || mv log.$i log.$((i + 1))
	done
	mv log log.1
}

# away COMMAND...: a daemon reads ten lines and is ended, COMMAND does what it likes to log and the 90 lines of all,
# and a second daemon writes the rest: out has 90 lines or $lines.
away()
{
	rm -rf state out log log?*
	events 90 >all
	part 1 10 >log
	daemon --follow log --from start --state state --output out
	until_true has_lines out 10
	stop
	: >err
	"$@"
	daemon --follow log --from start --state state --output out
	until_true has_lines out "${lines-90}"
	stop
}

by_number()
{
	part 11 20 >>log
	rotate
	for ((i = 20; i < $1; i += 20)); do
		part $((i + 1)) $((i + 20)) >log
		rotate
	done
	part $((i + 1)) 90 >log
}

by_date()
{
	part 11 20 >>log
	mv log log-20261109
	part 21 40 >log
	mv log log-20261110
	part 41 60 >log
	mv log log-20261201T0130
	part 61 90 >log
}

at_the_same_time()
{
	"$@"
	touch -d 2026-11-22T10:00:00 log log?*
}

# Newer than those before, and none of them.
with_others_beside()
{
	"$@"
	for f in log.old log.1.txt log.1.orig log2 logs.1 other.1 log- log.x1; do part 1 3 >$f; done
	mkdir log.99
}

# log is left as it was, and not made anew.
nothing_new()
{
	by_number 80
	rm log
	part 81 90 >>log.1
}

@test "rotated more than once while it was down: every file is read, in order" {
	for what in "by_number 40" "by_number 60" "by_number 80" by_date "at_the_same_time by_number 80" \
		"at_the_same_time by_date" "with_others_beside by_number 60" nothing_new; do
		echo "$what"
		# shellcheck disable=SC2086 # words
		away $what
		"$sinkd" "${tiny[@]}" all | cmp - out
		[ "$what" != nothing_new ] || sed -i '/log is not there: waiting for it/d' err
		[ ! -s err ]
	done
}

compressed()
{
	by_number "$1"
	gzip "log.$2"
}

@test "rotated more than once, and one of them compressed or gone: that is said once, the others are read" {
	need "$(command -v gzip)"
	# Lines 1 to 20 lie in log.3, or else 21 to 40 in log.2, or 11 to 40 in log.3 and log.2.
	lines=80 away compressed 60 3
	cmp <(jq -r .text out) <({ part 1 10; part 21 90; } | jq -r .text)
	[ "$(grep -c 'is lost' err)" -eq 1 ]
	lines=70 away compressed 60 2
	cmp <(jq -r .text out) <({ part 1 20; part 41 90; } | jq -r .text)
	[ "$(grep -c 'is lost' err)" -eq 1 ]
	lines=60 away eval 'compressed 60 3; rm log.2'
	cmp <(jq -r .text out) <({ part 1 10; part 41 90; } | jq -r .text)
	[ "$(grep -c 'is lost' err)" -eq 1 ]
}

copied()
{
	part 11 40 >>log
	cp log log.1
	part 41 60 >log
	mv log.1 log.2
	cp log log.1
	part 61 90 >log
}

@test "copied and cut while it was down: it goes on in the copy" {
	away copied
	"$sinkd" "${tiny[@]}" all | cmp - out
	[ ! -s err ]
}

@test "killed in the middle of files that were rotated: the same output" {
	need_true_memory
	# Errors tell lines by their number in the file.
	events 9000 | grep -v '^not' >all
	"$sinkd" "${tiny[@]}" all >whole
	part 1 1800 >log
	for ((i = 1; i <= 4; i++)); do
		launch --follow log --from start --state state --output out --control ctl
		until_true sinkctl status >/dev/null 2>&1
		until_true has_lines out $((i * 1000 - 700))
		sinkctl checkpoint
		stop KILL
		rotate
		part $((i * 1800 + 1)) $((i * 1800 + 900)) >log
		rotate
		part $((i * 1800 + 901)) $((i * 1800 + 1800)) >log
	done
	daemon --follow log --from start --state state --output out
	until_true has_lines out "$(wc -l <whole)"
	stop
	cmp out whole
	[ ! -s err ]
}

@test "an end that takes its time: the service manager is told as long as it goes on" {
	long_events 1300 >log
	mkfifo pipe
	exec 9<>pipe
	daemon --follow log --from start --state state --control ctl >pipe
	read -r -t 120 -u 9 line
	settled bytes consumed "$pid"
	from=$SECONDS
	kill -TERM "$pid"
	for ((i = 0; i < 3; i++)); do
		sleep 1.2
		timeout 120 head -c 60000 <&9 >/dev/null
	done
	cat <&9 >/dev/null 3>&- &
	reader=$!
	wait "$pid"
	kill "$reader"
	exec 9<&-
	# At once, and then for every second in which there was progress.
	told=$(grep -o EXTEND_TIMEOUT_USEC=120000000 notified | wc -l)
	[ "$told" -ge 3 ]
	[ "$told" -le $((SECONDS - from + 2)) ]
}

@test "a start that takes its time: the service manager is told as long as it goes on" {
	# A dense start takes four times as long for twice the text.
	seq 12000 | tr '\n' ' ' | head -c "$(is_sanitized && echo 9000 || echo 24000)" >pin
	from=$SECONDS
	daemon --policy dense --pin pin --follow log
	# At once, and then for every second in which there was progress.
	told=$(grep -o EXTEND_TIMEOUT_USEC=300000000 notified | wc -l)
	[ "$told" -ge 2 ]
	[ "$told" -le $((SECONDS - from + 2)) ]
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
	[ "$status" -eq 78 ]
	for f in state/checkpoint state/checkpoint.old; do : >"$f"; done
	run "$sinkd" "${tiny[@]}" --follow log --state state --output out
	[ "$status" -eq 65 ]
}

# refuses_state PATTERN OPTION...: a start with other options than the state's says what differs and what to do.
refuses_state()
{
	run -78 --separate-stderr "$sinkd" "${tiny[@]}" --follow log --from start --state state --output out "${@:2}"
	# shellcheck disable=SC2053,SC2154 # a pattern; set by run
	[[ $stderr == "sinkd: "$1"; take the options back, or give --state-mismatch=fresh "*" move the folder state away"* ]]
}

@test "a state of other options: what to do is said; --state-mismatch=fresh goes on where everything was" {
	events 160 | grep job | head -n 60 >log
	daemon --follow log --from start --state state --output out --window 60
	until_true has_lines out 60
	stop
	refuses_state 'the state was saved with another window: 60, here it is 50' --window 50
	refuses_state 'the state was saved with another number of sinks: 4, here it is 9' --window 60 --sinks 9
	refuses_state 'the state was saved with the policy sink, here it is window' --window 60 --policy window
	echo 'Here it comes:' >pin
	refuses_state 'the state was saved with another *' --window 60 --pin pin
	refuses_state 'state/checkpoint belongs to another model' --model "$SRC/tests/golden/llama-tied/model.gguf"
	cp out before
	events 160 | grep job | sed -n 61,150p >>log
	: >err
	daemon --follow log --from start --state state --output out --window 50 --state-mismatch fresh
	until_true has_lines out 150
	stop
	grep -q 'a new context begins after number 60, and the old checkpoint is kept as state/checkpoint.at-60$' err
	# What was written stays, the places go on, the numbers as well; the model begins anew.
	cmp before <(head -n 60 out)
	[ "$(jq .sinkd.seq out | tr '\n' ' ')" = "$(seq -s ' ' 150) " ]
	cmp <(sed 's/,"sinkd":{"type.*//' out) <(sed 's/}$//' log)
	cmp <(tail -n 90 log | "$sinkd" "${tiny[@]}" --window 50 | jq -c '.sinkd | del(.seq)') \
		<(tail -n 90 out | jq -c '.sinkd | del(.seq)')
	# The next start is an ordinary one, with another model it is not; the kept one is what it was.
	: >err
	daemon --follow log --from start --state state --output out --window 50
	stop
	[ ! -s err ]
	events 170 | grep job | sed -n 151,160p >>log
	daemon --model "$SRC/tests/golden/llama-tied/model.gguf" --follow log --state state --output out --state-mismatch fresh
	until_true has_lines out 160
	stop
	grep -q 'saved with another model: a new context begins after number 150' err
	[ "$(tail -n 1 out | jq .sinkd.seq)" -eq 160 ]
	mkdir old
	mv state/checkpoint.at-60 old/checkpoint
	chmod 700 old
	"$sinkd" "${tiny[@]}" --follow log --state old --output out --window 60 --check-config |
		grep -q '^state    ok: the next start goes on from the checkpoint in old$'
}

@test "--check-config: says what a start would find, beside a daemon that runs, and changes nothing" {
	events 150 | head -n 20 >log
	daemon --follow log --from start --state state --output out --control ctl --socket sock
	until_true has_lines out 20
	sinkctl checkpoint
	ls -la --time-style=full-iso . state >before
	check() { "$sinkd" "${tiny[@]}" --follow log --state state --output out --control ctl --check-config "$@"; }
	check >found
	grep -q '^options  ok: those of the command line$' found
	grep -q '^model    ok: .*/model.gguf, ' found
	grep -q '^state    ok: the next start goes on from the checkpoint in state$' found
	grep -q '^follow   ok: log$' found
	grep -q '^output   ok: out$' found
	grep -q '^control  ok: ctl, where a program listens now$' found
	[ "$(wc -l <found)" -eq 6 ]
	run -78 check --window 50
	[[ $output == *'state    error: the state was saved with another window'* ]]
	run -0 check --window 50 --state-mismatch fresh
	[[ $output == *'state    ok: the state was saved with another window'*', so that the next start begins a new context'* ]]
	run -78 check --model "$SRC/tests/golden/llama-tied/model.gguf"
	[[ $output == *'state    error: the state was saved with another model'* ]]
	run -0 check --state other
	[[ $output != *'state '* || $output == *'state    ok: other'* ]]
	run -73 check --output /nowhere/out --metrics ./nowhere/m
	[[ $output == *'output   error: cannot open /nowhere/out for the output: No such file or directory'* ]]
	[[ $output == *'metrics  error: cannot make the socket ./nowhere/m: '* ]]
	run -66 check nowhere
	[[ $output == *'input    error: cannot read nowhere: '* ]]
	run -66 check --model nowhere
	echo 'not a model' >text
	run -65 check --model text
	[[ $output == *'model    error: text: '* ]]
	run -64 check --window x
	ls -la --time-style=full-iso . state >after
	diff <(grep -vE ' (before|after|found|text|err|notified|\.|\.\.)$' before) \
		<(grep -vE ' (before|after|found|text|err|notified|\.|\.\.)$' after) | grep -v '^[<>] total' | no grep '^[<>]'
	kill -0 "$pid"
}

@test "--check-config and a start refuse the same, each with one sentence" {
	mkdir -p folder damaged open
	chmod 777 open
	chmod 700 damaged
	echo 'no checkpoint' >damaged/checkpoint
	events 150 | head -n 3 >log
	# Each case: the exit status, the name of the line, its sentence, the options.
	both() {
		local code=$1 what=$2 sentence=$3
		shift 3
		run -"$code" "$sinkd" "${tiny[@]}" --check-config "$@"
		[[ $output == *"$what"*"error: "*"$sentence"* ]]
		[ "$(grep -c "^$what " <<<"$output")" -eq 1 ]
		run -"$code" timeout 60 "$sinkd" "${tiny[@]}" "$@" </dev/null
		[[ $output == *"$sentence"* ]]
	}
	both 73 output 'cannot open folder for the output: Is a directory' --output folder
	both 66 follow 'cannot follow folder: it is not a regular file' --follow folder
	both 66 input 'cannot read folder: Is a directory' folder
	both 64 output 'log is an input and the output too' --follow log --output log
	both 64 journal "--journal-match must be words FIELD=VALUE and +, not 'nonsense'" \
		--journal --journal-directory folder --journal-match nonsense
	both 73 control 'cannot make the socket log: ' --control log
	both 65 state 'damaged' --state damaged
	both 77 state 'open' --state open
	run -64 "$sinkd" "${tiny[@]}" --check-config --socket sock --control sock
	[[ $output == *'--socket and --control must not be the same path, sock'* ]]
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
