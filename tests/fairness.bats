#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# What one client or user does, or fails to do, does not keep the others from
# the daemon: places, turns, time limits, idle and slow connections.

load sinkd.bash

# sockets: a daemon whose sockets everybody may use, and which has read something that can be asked about.
sockets()
{
	chmod 711 .
	daemon --socket sock --control ctl --metrics ./m --socket-mode 666 "$@"
	event_of web started | talk sock >/dev/null
}

# slow ARG...: the same, with answers that take seconds: all that the model sees is computed anew for each token. A
# sanitizer's build computes ten times as long.
slow_options=(--policy recompute --window 300)
slow()
{
	no is_sanitized || slow_options=(--policy recompute --window 80)
	sockets "${slow_options[@]}" "$@"
	seq -f '{"source":"web","text":"request number %g took a while"}' 0 59 | talk sock >/dev/null
}

need_root()
{
	[ "$(id -u)" -eq 0 ] || skip "only the superuser can be somebody else"
}

# client NAME [UID]: a connection to ctl, as that user; give it lines by say, it writes what comes back to NAME.out.
client()
{
	local as=()
	[ -z "${2-}" ] || as=(setpriv --reuid="$2" --regid="$2" --clear-groups)
	mkfifo "$1"
	"${as[@]}" socat -t 300 - UNIX:ctl <>"$1" >"$1.out" 2>/dev/null 3>&- &
	pids+=($!)
	pid_of[$1]=$!
}
declare -gA pid_of

# say NAME LINE...
say()
{
	printf '%s\n' "${@:2}" >"$1"
}

# ask NAME N TOKENS: N questions.
ask()
{
	local i
	for ((i = 1; i <= $2; i++)); do say "$1" "{\"op\":\"ask\",\"id\":$i,\"text\":\"what?\",\"max_tokens\":$3}"; done
}

# errors FILE...: reasons of errors among these lines.
errors()
{
	jq -r '.sinkd | select(.type == "error") | .reason' "$@"
}

# waiting N: so many requests wait for the engine.
waiting()
{
	[ "$(sinkctl status --json | jq .sinkd.queues.requests)" -eq "$1" ]
}

@test "one connection and one user have limits, and status, subscriptions and watches wait for nothing" {
	need_root
	stalling sockets
	client block
	say block '{"op":"status","hash":true}'
	until_true [ -s hash.held ]
	for name in a b c; do
		client "$name" 65534
		ask "$name" 9 1000
		until_true has_lines "$name.out" $([ "$name" = c ] && echo 9 || echo 1)
	done
	[[ $(errors a.out) == "this connection has 8 requests waiting, which is the most that one may have: "* ]]
	[[ $(errors c.out | head -n 1) == "user 65534 has 16 requests waiting, which is the most that one user may have: "* ]]
	# The engine hangs, and users have what they may have.
	client other 65533
	say other '{"op":"ask","text":"what?","max_tokens":1}' '{"op":"subscribe"}' '{"op":"watch","text":"x"}' \
		'{"op":"unwatch","watch":1}' '{"op":"unsubscribe"}' '{"op":"status"}'
	until_true has_lines other.out 5
	[ "$(jq -r .sinkd.type other.out | tr '\n' ' ')" = "ok ok ok ok status " ]
	until_true waiting 17
	# Who goes away leaves no request behind. (The engine has taken the first one of a.)
	kill "${pid_of[b]}"
	until_true waiting 9
}

@test "users take turns: a question does not wait for all that another user has asked" {
	need_root
	stalling sockets
	client block
	say block '{"op":"status","hash":true}'
	until_true [ -s hash.held ]
	for name in a b; do
		client "$name" 65534
		ask "$name" 8 900
	done
	until_true waiting 16
	client other 65533
	ask other 1 1
	until_true waiting 17
	let_go hash
	until_true has_lines other.out 1
	sinkctl status --json | jq -e '.sinkd.replies < 16'
	jq -e '.sinkd.type == "reply" and .sinkd.tokens == 1' other.out
	until_true has_lines a.out 8
	until_true has_lines b.out 8
}

# begun FILE: an answer is on its way.
begun()
{
	grep -q '"delta"' "$1"
}

@test "an answer has a time limit, a request may set a shorter one, and the text so far is kept" {
	slow --time-limit 1
	# The answer that is on its way while the daemon is stopped takes longer, whatever the request says.
	client a
	say a '{"op":"ask","text":"what?","max_tokens":1000,"stream":true,"time_limit":80000}'
	until_true begun a.out
	kill -STOP "$pid"
	sleep 1.5
	kill -CONT "$pid"
	until_true ended_by_time a.out
	# An answer of so many tokens cannot be done in a millisecond.
	sinkctl ask --json --time-limit 0.001 -n 1000 what >answer
	tail -n 1 answer | jq -e '.sinkd | .end == "time" and .tokens < 1000'
	[ "$(jq -j 'select(.sinkd.type == "delta") | .sinkd.text' answer)" = "$(tail -n 1 answer | jq -r .sinkd.text)" ]
}

ended_by_time()
{
	grep -q '"end":"time"' "$1"
}

@test "an idle client makes room for another one, and is told; who waits or listens does not" {
	sockets --max-peers 4
	client tail
	say tail '{"op":"subscribe"}'
	client watch
	say watch '{"op":"watch","text":"x"}'
	until_true has_lines tail.out 1
	until_true has_lines watch.out 1
	for name in idle1 idle2; do
		client "$name"
		say "$name" '{"op":"status"}'
		until_true has_lines "$name.out" 1
	done
	sinkctl status --json | jq -e '.sinkd.clients == 4'
	[[ $(errors idle1.out) == "this connection was idle and makes room for another one"* ]]
	[ -z "$(errors idle2.out tail.out watch.out)" ]
	# Those who listen are never idle.
	for name in more1 more2; do
		client "$name"
		say "$name" '{"op":"subscribe"}'
		until_true [ -s "$name.out" ]
	done
	client last
	until_true [ -s last.out ]
	[[ $(errors last.out) == "there are 4 connections already, and none of them is idle"* ]]
}

@test "producers: one that never spoke makes room, one that writes rarely stays" {
	sockets --max-peers 3 --patience 3600
	mkfifo rare
	socat -t 300 - UNIX:sock <>rare >rare.out 3>&- &
	pids+=($!)
	event_of a first >rare
	until_true lines rare.out 1
	until_true connections sock 1
	"$BUILD/tests/crowd" sock 2 3>&- &
	pids+=($!)
	until_true connections sock 3
	for ((i = 0; i < 5; i++)); do event_of b "$i" | talk sock; done >others
	[ "$(jq -r .sinkd.type others | tr '\n' ' ')" = "event event event event event " ]
	event_of a second >rare
	until_true lines rare.out 2
	jq -se 'map(.sinkd.type) == ["event", "event"]' rare.out
}

@test "one user cannot have all connections" {
	need_root
	sockets --max-peers 8
	for ((i = 1; i <= 6; i++)); do
		client "c$i" 65534
		say "c$i" '{"op":"subscribe"}'
		until_true [ -s "c$i.out" ]
	done
	client c7 65534
	until_true [ -s c7.out ]
	[[ $(errors c7.out) == "user 65534 has 6 connections already, and none of them is idle; one user may have 6: "* ]]
	client other 65533
	say other '{"op":"subscribe"}'
	until_true has_lines other.out 1
	jq -e '.sinkd.type == "ok"' other.out
	sinkctl status --json | jq -e '.sinkd.clients == 8'
}

# attack NAME UID: a connection of this user that asks as much as it may.
attack()
{
	client "$1" "$2"
	ask "$1" 8 400
}

@test "many clients ask for long answers: events come out between their parts, status at once, all of it undisturbed" {
	local n=10
	need_root
	no is_sanitized || n=5
	slow --output out
	for name in a b; do attack "$name" 65534; done
	for name in c d; do attack "$name" 65533; done
	until_true waiting 31
	for ((i = 0; i < n; i++)); do
		event_of db "job $i took $((i * i)) ms" | talk sock >line
		jq -e '.sinkd.type == "event"' line
		sinkctl status --json | jq -e ".sinkd.events == 62 + $i" >>status
	done
	# Each event would have waited for a whole answer.
	[ "$(jq .sinkd.replies < <(sinkctl status --json))" -lt 10 ]
	lines status "$n"
	# Another user is next after the answer that is being made.
	client other 65532
	ask other 1 1
	until_true has_lines other.out 1
	jq -e '.sinkd | .type == "reply" and .tokens == 1' other.out
	[ "$(jq .sinkd.replies < <(sinkctl status --json))" -lt 20 ]
	jq -c 'del(.sinkd)' out | "$sinkd" "${tiny[@]}" "${slow_options[@]}" | cmp - out
}

@test "events are in the midst of an answer, which does not see them" {
	slow
	sinkctl ask --json -n 1000 'what?' | tail -n 1 | jq -r .sinkd.text >undisturbed
	client a
	say a '{"op":"subscribe"}' '{"op":"ask","text":"what?","max_tokens":1000,"stream":true}'
	until_true begun a.out
	for i in 1 2 3; do event_of db "job $i" | talk sock >/dev/null; done
	until_true grep -q '"type":"reply"' a.out
	jq -r '.sinkd.type' a.out | uniq | tr '\n' ' ' >order
	[[ $(cat order) == "ok delta event delta "*"event delta "*"reply " ]]
	jq -r 'select(.sinkd.type == "reply").sinkd.text' a.out | cmp - undisturbed
	jq -j 'select(.sinkd.type == "delta").sinkd.text' a.out >pieces
	cmp <(cat pieces; echo) undisturbed
}
