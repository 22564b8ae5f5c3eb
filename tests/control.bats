#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# The control socket and sinkctl: questions, digests, status, subscriptions,
# watches; bad requests.

load sinkd.bash

# state_hash: a number of the stream's state.
state_hash()
{
	sinkctl status --hash --json | jq -r .sinkd.hash
}

# request JSON...: each a line to the control socket; prints what comes back.
request()
{
	printf '%s\n' "$@" | timeout 120 socat -t 120 - UNIX:ctl
}

@test "questions, digests and cancelled questions leave the stream as it was, to the bit" {
	start --window 60
	before=$(state_hash)
	for ((i = 0; i < 50; i++)); do
		case $((i % 5)) in
		0) sinkctl ask -n 6 "question $i" ;;
		1) sinkctl ask -n 6 --temperature 0.9 --top-p 0.8 --min-p 0.01 --seed "$i" what ;;
		2) sinkctl digest ;;
		3) sinkctl digest --style write -n 6 ;;
		4) echo '{"op":"ask","text":"cancelled","max_tokens":500}' | socat -t 0 -u - UNIX:ctl ;;
		esac >/dev/null
	done
	[ "$(state_hash)" = "$before" ]
	event_of web more | talk sock >/dev/null
	[ "$(state_hash)" != "$before" ]
	sinkctl ask -n 4 --join remember this >/dev/null
	sinkctl status --json | jq -e '.sinkd.replies >= 21 and .sinkd.events == 6'
}

@test "an answer comes in pieces that make up the whole; greedy is the default; a seed repeats" {
	start
	sinkctl ask --json -n 12 what now >answer
	[ "$(jq -j 'select(.sinkd.type == "delta") | .sinkd.text' answer)" = "$(tail -n 1 answer | jq -r .sinkd.text)" ]
	tail -n 1 answer | jq -e '.sinkd | .type == "reply" and .tokens <= 12 and .id == 1'
	cmp <(sinkctl ask -n 12 what now) <(sinkctl ask -n 12 --seed 9 what now)
	cmp <(sinkctl ask -n 12 -T 1 --seed 9 what) <(sinkctl ask -n 12 -T 1 --seed 9 what)
	# No control character leaves, but the end of the line.
	[ "$(sinkctl ask -n 200 -T 5 --seed 3 x | LC_ALL=C tr -d '\t\n\040-\176\200-\377' | wc -c)" -eq 0 ]
}

@test "nothing can be asked before something was read, but a chat may begin" {
	daemon --socket sock --control ctl
	run -65 --separate-stderr sinkctl ask what went wrong
	[ "$stderr" = "sinkctl: nothing has been read yet that could be asked about" ]
	[ -z "$output" ]
	sinkctl ask --join -n 3 hello >/dev/null
	sinkctl ask -n 3 what was said >/dev/null
	stop
	echo 'a text' >pin
	daemon --socket sock --control ctl --pin pin
	sinkctl ask -n 3 what is pinned >/dev/null
}

@test "an answer says which events were in view; a small model's daemon says once that it is small" {
	start --window 60
	sinkctl ask --json -n 3 what | tail -n 1 | jq -e '.sinkd.view | .events == 3 and .from == 3 and .to == 5 and
		.from_time <= .to_time and (now - .to_time | . >= 0 and . < 600)'
	sinkctl ask --json --join -n 3 what | tail -n 1 | jq -e '.sinkd | has("view") | not'
	sinkctl digest >/dev/null
	[ "$(grep -c 'what it writes is mostly wrong' err)" -eq 1 ]
	stop
	: >err
	start
	sinkctl digest >/dev/null
	no grep -q 'mostly wrong' err
	sinkctl digest --style write -n 3 >/dev/null
	grep -q 'this model has .* million parameters.*--model' err
	# Whoever asks is told too, on standard error, once for each question.
	[ "$(sinkctl ask -n 3 what 2>&1 >/dev/null | grep -c 'this model has .* million parameters.*--model')" -eq 1 ]
	[ "$(sinkctl digest --style write -n 3 2>&1 >/dev/null | grep -c 'mostly wrong')" -eq 1 ]
	sinkctl ask -n 3 what 2>/dev/null | no grep 'mostly wrong'
	sinkctl digest 2>&1 | no grep 'mostly wrong'
}

@test "an answer by schema is JSON of that kind" {
	start
	echo '{"type":"object","properties":{"ok":{"type":"boolean"},"level":{"enum":["low","high"]}}}' >schema
	sinkctl ask -n 60 --schema schema how is it | jq -e '(.ok | type == "boolean") and (.level | . == "low" or . == "high")'
	echo '{"type":"nonsense"}' >schema
	run sinkctl ask --schema schema x
	[ "$status" -eq 65 ]
}

@test "a digest since a number or a time" {
	start
	sinkctl digest --json | jq -e '.sinkd | .from == 1 and .to == 5 and (.lines | length) >= 1'
	sinkctl digest --since 4 --json | jq -e '.sinkd | .from == 4 and .to == 5'
	sinkctl digest --since 1h --json | jq -e '.sinkd.events == 5'
	[ "$(sinkctl digest --since 2030-01-01)" = "no events" ]
	sinkctl digest --since "$(date +%FT%H:%M -d '1 hour ago')" --json | jq -e '.sinkd.events == 5'
	sinkctl digest --since 99999d --json | jq -e '.sinkd.events == 5'
	[ "$(sinkctl digest --since today --json | jq .sinkd.events)" -eq 5 ] || [ "$(date +%H%M)" = 0000 ]
	sinkctl digest --since yesterday --json | jq -e '.sinkd.events == 5'
	sinkctl digest --since 'yesterday 23:59:59' --json >/dev/null
	[ "$(sinkctl digest --since midnight --json | jq .sinkd.events)" -eq 5 ] || [ "$(date +%H%M)" = 0000 ]
	sinkctl digest --since noon --json >/dev/null
	sinkctl digest --since 'yesterday noon' --json | jq -e '.sinkd.events == 5'
	for when in yester tomorrow infs nans -5m 15min noonish 'noon yesterday'; do
		run sinkctl digest --since "$when"
		[ "$status" -eq 64 ]
	done
}

@test "sinkctl sends what it was given or says why not; a refusal is a line of JSON where JSON was asked for" {
	start
	for option in --temperature=nan --top-p=inf --min-p=x --time-limit=; do
		run sinkctl ask "$option" what
		[ "$status" -eq 64 ]
	done
	for option in --source --text; do
		run sinkctl watch --surprise 5 "$option" $'\xff'
		[ "$status" -eq 64 ]
		[[ $output == *"$option is not valid UTF-8" ]]
	done
	run -65 --separate-stderr sinkctl ask --json --top-p 2 what
	jq -e '.sinkd | .type == "error" and .fault == "request"' <<<"$output"
	# shellcheck disable=SC2154 # set by run
	[[ $stderr == "sinkctl: top_p must be "* ]]
	run --separate-stderr sinkctl ask -n 3 what
	[[ $stderr == "sinkctl: the text was cut off: it may have no more tokens
sinkctl: the model saw events 1 to 5, "[0-9]*:*" to "[0-9]*:* ]]
	run --separate-stderr sinkctl ask --json -n 3 what
	[ -z "$stderr" ]
}

# job FROM TO: events with numbers of three and more digits.
job()
{
	local i
	for ((i = $1; i <= $2; i++)); do event_of "unit$((700 + i % 5))" "Job $((1000 + i)) took $((100 + i * 37)) ms"; done
}

@test "a rolling digest is in the model's sight, as far as there is room for it" {
	job 1 40 >in
	for o in "" "--rolling" "--rolling --rolling-tokens 1" "--rolling --rolling-tokens 30"; do
		# shellcheck disable=SC2086 # words
		"$sinkd" "${tiny[@]}" --window 60 --digest-every 10 $o in >"out$o"
		[ "$(jq -s 'map(select(.sinkd.type == "digest")) | length' "out$o")" -eq 4 ]
	done
	# Up to the first digest all is the same; the events behind it are read in its light.
	cmp <(head -n 11 out) <(head -n 11 out--rolling)
	no cmp -s <(sed -n 12p out) <(sed -n 12p out--rolling)
	no cmp -s out--rolling "out--rolling --rolling-tokens 30"
	no cmp -s out "out--rolling --rolling-tokens 30"
	cmp out "out--rolling --rolling-tokens 1"
	run "$sinkd" "${tiny[@]}" --rolling --rolling-tokens 100000 in
	[ "$status" -eq 64 ]
	run "$sinkd" "${tiny[@]}" --rolling --policy window in
	[ "$status" -eq 64 ]
	[[ $output == *"--rolling needs the policy sink"* ]]
}

# numbers: those in the texts of digests and answers, each once.
numbers()
{
	jq -r '.sinkd | select(.type == "digest" or .type == "reply").text' | grep -ao '[0-9]\+' | sort -u
}

@test "faithful digests and answers have no number that was not read, others do" {
	job 1 40 >in
	printf 'faithful = yes\ndigest-style = write\n' >conf
	"$sinkd" "${tiny[@]}" --window 60 --digest-every 4 --digest-style write in | numbers >plain
	"$sinkd" "${tiny[@]}" --window 60 --digest-every 4 --config conf in | numbers >faithful
	grep -o '[0-9]\+' in | sort -u >read
	[ -n "$(comm -23 plain read)" ]
	[ -s faithful ]
	[ -z "$(comm -23 faithful read)" ]
	daemon --follow in --from start --window 60 --output out --control ctl
	until_true grep -q 1040 out
	for ((i = 0; i < 5; i++)); do sinkctl ask --json -n 100 -T 2 --seed "$i" what; done | numbers >plain
	for ((i = 0; i < 5; i++)); do sinkctl ask --json -n 100 -T 2 --seed "$i" --faithful what; done | numbers >faithful
	[ -n "$(comm -23 plain read)" ]
	[ -s faithful ]
	[ -z "$(comm -23 faithful read)" ]
}

@test "tail: everything, or what is surprising; to a client that reads slowly some is left out, and told" {
	start
	sinkctl tail --json -n 3 >all &
	sinkctl tail --json -n 1 --min-surprise 1000 >none &
	pids+=($!)
	until_true clients_are 2
	for i in 1 2 3; do event_of web "$i"; done | talk sock >own
	until_true same all own
	[ ! -s none ]
	sinkctl tail -n 1 >shown &
	until_true clients_are 2
	event_of web "$(printf '\\u001b[31mred')" | talk sock >/dev/null
	until_true [ -s shown ]
	grep -q '6\|9 .* web: .\[31mred$' shown
	no grep -q "$(printf '\033')" shown
}

same()
{
	[ -s "$1" ] && cmp -s "$1" "$2"
}

clients_are()
{
	connections ctl "$1"
}

@test "watch: events that are such, and silence" {
	start
	sinkctl watch --text disk --source db --json -n 1 >seen &
	sinkctl watch --silent 0.5s --source db --json -n 1 >silent &
	until_true clients_are 2
	{ event_of web 'disk'; event_of db 'fine'; event_of db 'the disk is full'; } | talk sock >/dev/null
	until_true [ -s seen ]
	jq -e '.sinkd | .type == "alert" and .why == "event" and .seq == 8 and .text == "db: the disk is full"' seen
	until_true [ -s silent ]
	jq -e '.sinkd | .why == "silent" and .source == "db"' silent
}

# scored N: so many annotated entries of the journal. Every hundredth has more surprise than any before it, which the
# others have far less of; 1050 and 2050 have a priority.
scored()
{
	awk -v n="$1" 'BEGIN {
		for (i = 1; i <= n; i++) {
			surprise = i % 100 == 0 ? "9." 10000 + i : i % 1000 == 50 && i > 1000 ? 0.5 : "1." 1000 + i * 7919 % 3001
			priority = i == 1050 ? ",\"PRIORITY\":\"3\"" : i == 2050 ? ",\"PRIORITY\":\"4\"" : ""
			printf "{\"MESSAGE\":\"m%d\"%s,\"sinkd\":{\"type\":\"event\",\"seq\":%d,\"surprise\":%s}}\n",
			    i, priority, i, surprise
		}
	}'
}

@test "tail --top shows the most surprising of recent events, and severe ones; of a file, a pipe or a daemon" {
	scored 3000 >annotated
	echo '{"sinkd":{"type":"error","seq":3001,"line":5,"fault":"input","reason":"bad"}}' >>annotated
	echo '{"MESSAGE":"","sinkd":{"type":"event","seq":3002,"tokens":0,"reason":"MESSAGE is empty"}}' >>annotated
	timeout 60 "$BUILD/sinkctl" tail --top 0.5% --json annotated >top
	# Behind the start: the outliers, the one of high priority, the error.
	[ "$(jq -r 'select(.sinkd.seq > 500) | .sinkd.seq' top | tr '\n' ' ')" = "$(
		{ seq 600 100 3000; echo 1050; echo 3001; } | sort -n | tr '\n' ' ')" ]
	[ "$(jq -s 'map(select(.sinkd.seq <= 500)) | length' top)" -lt 25 ]
	cmp top <(timeout 60 "$BUILD/sinkctl" tail --top 0.5 --json - <annotated)
	timeout 60 "$BUILD/sinkctl" tail --top 0.5% --priority none --json annotated >unjoined
	[ "$(jq -s 'map(.sinkd.seq) | index(1050)' unjoined)" = null ]
	timeout 60 "$BUILD/sinkctl" tail --top 0.5% --priority warning --json annotated | jq -es 'map(.sinkd.seq) | index(2050)'
	[ "$(timeout 60 "$BUILD/sinkctl" tail annotated | wc -l)" -eq 3002 ]
	[[ $(timeout 60 "$BUILD/sinkctl" tail annotated | tail -n 1) == *'(MESSAGE is empty)' ]]
	run -69 "$BUILD/sinkctl" tail --socket /nonexistent < <(cat annotated)
	[[ $output == *"'sinkctl tail -' reads the lines that come through a pipe"* ]]
	run -69 "$BUILD/sinkctl" tail --socket /nonexistent </dev/null
	[[ $output != *'pipe'* ]]
	run -64 "$BUILD/sinkctl" -s ctl status
	[[ $output == *'the command comes first and its options behind it: sinkctl command -s ...'* ]]
	[ "$(timeout 60 "$BUILD/sinkctl" tail --min-surprise 9 --json annotated | jq -s length)" -eq 31 ]
	[ "$(timeout 60 "$BUILD/sinkctl" tail --surprise 9 -n 3 annotated | wc -l)" -eq 3 ]
	for bad in 0 101 x 1%% nan; do
		run "$BUILD/sinkctl" tail --top "$bad" annotated
		[ "$status" -eq 64 ]
	done
	run "$BUILD/sinkctl" tail --priority loud annotated
	[ "$status" -eq 64 ]
	run "$BUILD/sinkctl" tail /nonexistent
	[ "$status" -eq 66 ]
	run "$BUILD/sinkctl" tail annotated annotated
	[ "$status" -eq 64 ]
	echo '{"a":1}' >other
	run "$BUILD/sinkctl" tail other
	[ "$status" -eq 65 ]
	[[ $output == *"a line has no member sinkd"* ]]
	start
	sinkctl tail --top 50% -n 1 --json >first &
	pids+=($!)
	until_true clients_are 1
	event_of web one | talk sock >/dev/null
	until_true [ -s first ]
	jq -e '.sinkd.seq == 6' first
}

@test "status for people: units, quantiles by name, and what seq counts" {
	start --state state
	sinkctl status >shown
	grep -qE '^uptime +[0-9.]+ s$' shown
	grep -qE '^seq +5 \(the last number given: .*skipped events' shown
	grep -qE '^surprise, median +[0-9.]+ nats per token' shown
	grep -qE '^surprise, 99 % below +[0-9.]+ nats per token$' shown
	grep -qE '^model parameters +[0-9,]+$' shown
	no grep -qE '^(id|type) |0\.99' shown
}

@test "bad requests: an error that says whose fault, and the connection stays usable" {
	start --max-line 1000
	request 'nonsense' '[1]' '{"op":"bogus","id":"a"}' '{"op":"ask"}' '{"op":"ask","text":"x","max_tokens":-1}' \
		'{"op":"ask","text":"x","schema":{"type":"bogus"}}' '{"op":"stall"}' '{"op":"unwatch","watch":3}' \
		'{"op":"watch"}' '{"op":"status","id":{}}' "{\"op\":\"ask\",\"text\":\"$(printf '%01000d' 1)\"}" \
		'{"op":"subscribe","min_surprise":"x"}' '{"op":"ask","text":"x","id":99999999999999999999}' \
		'{"op":"digest","style":"extract","schema":{"type":"boolean"}}' '{"op":"status","id":"last"}' >answers
	[ "$(jq -r 'select(.sinkd.type == "error") | .sinkd.fault' answers | sort | uniq -c | tr -s ' ')" = ' 14 request' ]
	jq -es 'map(.sinkd.id) | index("a") != null' answers
	tail -n 1 answers | jq -e '.sinkd.type == "status" and .sinkd.id == "last"'
	# What is longer than the room for questions.
	long=$(printf 'word %.0s' $(seq 190))
	stop
	start --window 40
	for ((i = 0; i < 8; i++)); do long="$long $long"; [ "${#long}" -lt 200000 ] || break; done
	request "{\"op\":\"ask\",\"text\":\"$long\"}" '{"op":"status"}' >answers
	[ "$(jq -r '.sinkd | .type + " " + (.fault // "")' answers)" = $'status \nerror request' ] ||
		[ "$(jq -r '.sinkd | .type + " " + (.fault // "")' answers)" = $'error request\nstatus ' ]
}

@test "events on the data socket are never requests" {
	start
	echo '{"op":"checkpoint","text":"{\"op\":\"ask\"}"}' | talk sock | jq -e '.sinkd.type == "event" and .op == "checkpoint"'
	sinkctl status --json | jq -e '.sinkd.replies == 0 and .sinkd.digests == 0'
}

@test "sinkctl: help, no daemon, no command, a refused connection" {
	"$BUILD/sinkctl" --help | grep -q '^usage: sinkctl command'
	"$BUILD/sinkctl" ask --help | grep -q '^Usage: sinkctl ask'
	for command in ask checkpoint digest status tail watch; do
		cmp <("$BUILD/sinkctl" "$command" --help=mdoc) \
			<(sed -n "/^\.Sh OPTIONS OF ${command^^}\$/,/^\.Sh /{/^\.Sh /d;p}" "$SRC/doc/man/sinkctl.1")
	done
	run "$BUILD/sinkctl" status --socket /nonexistent
	[ "$status" -eq 69 ]
	run "$BUILD/sinkctl" bogus
	[ "$status" -eq 64 ]
	run "$BUILD/sinkctl" ask --socket x
	[ "$status" -eq 64 ]
}

@test "bash completion knows commands and their options" {
	run bash -c '
		. "$1/completion/sinkctl"
		COMP_WORDS=("$2/sinkctl" "d"); COMP_CWORD=1; _sinkctl "$2/sinkctl"; echo "${COMPREPLY[*]}"
		COMP_WORDS=("$2/sinkctl" digest --si); COMP_CWORD=2; _sinkctl "$2/sinkctl"; echo "${COMPREPLY[*]}"
		. "$1/completion/sinkd"
		COMP_WORDS=("$2/sinkd" --digest-s); COMP_CWORD=1; _sinkd "$2/sinkd"; echo "${COMPREPLY[*]}"
		COMP_WORDS=("$2/sinkctl" digest --style e); COMP_CWORD=3; _sinkctl "$2/sinkctl"; echo "${COMPREPLY[*]}"
		COMP_WORDS=("$2/sinkctl" ask --color = n); COMP_CWORD=4; _sinkctl "$2/sinkctl"; echo "${COMPREPLY[*]}"
		COMP_WORDS=("$2/sinkd" --policy =); COMP_CWORD=2; _sinkd "$2/sinkd"; echo "${COMPREPLY[*]}"
		COMP_WORDS=("$2/sinkd" --path = avx512b); COMP_CWORD=3; _sinkd "$2/sinkd"; echo "${COMPREPLY[*]}"
		COMP_WORDS=("$2/sinkd" --follow "$1/conf"); COMP_CWORD=2; _sinkd "$2/sinkd"; echo "${COMPREPLY[*]}"
		COMP_WORDS=("$2/sinkctl" tail --priority w); COMP_CWORD=3; _sinkctl "$2/sinkctl"; echo "${COMPREPLY[*]}"
		COMP_WORDS=("$2/sinkctl" tail "$1/conf"); COMP_CWORD=2; _sinkctl "$2/sinkctl"; echo "${COMPREPLY[*]}"' \
		bash "$SRC" "$BUILD"
	[ "${lines[0]}" = digest ]
	[ "${lines[1]}" = --since ]
	[ "${lines[2]}" = '--digest-schema --digest-style' ]
	[ "${lines[3]}" = extract ]
	[ "${lines[4]}" = never ]
	[ "${lines[5]}" = 'sink window dense recompute' ]
	[ "${lines[6]}" = avx512bf16 ]
	[[ " ${lines[7]} " == *" $SRC/configure.ac "* ]]
	[ "${lines[8]}" = warning ]
	[[ " ${lines[9]} " == *" $SRC/configure.ac "* ]]
}

# stuffed: all events that the daemon may have are computed, and none can leave.
stuffed()
{
	sinkctl status --json | jq -e '.sinkd | .lag.events == 1024 and .queues.records == 0 and .seq < 1300' >/dev/null
}

@test "questions are answered while nobody reads the output, and no line of it is lost" {
	long_events 1300 >log
	"$sinkd" "${tiny[@]}" --digest-every 1 log >whole
	mkfifo out
	exec 9<>out
	daemon --follow log --from start --control ctl --digest-every 1 >out
	until_true stuffed
	before=$(state_hash)
	[ -n "$(sinkctl ask -n 5 -T 3 --seed 1 what)" ]
	[ "$(sinkctl digest --json | jq .sinkd.events)" -gt 0 ]
	[ "$(state_hash)" = "$before" ]
	timeout 120 head -n 2600 <&9 | cmp - whole
	stop
	[ "$status" -eq 0 ]
	exec 9<&-
}

@test "digests by the clock behind a reader that does not read: few, in order, and every event is in one" {
	long_events 1300 >log
	mkfifo out
	exec 9<>out
	daemon --follow log --from start --control ctl --digest-interval 1 >out
	until_true stuffed
	sleep 3
	[ -n "$(sinkctl ask -n 5 -T 3 --seed 1 what)" ]
	timeout 60 sed -u '/"type":"event","seq":1300,/q' <&9 >seen
	timeout 3 cat <&9 >>seen || true
	[ "$(jq .sinkd.seq seen | grep -c '^[0-9]')" -eq 1300 ]
	jq -es '[.[].sinkd | select(.type == "digest")] | length >= 1 and length <= 12 and .[0].from == 1 and
		([.[:-1], .[1:]] | transpose | all(.[0].to + 1 == .[1].from)) and .[-1].to == 1300' seen
	exec 9<&-
}

@test "reloading: what may change does, an invalid configuration changes nothing, the output is opened anew" {
	printf 'patience = 60\nmax-peers = 5\n' >conf
	daemon --config conf --socket sock --output out --control ctl
	event_of a b | talk sock >/dev/null
	mv out out.1
	printf 'patience = 7\nmax-peers = 5\nwindow = 99\n' >conf
	: >notified
	kill -HUP "$pid"
	until_true grep -q READY=1 notified
	grep -q 'RELOADING=1' notified
	grep -q 'MONOTONIC_USEC=' notified
	grep -q 'patience has changed' err
	grep -q 'window has changed, and takes effect at the next start' err
	event_of c d | talk sock >/dev/null
	until_true [ -s out ]
	[ "$(jq -r .source out.1 out | tr '\n' ' ')" = 'a c ' ]
	echo 'patience = never' >conf
	: >notified
	kill -HUP "$pid"
	until_true grep -q READY=1 notified
	grep -q 'the configuration stays as it was: .*patience must be' err
	event_of e f | talk sock | jq -e '.sinkd.seq == 3'
	stop
	until_true grep -q STOPPING=1 notified
}

@test "the watchdog is fed while idle and while at work, not while the engine hangs" {
	export WATCHDOG_USEC=400000
	stalling daemon --socket sock --control ctl
	for ((i = 0; i < 3; i++)); do
		: >notified
		until_true grep -q WATCHDOG=1 notified
	done
	sinkctl status --hash >status 3>&- &
	asked=$!
	until_true [ -s hash.held ]
	sleep 0.5
	: >notified
	sleep 1
	no grep -q WATCHDOG=1 notified
	let_go hash
	wait "$asked"
	[ -s status ]
	until_true grep -q WATCHDOG=1 notified
}
