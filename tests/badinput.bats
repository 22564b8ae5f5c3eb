#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Bad lines, bad options, bad files: one sentence each, and never a crash.

load sinkd.bash

# refuses STATUS REASON ARG...: sinkd exits so, with one sentence that holds REASON, and writes nothing.
refuses()
{
	local code=$1 reason=$2
	shift 2
	run --separate-stderr "$sinkd" "$@" </dev/null
	echo "$status: $stderr"
	[ "$status" -eq "$code" ]
	[ -z "$output" ]
	[ "${#stderr_lines[@]}" -eq 1 ]
	[[ $stderr == "sinkd: "*"$reason"* ]]
}

# errors: the reasons of the errors in $output.
errors()
{
	jq -r '.sinkd | select(.type == "error") | .reason' <<<"$output"
}

@test "a bad line is one error with its line number, and the stream goes on" {
	printf '{"text":"a"}\n\nnonsense\n{"text":"\xff"}\n{"te\0xt":1}\n{"sinkd":1}\n[1]\n{"text":"z"}\n' \
		>"$BATS_TEST_TMPDIR/in"
	run "$sinkd" "${tiny[@]}" <"$BATS_TEST_TMPDIR/in"
	[ "$status" -eq 0 ]
	[ "$(jq -c '.sinkd | [.seq, .type, .line, .fault]' <<<"$output")" = '[1,"event",null,null]
[2,"error",3,"input"]
[3,"error",4,"input"]
[4,"error",5,"input"]
[5,"error",6,"input"]
[6,"error",7,"input"]
[7,"event",null,null]' ]
	[ "$(errors | grep -cE 'is not JSON near byte 8: |not valid UTF-8 at byte 10$')" -eq 2 ]
	[ "$(errors | grep -cE 'unescaped NUL at byte 5$|choose another name by --key$|but not an object$')" -eq 3 ]
	[ "$(jq -r '.sinkd.start // empty' <<<"$output" | sed -n 2p)" = $'{"text":"\xef\xbf\xbd"}' ]
}

@test "plain text that is not UTF-8, or holds a NUL, is an error" {
	run "$sinkd" "${tiny[@]}" < <(printf 'fine\nbad \xc3\nnul \0\nfine\n')
	[ "$status" -eq 0 ]
	[ "$(jq -r .sinkd.type <<<"$output" | tr '\n' ' ')" = 'event error error event ' ]
}

@test "--strict stops at the first bad line, after it is written, with exit 65" {
	run --separate-stderr "$sinkd" --strict "${tiny[@]}" < <(printf '{"text":"a"}\n{\n{"text":"b"}\n')
	[ "$status" -eq 65 ]
	[ "$(jq -r .sinkd.type <<<"$output" | tr '\n' ' ')" = 'event error ' ]
	[[ $stderr == "sinkd: standard input, line 2: the line is not JSON"* ]]
}

@test "JSONTestSuite: never a crash, every y_ object an event, no n_ file an event" {
	need "$shared/data/json/test_parsing"
	# Each file is one line, after a line with its name.
	for file in "$shared"/data/json/test_parsing/*.json; do
		printf '{"name":"%s"}\n' "${file##*/}"
		tr '\n' ' ' <"$file"
		echo
	done >"$BATS_TEST_TMPDIR/in"
	"$sinkd" "${tiny[@]}" <"$BATS_TEST_TMPDIR/in" >"$BATS_TEST_TMPDIR/out"
	awk '/^{"name":/ { split($0, part, "\""); name = part[4]; next }
		/"type":"error"/ { print name, "error"; next }
		/"type":"event"/ { print name, "event"; next }
		{ print name, "nothing" }' "$BATS_TEST_TMPDIR/out" >"$BATS_TEST_TMPDIR/verdicts"
	[ "$(grep -c '"name":' "$BATS_TEST_TMPDIR/out")" -eq "$(ls "$shared/data/json/test_parsing" | wc -l)" ]
	[ "$(wc -l <"$BATS_TEST_TMPDIR/verdicts")" -gt 200 ]
	no grep ' nothing$' "$BATS_TEST_TMPDIR/verdicts"
	no grep '^n_.* event$' "$BATS_TEST_TMPDIR/verdicts"
	no grep '^y_object.* error$' "$BATS_TEST_TMPDIR/verdicts"
	# Alone, as the only line of a stream.
	for file in "$shared"/data/json/test_parsing/n_structure*.json; do
		tr '\n' ' ' <"$file" | "$sinkd" "${tiny[@]}" --format json >"$BATS_TEST_TMPDIR/out"
		no grep -q '"type":"event"' "$BATS_TEST_TMPDIR/out"
	done
}

@test "options that cannot be are usage errors" {
	refuses 64 "unknown option '--bogus'" --bogus
	refuses 64 "--window must be a whole number from 1 to" --window 0
	refuses 64 "not '-4'" --window=-4
	refuses 64 "seconds (s, m, h or d may follow, as in 15m), not '15min'" --digest-interval 15min
	refuses 64 "bytes (K, M or G may follow), not '1X'" --max-line 1X
	printf 'window = "20"\n' >"$BATS_TEST_TMPDIR/conf"
	refuses 78 "conf:1: window must be a whole number from 1 to 16777216, not '\"20\"'; write the value without quotes" \
		--config "$BATS_TEST_TMPDIR/conf"
	printf 'policy = sink # as ever\n' >"$BATS_TEST_TMPDIR/conf"
	refuses 78 "not 'sink # as ever'; a comment needs a line of its own" --config "$BATS_TEST_TMPDIR/conf"
	refuses 64 "--policy must be sink, window, dense or recompute, not 'full'" --policy full
	refuses 64 "--format must be auto, journal" --format xml
	refuses 64 "--model needs an argument" --model
	refuses 64 "sinks are too many: the model was trained with a context of" "${tiny[@]}" --sinks 1000000
	refuses 64 "must not be the same" "${tiny[@]}" --text-field a --source-field a
	refuses 64 "--pin needs the policy sink" "${tiny[@]}" --pin "$model" --policy window
	refuses 64 "--digest-style extract quotes" "${tiny[@]}" --digest-style extract --digest-schema /dev/null
	refuses 64 "valid UTF-8" "${tiny[@]}" --key $'\xff'
	refuses 64 "control characters" "${tiny[@]}" --key $'a\nb'
	refuses 64 "longer than 64 bytes" "${tiny[@]}" --key "$(printf '%065d' 1)"
}

@test "files that are not there, or not what they should be" {
	refuses 66 "/nonexistent/model" --model /nonexistent/model
	refuses 66 "/nonexistent/events" "${tiny[@]}" /nonexistent/events
	refuses 66 "Is a directory" "${tiny[@]}" "$BATS_TEST_TMPDIR"
	refuses 66 "/nonexistent/pin" "${tiny[@]}" --pin /nonexistent/pin
	refuses 66 "/nonexistent/conf" --config /nonexistent/conf
	refuses 65 "$SRC/tests/filter.bats" --model "$SRC/tests/filter.bats"
	head -c 100000 "$model" >"$BATS_TEST_TMPDIR/truncated.gguf"
	refuses 65 "$BATS_TEST_TMPDIR/truncated.gguf" --model "$BATS_TEST_TMPDIR/truncated.gguf"
	echo 'windw = 3' >"$BATS_TEST_TMPDIR/conf"
	refuses 78 "$BATS_TEST_TMPDIR/conf:1: unknown option 'windw'" --config "$BATS_TEST_TMPDIR/conf"
}

@test "a file that is both input and output is refused, and left as it is" {
	cd "$BATS_TEST_TMPDIR"
	echo '{"text":"hello"}' >loop
	cp loop before
	refuses 64 "loop is an input and the output too" "${tiny[@]}" --output loop loop
	refuses 64 "./loop is an input and the output too" "${tiny[@]}" --output loop --follow ./loop --from start
	cmp loop before
}

@test "without the default model the command that fetches it is named" {
	export HOME=$BATS_TEST_TMPDIR XDG_DATA_HOME=
	[ ! -e /usr/local/share/sinkd ] && [ ! -e /usr/share/sinkd ] || skip "a model is installed for all users"
	refuses 66 "run sinkd-fetch-model"
}

@test "closed standard output is an error, closed standard input is an empty one or an error, never a crash" {
	status=0
	"$sinkd" "${tiny[@]}" <<<'{"text":"x"}' >&- 2>"$BATS_TEST_TMPDIR/err" || status=$?
	[ "$status" -eq 74 ]
	grep -q '^sinkd: cannot write to standard output: Bad file descriptor$' "$BATS_TEST_TMPDIR/err"
	status=0
	"$sinkd" "${tiny[@]}" <&- 2>"$BATS_TEST_TMPDIR/err" || status=$?
	[ "$status" -eq 74 ]
	grep -q '^sinkd: cannot read standard input: Bad file descriptor$' "$BATS_TEST_TMPDIR/err"
}
