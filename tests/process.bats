#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# sinkd as a process: signals, readers that go away, full disks, blocked
# readers, terminals, memory, idleness.

load sinkd.bash

teardown()
{
	[ -z "${pid-}" ] || kill -KILL "$pid" 2>/dev/null || true
	end_processes
}

# many N: so many events.
many()
{
	yes '{"from":"a","text":"the quick brown fox jumps over the lazy dog"}' | head -n "$1"
}

@test "SIGTERM and SIGINT while idle end it at once, with exit 0" {
	for signal in TERM INT; do
		rm -f "$BATS_TEST_TMPDIR"/{in,out}
		serve
		echo '{"text":"x"}' >&8
		read -r -t 120 -u 9 line
		kill -"$signal" "$pid"
		finish
		[ "$status" -eq 0 ]
		[ ! -s "$BATS_TEST_TMPDIR/err" ]
	done
}

@test "SIGTERM and SIGINT during the start end it with exit 0, whatever it is doing; a second one at once" {
	need_true_memory
	cd "$BATS_TEST_TMPDIR"
	# In main, and while memory is taken for the model.
	for call in mallopt aligned_alloc; do
		for signal in TERM INT; do
			rm -rf state "$call".*
			held "$call" "$sinkd" "${tiny[@]}" --state state --socket sock --output out
			kill -"$signal" "$pid"
			kill -0 "$pid"
			let_go "$call"
			status=0
			wait "$pid" || status=$?
			[ "$status" -eq 0 ]
			[ ! -s "$call.err" ]
			[ ! -e state/checkpoint ]
			[ ! -e sock ]
		done
		rm -f "$call".*
		held "$call" "$sinkd" "${tiny[@]}"
		kill -TERM "$pid"
		until_true catches_no_more "$pid"
		kill -TERM "$pid"
		status=0
		wait "$pid" || status=$?
		[ "$status" -eq 143 ]
	done
}

# catches_no_more PID: SIGTERM has its default action.
catches_no_more()
{
	[ $((0x$(awk '/^SigCgt:/ { print $2 }' "/proc/$1/status") >> 14 & 1)) -eq 0 ]
}

@test "a signal that ends it while it waits for a file to start with: exit 0" {
	cd "$BATS_TEST_TMPDIR"
	mkfifo pin
	"$sinkd" "${tiny[@]}" --pin pin </dev/null 2>err 3>&- &
	pid=$!
	exec 7>pin
	until_true waits_for "$PWD/pin"
	kill -TERM "$pid"
	wait "$pid"
	exec 7>&-
	[ ! -s err ]
}

# waits_for FILE: the daemon has it open, and is within a system call. (Only an ancestor may see that, so not awk.)
waits_for()
{
	local call rest
	[ -n "$(find "/proc/$pid/fd" -lname "$1")" ] && read -r call rest <"/proc/$pid/syscall" && [ "$call" != running ]
}

@test "SIGHUP during the start: with --output it reloads then, a filter ends, and nohup is obeyed" {
	need_true_memory
	cd "$BATS_TEST_TMPDIR"
	for call in mallopt aligned_alloc; do
		rm -f "$call".*
		held "$call" "$sinkd" "${tiny[@]}" --socket sock --output out
		kill -HUP "$pid"
		mv out old 2>/dev/null || true
		let_go "$call"
		until_true [ -e out ]
		kill -TERM "$pid"
		wait "$pid"
		[ ! -s "$call.err" ]

		rm -f "$call".*
		held "$call" "$sinkd" "${tiny[@]}"
		kill -HUP "$pid"
		let_go "$call"
		status=0
		wait "$pid" || status=$?
		[ "$status" -eq 129 ]

		rm -f "$call".*
		held "$call" nohup "$sinkd" "${tiny[@]}"
		kill -HUP "$pid"
		let_go "$call"
		wait "$pid"
	done
}

@test "SIGTERM in full flow: whole lines, the first so many, exit 0" {
	many 30000 >"$BATS_TEST_TMPDIR/in.jsonl"
	"$sinkd" "${tiny[@]}" <"$BATS_TEST_TMPDIR/in.jsonl" >"$BATS_TEST_TMPDIR/part" 3>&- &
	pid=$!
	until_true [ -s "$BATS_TEST_TMPDIR/part" ]
	kill -TERM "$pid"
	wait "$pid"
	n=$(wc -l <"$BATS_TEST_TMPDIR/part")
	[ "$n" -gt 0 ]
	[ "$n" -lt 30000 ]
	[ "$(tail -c 1 "$BATS_TEST_TMPDIR/part" | od -An -c | tr -d ' ')" = '\n' ]
	head -n "$n" "$BATS_TEST_TMPDIR/in.jsonl" | "$sinkd" "${tiny[@]}" | cmp - "$BATS_TEST_TMPDIR/part"
}

@test "an event is not held up by a very long one behind it" {
	{
		echo '{"text":"short"}'
		printf '{"text":"'
		head -c 900000 /dev/zero | tr '\0' x
		printf '"}\n'
	} >"$BATS_TEST_TMPDIR/in.jsonl"
	"$sinkd" "${tiny[@]}" <"$BATS_TEST_TMPDIR/in.jsonl" >"$BATS_TEST_TMPDIR/out" 3>&- &
	pid=$!
	until_true [ -s "$BATS_TEST_TMPDIR/out" ]
	[ "$(jq .sinkd.seq "$BATS_TEST_TMPDIR/out")" -eq 1 ]
	kill -0 "$pid"
	kill -TERM "$pid"
	sleep 0.2
	kill -TERM "$pid" || true
	wait "$pid" || true
}

@test "a FIFO is waited for, also while it has no writer" {
	mkfifo "$BATS_TEST_TMPDIR/fifo"
	"$sinkd" "${tiny[@]}" "$BATS_TEST_TMPDIR/fifo" >"$BATS_TEST_TMPDIR/out" 3>&- &
	pid=$!
	sleep 0.5
	kill -0 "$pid"
	echo '{"text":"x"}' >"$BATS_TEST_TMPDIR/fifo"
	wait "$pid"
	[ "$(jq -r .text "$BATS_TEST_TMPDIR/out")" = x ]
	"$sinkd" "${tiny[@]}" "$BATS_TEST_TMPDIR/fifo" 3>&- &
	pid=$!
	sleep 2
	kill -TERM "$pid"
	wait "$pid"
}

@test "a second signal ends it even while nobody reads its output" {
	mkfifo "$BATS_TEST_TMPDIR/out"
	exec 9<>"$BATS_TEST_TMPDIR/out"
	many 20000 >"$BATS_TEST_TMPDIR/in.jsonl"
	"$sinkd" "${tiny[@]}" <"$BATS_TEST_TMPDIR/in.jsonl" >"$BATS_TEST_TMPDIR/out" 3>&- 9>&- &
	pid=$!
	read -r -t 120 -u 9 line
	settled bytes consumed "$pid"
	kill -TERM "$pid"
	sleep 0.5
	kill -0 "$pid"
	kill -TERM "$pid"
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 143 ]
	exec 9<&-
}

@test "SIGTERM while nobody reads its output: it ends when that lasts, exit 74; while somebody reads it waits" {
	mkfifo "$BATS_TEST_TMPDIR/out"
	exec 9<>"$BATS_TEST_TMPDIR/out"
	many 20000 >"$BATS_TEST_TMPDIR/in.jsonl"
	for reads in no yes; do
		"$sinkd" "${tiny[@]}" --patience 2 "$BATS_TEST_TMPDIR/in.jsonl" >"$BATS_TEST_TMPDIR/out" \
			2>"$BATS_TEST_TMPDIR/err" 3>&- 9>&- &
		pid=$!
		settled bytes consumed "$pid"
		kill -TERM "$pid"
		if [ "$reads" = yes ]; then
			# A pipe takes more when a page of it is free.
			for ((i = 0; i < 6; i++)); do
				sleep 0.7
				head -c 8192 <&9 >/dev/null
			done
			kill -0 "$pid"
		fi
		status=0
		timeout 120 tail -f --pid="$pid" /dev/null
		wait "$pid" || status=$?
		[ "$status" -eq 74 ]
		[ "$(cat "$BATS_TEST_TMPDIR/err")" = \
		    "sinkd: nothing was taken from standard output for 2 s: what waited for it is lost" ]
		# Empty the pipe.
		timeout 1 cat <&9 >/dev/null || true
	done
	exec 9<&-
}

@test "a reader that goes away is a clean end" {
	many 20000 >"$BATS_TEST_TMPDIR/in.jsonl"
	set +o pipefail
	"$sinkd" "${tiny[@]}" <"$BATS_TEST_TMPDIR/in.jsonl" 2>"$BATS_TEST_TMPDIR/err" | head -n 1 >/dev/null
	[ "${PIPESTATUS[0]}" -eq 0 ]
	[ ! -s "$BATS_TEST_TMPDIR/err" ]
}

@test "a reader that goes away is noticed while the input is idle" {
	serve
	echo '{"text":"x"}' >&8
	read -r -t 120 -u 9 line
	exec 9<&-
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 0 ]
	exec 8>&-
}

@test "a full disk: exit 74, a sentence, no half line" {
	many 100 >"$BATS_TEST_TMPDIR/in.jsonl"
	# A file that may not grow beyond 5 KiB takes part of a line; that part is taken back.
	"$sinkd" "${tiny[@]}" "$BATS_TEST_TMPDIR/in.jsonl" >"$BATS_TEST_TMPDIR/whole"
	[ "$(wc -c <"$BATS_TEST_TMPDIR/whole")" -gt 5120 ]
	for append in no yes; do
		: >"$BATS_TEST_TMPDIR/out"
		status=0
		(
			ulimit -f 5
			exec >"$BATS_TEST_TMPDIR/out"
			[ "$append" = no ] || exec >>"$BATS_TEST_TMPDIR/out"
			exec "$sinkd" "${tiny[@]}" "$BATS_TEST_TMPDIR/in.jsonl" 2>"$BATS_TEST_TMPDIR/err"
		) || status=$?
		[ "$status" -eq 74 ]
		grep -q 'File too large' "$BATS_TEST_TMPDIR/err"
		size=$(wc -c <"$BATS_TEST_TMPDIR/out")
		[ "$size" -gt 4000 ]
		[ "$(tail -c 1 "$BATS_TEST_TMPDIR/out" | od -An -c | tr -d ' ')" = '\n' ]
		cmp -n "$size" "$BATS_TEST_TMPDIR/out" "$BATS_TEST_TMPDIR/whole"
	done
}

@test "a device without room: exit 74" {
	[ -c /dev/full ] || skip "/dev/full is not the device it should be"
	status=0
	many 100 | "$sinkd" "${tiny[@]}" >/dev/full 2>"$BATS_TEST_TMPDIR/err" || status=$?
	[ "$status" -eq 74 ]
	grep -q '^sinkd: cannot write to standard output: No space left on device$' "$BATS_TEST_TMPDIR/err"
}

@test "a reader that does not read stops the input: memory and processor stay still" {
	need_true_memory
	mkfifo "$BATS_TEST_TMPDIR/out"
	exec 9<>"$BATS_TEST_TMPDIR/out"
	"$sinkd" "${tiny[@]}" <(many 1000000) >"$BATS_TEST_TMPDIR/out" 3>&- 9>&- &
	pid=$!
	settled bytes consumed "$pid"
	[ "$bytes" -lt 20000000 ]
	before=$(rss "$pid")
	used=$(ticks "$pid")
	sleep 1
	[ "$(consumed "$pid")" -eq "$bytes" ]
	[ "$(ticks "$pid")" -le $((used + 2)) ]
	[ "$(rss "$pid")" -le $((before + 64)) ]
	# It goes on where it stopped.
	[ "$(head -n 2000 <&9 | tail -n 1 | jq .sinkd.seq)" -eq 2000 ]
	[ "$(consumed "$pid")" -gt "$bytes" ]
	kill -TERM "$pid"
	cat <&9 >/dev/null 3>&- &
	wait "$pid"
	kill $!
	exec 9<&-
}

@test "no processor is used while there is no input" {
	serve
	echo '{"text":"x"}' >&8
	read -r -t 120 -u 9 line
	sleep 0.3
	used=$(ticks "$pid")
	sleep 2
	[ "$(ticks "$pid")" -le $((used + 2)) ]
	finish
	[ "$status" -eq 0 ]
}

@test "memory does not grow with the stream" {
	need_true_memory
	serve --window 60
	many 1000 >&8 &
	head -n 1000 <&9 >"$BATS_TEST_TMPDIR/first"
	before=$(rss "$pid")
	many 20000 >&8 &
	head -n 20000 <&9 >"$BATS_TEST_TMPDIR/rest"
	after=$(rss "$pid")
	tokens=$(jq -s 'map(.sinkd.tokens) | add' "$BATS_TEST_TMPDIR/rest")
	echo "resident: $before KiB after 1,000 events, $after KiB after 20,000 more, $tokens tokens"
	[ "$(tail -n 1 "$BATS_TEST_TMPDIR/rest" | jq .sinkd.seq)" -eq 21000 ]
	[ "$tokens" -gt 200000 ]
	[ $((after - before)) -le 1024 ]
	finish
	[ "$status" -eq 0 ]
}

@test "a line of 100 MB is one error, in constant memory, also while it lasts" {
	need_true_memory
	serve
	echo '{"text":"before"}' >&8
	read -r -t 120 -u 9 line
	before=$(rss "$pid")
	head -c 100000000 /dev/zero | tr '\0' x >&8
	read -r -t 120 -u 9 line
	[ "$(jq -c '.sinkd | [.type, .line, .fault, (.start | length)]' <<<"$line")" = '["error",2,"input",64]' ]
	[[ $(jq -r .sinkd.reason <<<"$line") == *"longer than 1048576 bytes"* ]]
	[ $(($(rss "$pid") - before)) -le 4096 ]
	printf '\n{"text":"after"}\n' >&8
	read -r -t 120 -u 9 line
	[ "$(jq -c '[.text, .sinkd.seq]' <<<"$line")" = '["after",3]' ]
	[ $(($(rss "$pid") - before)) -le 1024 ]
	finish
	[ "$status" -eq 0 ]
}

@test "long lines below the limit do not stay in memory" {
	need_true_memory
	serve
	echo '{"text":"before"}' >&8
	read -r -t 120 -u 9 line
	before=$(rss "$pid")
	for ((i = 0; i < 5; i++)); do
		{
			printf '{"MESSAGE":null,"n":"'
			head -c 1000000 /dev/zero | tr '\0' x
			printf '"}\n'
		} >&8 &
		[ "$(head -n 1 <&9 | jq .sinkd.tokens)" -eq 0 ]
	done
	[ $(($(rss "$pid") - before)) -le 1024 ]
	finish
}

# on_terminal COMMAND: run it in a shell on a terminal of its own; what that shows goes to screen.
on_terminal()
{
	script -qec "$1" /dev/null </dev/null >"$BATS_TEST_TMPDIR/screen"
}

@test "a progress line on the terminal while the output is a file, erased at the end; none with --quiet" {
	need "$(command -v script)"
	cd "$BATS_TEST_TMPDIR"
	many 200 >in.jsonl
	slowly="{ head -n 100 in.jsonl; sleep 1; tail -n 100 in.jsonl; } | $sinkd ${tiny[*]}"
	for output in '>out' '--output out'; do
		rm -f out
		on_terminal "$slowly $output"
		[ "$(wc -l <out)" -eq 200 ]
		grep -qP '\r[0-9]+ events  [0-9.]+ events/s  [0-9]+ tokens/s  lag [0-9]+\x1b\[K' screen
		grep -qP '\r\x1b\[K200 events, 0 errors, [0-9]+ tokens in [0-9.]+ s: [0-9.]+ events/s, [0-9]+ tokens/s\r$' screen
	done
	on_terminal "$slowly --quiet >out"
	[ ! -s screen ]
	"$sinkd" "${tiny[@]}" <in.jsonl >/dev/null 2>err
	[ ! -s err ]
}

@test "a terminal that others may write to shows progress only when asked for" {
	need "$(command -v script)"
	cd "$BATS_TEST_TMPDIR"
	many 200 >in.jsonl
	slowly="{ head -n 100 in.jsonl; sleep 1; tail -n 100 in.jsonl; } | $sinkd ${tiny[*]}"
	on_terminal "$slowly | jq -r .from"
	[ "$(sort screen | uniq -c | tr -d ' ')" = $'200a\r' ]
	on_terminal "$slowly >/dev/null"
	[ ! -s screen ]
	on_terminal "$slowly --progress >/dev/null"
	grep -q ' events/s .* lag ' screen
}

@test "the progress line is never wider than the terminal, also when that changes" {
	need "$(command -v script)"
	cd "$BATS_TEST_TMPDIR"
	many 200 >in.jsonl
	on_terminal "stty cols 30 </dev/tty; { head -n 100 in.jsonl; sleep 1; stty cols 20 </dev/tty; sleep 1
		tail -n 100 in.jsonl; } | $sinkd ${tiny[*]} >out"
	grep -oP '\r[^\r\x1b]+(?=\x1b\[K)' screen | tr -d '\r' | awk '{ print length }' | uniq | grep -xE '29|19' >widths
	[ "$(tr '\n' ' ' <widths)" = '29 19 ' ]
}

@test "a terminal that takes nothing more holds up only what goes there" {
	cd "$BATS_TEST_TMPDIR"
	many 3000 >log
	mkfifo keys
	exec 9<>keys
	# The terminal's other end is read until the FIFO behind it is full.
	socat -u PTY,link=tty,wait-slave PIPE:keys 3>&- 9>&- &
	pids+=($!)
	until_true [ -e tty ]
	"$sinkd" "${tiny[@]}" --follow log --from start --control ctl <tty >tty 2>tty 3>&- 9>&- &
	pids+=($!)
	until_true [ -S ctl ]
	for ((i = 0; i < 6; i++)); do
		sleep 0.5
		seen=$(count_events)
	done
	[ "$seen" -lt 3000 ]
	timeout 10 "$BUILD/sinkctl" ask --socket ctl -n 5 -T 3 --seed 1 what >answer
	[ -s answer ]
	exec 9<&-
}

# count_events: how many the daemon says that it has read.
count_events()
{
	timeout 10 "$BUILD/sinkctl" status --socket ctl --json >status && jq .sinkd.seq status
}

# reload: read the configuration again. Something is said of every option that differs from what the daemon has.
reload()
{
	: >notified
	kill -HUP "$pid"
	until_true grep -q READY=1 notified
}

# has_written PID BYTES: so many at least.
has_written()
{
	[ "$(awk '/^wchar:/ { print $2 }' "/proc/$1/io")" -ge "$2" ]
}

# comes_after_loss N: so many messages have.
comes_after_loss()
{
	[ "$(sed '1,/ messages were lost here/d' screen | grep -c ' takes effect at')" -eq "$1" ]
}

@test "messages that standard error does not take hold nothing up; they come later, or how many were lost" {
	cd "$BATS_TEST_TMPDIR"
	mkfifo keys
	exec 9<>keys
	socat -u PTY,link=tty,wait-slave,raw PIPE:keys 3>&- 9>&- &
	pids+=($!)
	until_true [ -e tty ]
	exec 7<>tty
	yes >&7 3>&- 9>&- &
	pids+=($!)
	until_true has_written $! 65536
	settled used ticks $!
	kill $!
	ln -s tty err
	: >conf
	many 3 >log
	daemon --config conf --follow log --from start --output out --control ctl --quiet 7>&- 9>&-
	# Thirteen messages each time, and one more the first time: more than there is room for, here and on their way.
	printf '%s = 7\n' digest-{every,lines} gpu journal-{directory,match} key metrics patience rolling-tokens sinks socket system \
		text-field window >conf
	for ((i = 0; i < 250; i++)); do reload; done
	many 3 >>log
	until_true lines out 6
	[ "$(sinkctl status --json | jq .sinkd.seq)" -eq 6 ]
	cat <&9 >screen 3>&- &
	pids+=($!)
	until_true grep -q ' messages were lost here' screen
	grep -q ' patience has changed' screen
	lost=$(sed -n 's/^sinkd: warning: \([0-9]*\) messages.*/\1/p' screen)
	[ $((lost + $(grep -c ' takes effect at the next start' screen))) -eq 3250 ]
	reload
	until_true comes_after_loss 13
	stop
	[ "$status" -eq 0 ]
	exec 7>&- 9>&-
}

@test "input may be a file, a pipe, /dev/null or a terminal" {
	many 3 >"$BATS_TEST_TMPDIR/in.jsonl"
	[ "$("$sinkd" "${tiny[@]}" <"$BATS_TEST_TMPDIR/in.jsonl" 2>&1 | wc -l)" -eq 3 ]
	[ "$(many 3 | "$sinkd" "${tiny[@]}" 2>&1 | wc -l)" -eq 3 ]
	[ -z "$("$sinkd" "${tiny[@]}" </dev/null 2>&1)" ]
	need "$(command -v script)"
	command="$sinkd --quiet ${tiny[*]} >$BATS_TEST_TMPDIR/out"
	printf '{"text":"typed"}\n\x04' | script -qec "$command" /dev/null >/dev/null
	[ "$(jq -r .text "$BATS_TEST_TMPDIR/out")" = typed ]
}

@test "on a terminal sinkd says what it waits for, and sinkctl what --top does at first" {
	need "$(command -v script)"
	cd "$BATS_TEST_TMPDIR"
	many 3 >in.jsonl
	printf '\x04' | script -qec "$sinkd ${tiny[*]} >out" /dev/null >screen
	grep -q 'reading events from this terminal, one a line; Control-D ends the input' screen
	on_terminal "timeout -s TERM 2 $sinkd ${tiny[*]} --follow in.jsonl >out" || true
	grep -q 'waiting for new lines in in.jsonl; --from start begins with the old ones' screen
	on_terminal "$sinkd ${tiny[*]} in.jsonl >out"
	no grep -q waiting screen
	on_terminal "$BUILD/sinkctl tail --top 1% out"
	[ "$(grep -c 'shows each event that is the most surprising so far' screen)" -eq 1 ]
	"$BUILD/sinkctl" tail --top 1% out 2>&1 | no grep 'so far'
}
