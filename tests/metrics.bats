#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Metrics and the page: what they say, and clients that are too many, too slow or say nothing.

load sinkd.bash

# http REQUEST: the status line and what follows the head.
http()
{
	printf '%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" | socat -t 30 - UNIX:m | tr -d '\r' >answer
	head -n 1 answer
	sed '1,/^$/d' answer
}

@test "metrics, and a page without scripts on which text of events is text" {
	start --metrics ./m --digest-every 5
	{ event_of web '<script>alert(1)</script>'; event_of web 'red \u001b[31m \u009b31m \u007f end'; } | talk sock >/dev/null
	http 'GET /metrics' >metrics
	grep -q '^HTTP/1.1 200' metrics
	grep -q '^sinkd_events_total 7' metrics
	grep -q '^sinkd_digests_total 1' metrics
	grep -q '^sinkd_surprise{quantile="0.9"} [0-9]' metrics
	# Every sample has its TYPE before it.
	awk '/^# TYPE/ { known[$3] = 1 } /^sinkd/ { n = $1; sub(/[{].*/, "", n); sub(/_(sum|count)$/, "", n)
		if (!(n in known) && !(($1) in known)) { print; bad = 1 } } END { exit bad }' metrics
	http 'GET /' >page
	grep -q 'http-equiv="refresh"' page
	grep -q '&#60;script&#62;alert' page
	grep -q "$(printf 'web: red \357\277\275\[31m \357\277\27531m \357\277\275 end')" page
	no grep -q '<script' page
	http 'GET /other' | grep -q '^HTTP/1.1 404'
}

@test "metrics: a connection that cannot be taken for want of descriptors waits, and so does the loop" {
	need "$(command -v prlimit)"
	start --metrics ./m
	for ((i = 0; i < 12; i++)); do
		socat -u UNIX:m - >/dev/null 3>&- &
		pids+=($!)
	done
	until_true connections ./m 12
	prlimit --pid "$pid" --nofile="$(find "/proc/$pid/fd" -lname '*' | wc -l)"
	socat -u UNIX:m - >/dev/null 3>&- &
	pids+=($!)
	until_true grep -q 'cannot take a connection for metrics now' err
	used=$(ticks "$pid")
	sleep 2
	[ "$(ticks "$pid")" -le $((used + 10)) ]
	# Those who say nothing are closed after ten seconds, and then there is room again.
	http 'GET /metrics' | grep -q '^sinkd_events_total 5'
}

@test "metrics: 32 connections at once, more of them wait" {
	start --metrics ./m
	"$BUILD/tests/crowd" m 40 3>&- &
	pids+=($!)
	until_true connections ./m 32
	used=$(ticks "$pid")
	sleep 3
	connections ./m 32
	[ "$(ticks "$pid")" -le $((used + 10)) ]
	# Those who say nothing are closed after ten seconds, and then the others are let in.
	http 'GET /metrics' | grep -q '^sinkd_events_total 5'
	until_true connections ./m 0
	for ((i = 0; i < 100; i++)); do http 'GET /metrics' | grep -c '^sinkd_events_total'; done | sort | uniq -c >answers
	[ "$(tr -s ' ' <answers)" = ' 100 1' ]
	until_true connections ./m 0
}

@test "the page in a browser shows rates, digests and events" {
	browser=$(command -v chromium || command -v chromium-browser) || skip "there is no headless browser (chromium)"
	start --metrics ./m --digest-every 5
	event_of web '<b>bold & odd</b>' | talk sock >/dev/null
	socat TCP-LISTEN:18093,bind=127.0.0.1,fork,reuseaddr UNIX:m 3>&- &
	pids+=($!)
	timeout 60 "$browser" --headless --no-sandbox --disable-gpu --dump-dom http://127.0.0.1:18093/ >dom 2>/dev/null
	grep -q 'web: &lt;b&gt;bold &amp; odd&lt;/b&gt;' dom
	grep -q 'Latest digests' dom
	grep -q 'events 1 to 5' dom
	timeout 60 "$browser" --headless --no-sandbox --disable-gpu --screenshot=page.png --window-size=900,700 \
		http://127.0.0.1:18093/ 2>/dev/null
	[ "$(head -c 4 page.png | tail -c 3)" = PNG ]
}

@test "metrics: HEAD has no body but its length, other methods are refused" {
	start --metrics ./m
	[ "$(http 'HEAD /metrics')" = 'HTTP/1.1 200 OK' ]
	grep -q '^Content-Length: [1-9]' answer
	[ "$(http 'HEAD /other')" = 'HTTP/1.1 404 Not Found' ]
	for method in POST PUT DELETE OPTIONS PATCH TRACE; do
		[ "$(http "$method /metrics" | head -n 1)" = 'HTTP/1.1 405 Method Not Allowed' ]
		grep -q '^Allow: GET, HEAD$' answer
	done
	[ "$(http 'FOO /metrics' | head -n 1)" = 'HTTP/1.1 501 Not Implemented' ]
	http 'GET /metrics' | grep -q '^sinkd_events_total 5'
}

@test "metrics: a request that comes byte by byte for ever is closed" {
	start --metrics ./m
	# Each byte comes well within the ten seconds that a silent connection has.
	{ printf 'GET / HTTP/1.1\r\nX: '; while sleep 1; do printf x || break; done; } | socat - UNIX:m 3>&- &
	pids+=($!)
	until_true connections ./m 1
	until_true connections ./m 0
}
