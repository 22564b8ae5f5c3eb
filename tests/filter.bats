#!/usr/bin/env bats
# sinkd as a filter: what comes out of what goes in, in which order, and when.

load sinkd.bash

# check FILE ARG...: through sinkd, FILE comes back whole, in order, its bytes kept, one annotation a line.
check()
{
	local in=$1 out=$BATS_TEST_TMPDIR/out.jsonl
	shift
	"$sinkd" "${tiny[@]}" "$@" <"$in" >"$out"
	cmp <(jq -c 'del(.sinkd)' "$out") <(jq -c . "$in")
	keeps_bytes "$in" "$out"
	jq -es 'to_entries | all(.value.sinkd.seq == .key + 1 and .value.sinkd.type == "event")' "$out"
	jq -es 'all(.sinkd | .tokens == 0 and has("reason") or
		(.surprise * (.scored // .tokens) - .nll | fabs) <= .001 + .nll / 50000)' "$out"
}

@test "a journal comes back annotated, in order, its bytes untouched" {
	check "$samples/rhel91_boot.jsonl" --window 60
}

@test "every journal sample" {
	need "$shared/data/journald"
	for file in "$shared"/data/journald/*.jsonl; do
		check "$file" --window 60
	done
}

@test "every chat sample" {
	need "$shared/data/chat"
	each=$(is_sanitized && echo 20 || echo 1000000)
	head -qn "$each" "$shared"/data/chat/{irc,qmsum}/events/*.jsonl >"$BATS_TEST_TMPDIR/in.jsonl"
	check "$BATS_TEST_TMPDIR/in.jsonl" --window 60
}

@test "the default model reads a journal" {
	real=${SINKD_TEST_MODEL:-${XDG_DATA_HOME:-$HOME/.local/share}/sinkd/SmolLM2-135M-Instruct.Q4_1.gguf}
	[ -r "$real" ] || skip "the default model is not there, see sinkd-fetch-model"
	tiny=(--model "$real")
	head -n "$(is_sanitized && echo 4 || echo 40)" "$samples/rhel91_boot.jsonl" >"$BATS_TEST_TMPDIR/in.jsonl"
	check "$BATS_TEST_TMPDIR/in.jsonl"
	# It knows English: a sentence is less of a surprise than the same words in disorder.
	printf '%s\n' 'The network interface is up and running.' 'running interface up and network The is.' |
		"$sinkd" "${tiny[@]}" --format plain | jq -es '.[0].sinkd.surprise + 1 < .[1].sinkd.surprise'
}

@test "numbers, keys, spaces and escapes are not rewritten" {
	cat >"$BATS_TEST_TMPDIR/in" <<-'END'
		{"z":1.0,"a":1e5,"a":-0.0,"text":"x\u0041\/"}
		 { "text" : "spaced" , "n" : 10000000000000000000000001 }
		{"text":"tab\tend","big":1e9999}
		{}
		{"no":"text"}
	END
	"$sinkd" "${tiny[@]}" <"$BATS_TEST_TMPDIR/in" >"$BATS_TEST_TMPDIR/out"
	keeps_bytes "$BATS_TEST_TMPDIR/in" "$BATS_TEST_TMPDIR/out"
	[ "$(jq -s 'length' "$BATS_TEST_TMPDIR/out")" -eq 5 ]
	[ "$(sed -n 4p "$BATS_TEST_TMPDIR/out")" = \
		'{"sinkd":{"type":"event","seq":4,"tokens":0,"reason":"there is no member text, message or msg"}}' ]
}

@test "CRLF, a last line without newline, blank lines and a byte order mark" {
	printf '\xef\xbb\xbf{"text":"one"}\r\n\r\n  \n{"text":"two"}' | "$sinkd" "${tiny[@]}" >"$BATS_TEST_TMPDIR/out"
	[ "$(jq -c '[.text, .sinkd.seq]' "$BATS_TEST_TMPDIR/out")" = $'["one",1]\n["two",2]' ]
	no grep -q $'\r' "$BATS_TEST_TMPDIR/out"
	printf 'one\r\n\ntwo' | "$sinkd" "${tiny[@]}" >"$BATS_TEST_TMPDIR/out"
	[ "$(jq -c '[.text, .sinkd.seq, .sinkd.reason]' "$BATS_TEST_TMPDIR/out")" = \
		$'["one",1,null]\n["",2,"the line is blank"]\n["two",3,null]' ]
}

@test "plain text is wrapped, and a later line of JSON is text too" {
	printf '%s\n' $'say "hi" \x1b[1m\\' '{"text":"x"}' | "$sinkd" "${tiny[@]}" >"$BATS_TEST_TMPDIR/out"
	[ "$(jq -r .text "$BATS_TEST_TMPDIR/out")" = $'say "hi" \x1b[1m\\\n{"text":"x"}' ]
	grep -qF '{"text":"say \"hi\" \u001b[1m\\","sinkd":{' "$BATS_TEST_TMPDIR/out"
}

@test "an event without text passes through with a reason" {
	printf '%s\n' '{"MESSAGE":"up"}' '{"MESSAGE":null,"__CURSOR":"s=1"}' | "$sinkd" "${tiny[@]}" |
		tail -n 1 | annotations | grep -qx '{"type":"event","seq":2,"tokens":0,"reason":"MESSAGE is null"}'
}

@test "the model reads source and text, whatever members held them" {
	"$sinkd" "${tiny[@]}" <<-'END' >"$BATS_TEST_TMPDIR/one"
		{"SYSLOG_IDENTIFIER":"web","MESSAGE":"one"}
		{"_COMM":"web","MESSAGE":["two","lines"]}
		{"log":"three\n","stream":"web"}
	END
	"$sinkd" "${tiny[@]}" --text-field b --source-field a <<-'END' >"$BATS_TEST_TMPDIR/other"
		{"a":"web","b":"one"}
		{"b":"two\nlines","a":"web"}
		{"MESSAGE":"no","a":"web","b":"three"}
	END
	cmp <(annotations "$BATS_TEST_TMPDIR/one") <(annotations "$BATS_TEST_TMPDIR/other")
}

@test "--key names the member" {
	run "$sinkd" "${tiny[@]}" --key 'a "b"' <<<'{"text":"x","sinkd":1}'
	[ "$status" -eq 0 ]
	[ "$(jq -c '.["a \"b\""].type, .sinkd' <<<"$output")" = $'"event"\n1' ]
}

@test "files are read in order, - is standard input" {
	printf '{"text":"%s"}\n' 1 2 >"$BATS_TEST_TMPDIR/a"
	printf '{"text":"5"}\n{bad' >"$BATS_TEST_TMPDIR/b"
	printf '{"text":"%s"}\n' 3 4 | "$sinkd" "${tiny[@]}" "$BATS_TEST_TMPDIR/a" - "$BATS_TEST_TMPDIR/b" \
		>"$BATS_TEST_TMPDIR/out"
	[ "$(jq -r '.text // empty' "$BATS_TEST_TMPDIR/out" | tr -d '\n')" = 12345 ]
	[ "$(tail -n 1 "$BATS_TEST_TMPDIR/out" | jq -r '.sinkd | "\(.input) \(.line)"')" = "$BATS_TEST_TMPDIR/b 2" ]
	[ -z "$("$sinkd" "${tiny[@]}" </dev/null)" ]
	cmp <("$sinkd" "${tiny[@]}" <"$BATS_TEST_TMPDIR/a") <(cat "$BATS_TEST_TMPDIR/a" | "$sinkd" "${tiny[@]}")
}

@test "the code path can be chosen: plain agrees with the fastest, an unknown one is refused" {
	head -n 40 "$samples/rhel91_boot.jsonl" >"$BATS_TEST_TMPDIR/in.jsonl"
	surprises()
	{
		"$sinkd" "${tiny[@]}" "$@" "$BATS_TEST_TMPDIR/in.jsonl" | jq -c '[.sinkd.seq, .sinkd.tokens, .sinkd.surprise]'
	}
	surprises --path plain >"$BATS_TEST_TMPDIR/plain"
	[ "$(wc -l <"$BATS_TEST_TMPDIR/plain")" -eq 40 ]
	paste -d ' ' "$BATS_TEST_TMPDIR/plain" <(surprises) |
		jq -s -e '[range(0; length; 2) as $i | .[$i][0:2] == .[$i + 1][0:2] and (.[$i][2] - .[$i + 1][2] | fabs) < 0.05] | all'
	run "$sinkd" "${tiny[@]}" --path nowhere /dev/null
	[ "$status" -eq 64 ]
	[[ $output == *"--path must be auto, plain, "*" or avx512bf16, not 'nowhere'" ]]
}

@test "one by one and all at once give the same bytes, each answered at once" {
	head -n 120 "$samples/rhel91_boot.jsonl" >"$BATS_TEST_TMPDIR/in.jsonl"
	"$sinkd" "${tiny[@]}" --threads 2 <"$BATS_TEST_TMPDIR/in.jsonl" >"$BATS_TEST_TMPDIR/at_once"
	serve
	while IFS= read -r line; do
		printf '%s\n' "$line" >&8
		IFS= read -r -t 120 -u 9 answer
		printf '%s\n' "$answer"
	done <"$BATS_TEST_TMPDIR/in.jsonl" >"$BATS_TEST_TMPDIR/one_by_one"
	finish
	[ "$status" -eq 0 ]
	cmp "$BATS_TEST_TMPDIR/at_once" "$BATS_TEST_TMPDIR/one_by_one"
}

@test "a pinned text is the stream's beginning" {
	printf '%s\n' 'a pinned line' event1 event2 | "$sinkd" "${tiny[@]}" --format plain >"$BATS_TEST_TMPDIR/all"
	# Where all tokens of the first event have a score, a token of the model's own came before them.
	sinks=$(head -n 1 "$BATS_TEST_TMPDIR/all" | jq '.sinkd | .tokens + (if .scored then 0 else 1 end)')
	[ "$sinks" -gt 4 ]
	echo 'a pinned line' >"$BATS_TEST_TMPDIR/pin"
	printf '%s\n' 'a pinned line' event1 event2 | "$sinkd" "${tiny[@]}" --sinks "$sinks" --window 8 --format plain |
		jq -c '.sinkd | del(.seq)' | tail -n 2 >"$BATS_TEST_TMPDIR/streamed"
	printf '%s\n' event1 event2 | "$sinkd" "${tiny[@]}" --pin "$BATS_TEST_TMPDIR/pin" --window 8 --format plain |
		jq -c '.sinkd | del(.seq)' >"$BATS_TEST_TMPDIR/pinned"
	cmp "$BATS_TEST_TMPDIR/streamed" "$BATS_TEST_TMPDIR/pinned"
}

@test "a configuration file sets options, the command line wins" {
	printf '# test\nkey = note\nstrict = yes\nmodel = %s\n' "$model" >"$BATS_TEST_TMPDIR/conf"
	run "$sinkd" --config "$BATS_TEST_TMPDIR/conf" <<<'{"text":"x","sinkd":0}'
	[ "$status" -eq 0 ]
	[ "$(jq -r .note.type <<<"$output")" = event ]
	run "$sinkd" --config "$BATS_TEST_TMPDIR/conf" --key other --strict=no <<<'{"text":"x","note":0}'
	[ "$(jq -r .other.type <<<"$output")" = event ]
}

@test "help, version, and the manual says what --help=mdoc says" {
	"$sinkd" --help | grep -q '^Usage: sinkd \[option ...\] \[file ...\]$'
	[[ $("$sinkd" --version) == "sinkd "* ]]
	cmp <("$sinkd" --help=mdoc) <(sed -n '/^\.Sh OPTIONS/,/^\.Sh /{/^\.Sh /d;p}' "$SRC/doc/man/sinkd.1")
}

@test "--example-config: every option, commented out; what it shows is what holds without it" {
	cd "$BATS_TEST_TMPDIR"
	"$sinkd" --example-config >conf
	[ -z "$(grep -v '^#' conf | grep .)" ]
	for name in $("$sinkd" --help | grep -oP '^  (-., |    )--\K[a-z-]+' | grep -vxE 'config|example-config|help|version'); do
		grep -q "^#$name = " conf
	done
	sed 's/^#\([a-z-]* = [^<]\)/\1/' conf >all
	printf '{"text":"one"}\n{"text":"two"}\n' >in
	cmp <("$sinkd" "${tiny[@]}" in) <("$sinkd" --config all "${tiny[@]}" in)
	no "$sinkd" --config nothing 2>err
	grep -q -- '--example-config' err
}
