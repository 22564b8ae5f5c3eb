#!/usr/bin/env bats
# The examples over sinkeval, with a tiny model: that they run and print what
# they should, not what it says. examples/quickstart has tests of its own.

bats_require_minimum_version 1.5.0

setup()
{
	model=$SRC/tests/golden/llama-gqa/model.gguf
	tmp=$BATS_TEST_TMPDIR
}

paper()
{
	"$SRC/examples/paper" -e "$BUILD/sinkeval" -m "$model" -t "$tmp/text" -a "$tmp/qa" -n 600 -p 16 -q 2 -l 30 \
	    -c 16,32 -r 1 -o "$tmp/out"
}

@test "paper: every table, a figure, and nothing is computed twice" {
	seq 500 >"$tmp/text"
	mkdir "$tmp/qa"
	for set in arc_easy arc_challenge_part1; do
		printf '%s\n' '{"query":"q","choices":["a","b"],"gold":0}' '{"query":"r","choices":["c","d"],"gold":1}' \
		    >"$tmp/qa/$set.jsonl"
	done
	run -0 --separate-stderr paper
	first=$output
	for title in 'Figure 1:' 'Tables 1 and 2:' 'Table 6:' 'Table 5:' 'Figure 10:' 'StreamEval:'; do
		grep -q "^## $title" <<<"$first"
	done
	# Every number is there: no cell but those that are empty for a reason, and no null.
	run -1 grep -nE 'null|nan' <<<"$first"
	grep -qE '^\| 32 \| [0-9.]+ \| [0-9.]+ \| [0-9.]+ \|$' <<<"$first"
	grep -qE '^\| sinks 4\+1020 \| [0-9.]+ \([0-9.]+ to [0-9.]+\) ' <<<"$first"
	[ "$(grep -c '<polyline' "$tmp/out/perplexity.svg")" -eq 4 ]
	[ "$(grep -c '^sinkeval ' <<<"$stderr")" -gt 20 ]
	run -0 --separate-stderr paper
	[ "$output" = "$first" ]
	[ -z "$stderr" ]
}

@test "paper: bad arguments" {
	run "$SRC/examples/paper" -x
	[ "$status" -eq 64 ]
	run "$SRC/examples/paper" -t /nonexistent
	[ "$status" -eq 66 ]
}

@test "chat: the prompts of a file, options passed on" {
	printf '%s\n' '{"turns":["Hello","Again"]}' '{"turns":["Third"]}' >"$tmp/prompts.jsonl"
	run -0 --separate-stderr "$SRC/examples/chat" -e "$BUILD/sinkeval" --model "$model" --policy window --window 30 \
	    --tokens 5 --json "$tmp/prompts.jsonl"
	[ "$(jq -s 'length' <<<"$output")" -eq 3 ]
	jq -es 'all(.tokens <= 5)' <<<"$output"
}
