#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# The examples that use the daemon run as they are; examples/journal does in
# systemd.bats, where there is a journal. And what the documents tell people to
# run is taken from there and run.

load sinkd.bash

setup()
{
	cd "$BATS_TEST_TMPDIR"
	PATH=$BUILD:$PATH
}

example()
{
	timeout 120 "$SRC/examples/$1" "${@:2}" 3>&-
}

@test "containers: digests as it goes and of all, which container, and the annotated lines are kept" {
	for name in a b; do
		seq -f '{"log":"took %g ms\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}' 0 119 >$name.log
	done
	mkdir 0123456789abcdef
	printf 'no JSON\n[]\n' >0123456789abcdef/0123456789abcdef-json.log
	example containers -o kept -s "${tiny[*]}" a.log b.log 0123456789abcdef/0123456789abcdef-json.log >out
	grep -q '^events 1 to 200$' out
	grep -q '^  [0-9]*x [ab]: took' out
	grep -q '^events 1 to 242$' out
	grep -q '120x a: took' out
	[ "$(jq -rs 'map(select(.sinkd.type == "event").container_name) | group_by(.) | map("\(.[0])=\(length)") | .[]' kept |
		tr '\n' ' ')" = '0123456789ab=2 a=120 b=120 ' ]
	jq -es 'map(select(.sinkd.type == "event")) | all(.[]; .sinkd.surprise)' kept
	run example containers
	[ "$status" -eq 64 ]
	run example containers -x a.log
	[ "$status" -eq 64 ]
}

@test "meeting: a rolling digest every 25 contributions, one of the whole at the end, and nothing but contributions" {
	for ((i = 1; i <= 60; i++)); do
		echo "{\"from\":\"P$((i % 3))\",\"text\":\"point $i of the agenda\"}"
		echo '{"from":"P1","text":"Great."}'
	done | example meeting "${tiny[@]}" >out
	[ "$(grep -cE '^(1 to 25|26 to 50):$' out)" -eq 2 ]
	[ "$(grep -c '^The whole, 1 to 60:$' out)" -eq 1 ]
	[ "$(tail -n 1 out)" != 'The whole, 1 to 60:' ]
	grep -q '^  P[012]: point' out
	no grep -q Great out
}

@test "every example answers --help" {
	for path in "$SRC"/examples/*; do
		[ -x "$path" ] || continue
		"$path" --help >help
		grep -qE "^(usage: |	)examples/${path##*/}" help
	done
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

# recipes FILE...: the commands of jq, and of sinkctl on a pipe, that stand in these documents, NUL between them.
recipes()
{
	cat "$@" | sed 's/\\e/\\/g' | perl -0777 -ne \
		'print "$&\0" while /\bjq(?: +-[-a-z]+(?: +\w+ +"[^"]*")?)* +\x27[^\x27]*\x27|\bsinkctl tail [^|\n`]*?-(?=\s)/g'
}

@test "every recipe of the documents runs on a stream with an empty text, an error and a digest" {
	{
		head -n 30 "$samples/rhel91_boot.jsonl" | jq -c '.text = .MESSAGE | .source = "s"'
		echo '{"MESSAGE":""}'
		echo 'no JSON'
	} | "$sinkd" "${tiny[@]}" --format json --digest-every 10 >stream
	for type in error digest; do
		jq -es --arg type $type 'map(select(.sinkd.type == $type)) | length > 0' stream
	done
	jq -es 'map(select(.sinkd.type == "event" and .sinkd.surprise == null)) | length > 0' stream
	recipes "$SRC"/{README.md,doc/man/*.[17],examples/{assistant,containers,journal,meeting,producers,quickstart}} >recipes
	n=0
	while IFS= read -r -d '' recipe; do
		case $recipe in *.sinkd.lag* | *'.Name '* | *'select((.text'*) continue ;; esac # of other things than a stream
		n=$((n + 1))
		echo "$recipe"
		name=x percent=5 timeout 60 bash -c "$recipe" <stream >out 2>err
		cat err
		[ ! -s err ]
		[ -s out ]
		no grep -w null out
	done <recipes
	[ "$n" -ge 8 ]
}

@test "the README names the packages that a build takes" {
	# shellcheck source=tests/setup.sh disable=SC2154
	build_packages=$(cd "$SRC" && . tests/setup.sh && echo "$build_packages")
	sed -n '/apt-get install/,/autogen/p' "$SRC/README.md" | tr -s ' \\\n' '\n' >named
	for package in $build_packages jq python3-pip; do
		grep -qxF "$package" named || { echo "$package"; false; }
	done
}
