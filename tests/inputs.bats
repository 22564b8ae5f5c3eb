#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Inputs without an end: followed files and their rotation, producers on a
# socket, good and bad ones; and what is left out under overload.

load sinkd.bash

# peers_are N: sock has as many connections.
peers_are()
{
	connections sock "$1"
}

# idle: nothing has come out for a while.
idle()
{
	local size
	size=$(stat -c %s out)
	sleep 0.5
	[ "$size" -gt 0 ] && [ "$(stat -c %s out)" -eq "$size" ]
}

@test "a followed file: what is added, from its end or its start" {
	event old >log
	daemon --follow log --output out
	daemon --follow log --from start --output all
	event new >>log
	until_true lines out 1
	until_true lines all 2
	[ "$(texts out)" = 'new ' ]
	[ "$(texts all)" = 'old new ' ]
}

@test "a followed file: half a line waits for its end" {
	: >log
	daemon --follow log --output out
	printf '{"text":' >>log
	sleep 0.3
	lines out 0
	printf '"whole"}\n' >>log
	until_true lines out 1
	[ "$(texts out)" = 'whole ' ]
}

@test "a followed file that is renamed and made anew, also while its writer is late" {
	event a >log
	daemon --follow log --from start --output out
	until_true lines out 1
	mv log log.1
	event b >>log.1
	until_true lines out 2
	: >log
	event c >>log.1
	until_true lines out 3
	event d >>log
	until_true lines out 4
	mv log.1 log.2
	mv log log.1
	event e >log
	until_true lines out 5
	[ "$(texts out)" = 'a b c d e ' ]
}

# stuffed: the daemon has read all that it may have at once.
stuffed()
{
	sinkctl status --json | jq -e '.sinkd.seq >= 1024' >/dev/null
}

@test "a followed file that is rotated more than once while the daemon is behind" {
	seq -f '{"text":"%g"}' 0 1999 >log
	mkfifo out
	exec 9<>out
	daemon --follow log --from start --control ctl >out
	until_true stuffed
	mv log log.1
	event x >log
	mv log.1 log.2
	mv log log.1
	event y >log
	rm log.2
	timeout 120 head -n 2002 <&9 | jq -r .text | cmp - <(seq 0 1999; echo x; echo y)
	exec 9<&-
	[ ! -s err ]
}

@test "a followed file that is cut, or not there yet" {
	daemon --follow log --from start --output out
	event a b >log
	until_true lines out 2
	: >log
	event c >>log
	until_true lines out 3
	printf '{"text":"half' >>log
	sleep 0.3
	: >log
	event d >>log
	until_true lines out 5
	[ "$(texts out)" = 'a b c error d ' ]
}

@test "a followed file: what cannot be followed is refused" {
	run "$sinkd" "${tiny[@]}" --follow /nonexistent/log
	[ "$status" -eq 66 ]
	run "$sinkd" "${tiny[@]}" --follow /dev/null
	[ "$status" -eq 66 ]
	[[ $output == *"not a regular file"* ]]
}

@test "a socket: each producer gets its own events back, in order" {
	daemon --socket sock --output out
	for i in 1 2 3; do
		seq -f "{\"text\":\"$i.%g\"}" 0 299 >in.$i
		talk sock <in.$i >out.$i &
		talkers+=($!)
	done
	wait "${talkers[@]}"
	for i in 1 2 3; do
		cmp <(jq -c 'del(.sinkd)' out.$i) in.$i
	done
	lines out 900
	[ "$(jq -s 'map(.sinkd.seq) == [range(1; 901)]' out)" = true ]
	cmp <(sort out) <(sort out.1 out.2 out.3)
	stop
	[ "$status" -eq 0 ]
	[ ! -e sock ]
	[ ! -s err ]
}

@test "64 producers at once, 1,000 events each: all annotated, in order, in the same memory" {
	need_true_memory
	daemon --socket sock --output out
	event warm up | talk sock >/dev/null
	seq -f '{"text":"event %g"}' 0 999 >in
	before=$(rss "$pid")
	for ((i = 0; i < 64; i++)); do
		talk sock <in >out.$i &
		talkers+=($!)
	done
	wait "${talkers[@]}"
	after=$(rss "$pid")
	lines out 64002
	for ((i = 0; i < 64; i++)); do
		cmp <(sed 's/,"sinkd.*/}/' out.$i) in
	done
	echo "$before KiB before, $after KiB after"
	[ $((after - before)) -le 8192 ]
}

@test "a socket: all events for everybody, or none" {
	daemon --socket sock --answer all
	mkfifo quiet
	talk sock <quiet >heard &
	exec 7>quiet
	until_true peers_are 1
	event x | talk sock >own
	until_true lines heard 1
	[ "$(texts heard)$(texts own)" = 'x x ' ]
	exec 7>&-
	daemon --socket none --answer none --output out
	event y | talk none >own
	until_true lines out 1
	[ ! -s own ]
}

@test "a socket: half a line for ever, a thousand that say nothing, one that never reads: nobody else notices" {
	need_true_memory
	ulimit -n 4096 || skip "no more than $(ulimit -n) descriptors are allowed"
	daemon --socket sock --output out --patience 8 --backlog 4096
	event a | talk sock >/dev/null
	before=$(rss "$pid")
	"$BUILD"/tests/crowd sock 1000 3>&- &
	pids+=($!)
	until_true peers_are 1000
	mkfifo half
	talk sock <half >half.out &
	exec 7>half
	printf '{"text":"never' >&7
	event b | talk sock >own
	[ "$(texts own)" = 'b ' ]
	# What is annotated and not read is left out, then the connection closed.
	yes '{"from":"deaf","text":"x"}' | head -n 4000 >in
	mkfifo deaf
	socat -u - UNIX:sock <deaf 3>&- &
	exec 6>deaf
	cat in >&6
	until_true lines out 4002
	event c | talk sock >own
	[ "$(texts own)" = 'c ' ]
	after=$(rss "$pid")
	echo "$before KiB before, $after KiB after"
	[ $((after - before)) -le 8192 ]
	until_true grep -q 'closing a connection that has read nothing for 8 s' err
	exec 6>&- 7>&-
}

@test "overload: the oldest events are left out, whole, and counted by source" {
	daemon --socket sock --on-overload skip --answer none --output out
	text='the quick brown fox jumps over the lazy dog'
	yes "{\"source\":\"web\",\"text\":\"$text\"}" | head -n 3000 >in
	talk sock <in
	until_true idle
	events=$(jq -s 'map(.sinkd | select(.type == "event")) | length' out)
	skipped=$(jq -s 'map(.sinkd | select(.type == "skipped") | .count) | add' out)
	echo "$events events, $skipped skipped"
	[ $((events + skipped)) -eq 3000 ]
	[ "$skipped" -gt 0 ]
	# Numbers have no gap that is not told, and go up.
	jq -es 'map(.sinkd | if .type == "event" then [.seq, .seq] else [.from, .to] end) as $r |
		all(range(1; $r | length); $r[.][0] == $r[. - 1][1] + 1) and $r[0][0] == 1 and $r[-1][1] == 3000' out
	jq -es 'all(.[].sinkd | select(.type == "skipped"); .sources.web == .count)' out
}

@test "a socket that is in use is refused, one that was left behind is replaced" {
	daemon --socket sock
	run "$sinkd" "${tiny[@]}" --socket sock
	[ "$status" -eq 69 ]
	[[ $output == *"another program listens on sock" ]]
	[ "$(stat -c %a sock)" = 600 ]
	stop KILL
	[ -S sock ]
	daemon --socket sock --socket-mode 660
	[ "$(stat -c %a sock)" = 660 ]
	event x | talk sock | jq -e '.sinkd.type == "event"'
	run "$sinkd" "${tiny[@]}" --socket s --socket-mode 8
	[ "$status" -eq 64 ]
}

@test "a daemon that ends leaves the socket of another one that was made under its name meanwhile" {
	daemon --socket sock --control ctl --metrics ./m
	rm sock ctl m
	first=$pid
	daemon --socket sock --control ctl --metrics ./m
	kill -TERM "$first"
	wait "$first"
	event x | talk sock | jq -e '.sinkd.seq == 1'
	sinkctl status --json | jq -e '.sinkd.events == 1'
	printf 'GET /metrics HTTP/1.0\r\n\r\n' | talk m | grep -q '^sinkd_events_total 1'
	stop
	[ ! -e sock ] && [ ! -e ctl ] && [ ! -e m ]
}

# connects SOCKET: somebody listens there.
connects()
{
	socat -u OPEN:/dev/null "UNIX:$1" 3>&- 2>/dev/null
}

@test "of two daemons that start together one has the socket and the other is told, however they meet" {
	need_true_memory
	# The first one has seen that the socket is abandoned, or has bound it and does not listen yet.
	for call in unlink listen; do
		rm -f sock
		daemon --socket sock
		stop KILL
		held "$call" "$sinkd" "${tiny[@]}" --socket sock
		first=$pid
		run timeout 120 "$sinkd" "${tiny[@]}" --socket sock
		[ "$status" -eq 69 ]
		[ "$output" = "sinkd: another program is making a socket beside sock, and holds the folder's lock" ]
		let_go "$call"
		until_true connects sock
		run timeout 120 "$sinkd" "${tiny[@]}" --socket sock
		[ "$status" -eq 69 ]
		[ "$output" = "sinkd: another program listens on sock" ]
		event x | talk sock | jq -e '.sinkd.seq == 1'
		kill -TERM "$first"
		wait "$first"
	done
}

@test "a file that is in a socket's place stays there" {
	echo precious >file
	ln -s file link
	for name in file link .; do
		run "$sinkd" "${tiny[@]}" --socket "$name"
		[ "$status" -eq 73 ]
		[ "$output" = "sinkd: cannot make the socket $name: File exists" ]
	done
	[ "$(cat link)" = precious ]
}

@test "too many connections are told so" {
	daemon --socket sock --max-peers 1
	mkfifo quiet
	talk sock <quiet >heard &
	exec 7>quiet
	event x >&7
	until_true [ -s heard ]
	talk sock </dev/null | jq -e '.sinkd.reason | startswith("there are 1 connections already, and none of them is idle")'
	exec 7>&-
}
