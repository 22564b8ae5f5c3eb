#!/usr/bin/env bats
# sinkeval: what every command refuses and how, and that a result depends on
# the model, the stream and the policy alone. Tiny models with random weights.

bats_require_minimum_version 1.5.0

setup()
{
	sinkeval=$BUILD/sinkeval
	golden=$SRC/tests/golden
	model=$golden/llama-gqa/model.gguf
	tmp=$BATS_TEST_TMPDIR
	text=$tmp/text
	seq 120 | tr '\n' ' ' >"$text"
	echo '[1, 2, 3]' >"$tmp/ids.json"
	for i in 1 2 3 4 5 6; do
		echo '{"query":"What is '$i'?","choices":["'$i'","a longer one","two"],"gold":'$((i % 3))'}'
	done >"$tmp/questions"
	commands=$("$sinkeval" --help | sed -n 's/^  \([a-z]*\) .*/\1/p')
	computing=${commands/tokenize/}
	[[ $computing == *ppl* ]]
}

# call NAME [OPTION...]: one run of it with what it cannot do without; $bad replaces the model.
call()
{
	local name=$1
	shift
	case $name in
	bench) set -- --caches none "$@" ;;
	logits) set -- --tokens "$tmp/ids.json" -o "$tmp/out" "$@" ;;
	ppl) set -- "$@" "$text" ;;
	qa) set -- "$@" "$tmp/questions" ;;
	esac
	"$sinkeval" "$name" --model "${bad-$model}" "$@" </dev/null
}

# refuses CODE SENTENCE COMMAND...: it exits with CODE and one line that matches SENTENCE (a regular expression).
refuses()
{
	local code=$1 sentence=$2
	shift 2
	run --separate-stderr "$@"
	echo "exit $status: $stderr"
	[ "$status" -eq "$code" ]
	[ -z "$output" ]
	[ "${#stderr_lines[@]}" -eq 1 ]
	[[ $stderr =~ ^"sinkeval: ".*$sentence ]]
}

# ppl JQ-FILTER [OPTION...]: what the tiny model says of the text.
ppl()
{
	local filter=$1
	shift
	call ppl "$@" | jq -c "$filter"
}

@test "--help and --version" {
	run "$sinkeval" --help
	[ "$status" -eq 0 ]
	[[ $output == *"ppl"*"perplexity"* || $output == *"ppl"*"Perplexity"* ]]
	run "$sinkeval" --version
	[ "$status" -eq 0 ]
	[[ $output =~ ^"sinkeval "[0-9.]+$ ]]
	run "$sinkeval"
	[ "$status" -eq 64 ]
}

@test "the manual's OPTIONS are those of the program" {
	diff <("$SRC/doc/man/sinkeval-options" "$sinkeval") <(sed -n '/^\.Sh OPTIONS/,/^\.Sh EXIT/p' "$SRC/doc/man/sinkeval.1" | sed '$d')
}

@test "an unknown command is a usage error that names it" {
	refuses 64 "'bogus'" "$sinkeval" bogus
}

@test "every command: an unknown option is a usage error" {
	for name in $commands; do
		refuses 64 "--bogus" "$sinkeval" "$name" --bogus
	done
}

@test "every command: a model that is not there" {
	bad=/nonexistent/model.gguf
	for name in $commands; do
		refuses 66 "$bad: No such file" call "$name"
	done
}

@test "every command: a model that is none" {
	bad=$tmp/bad.gguf
	for content in '' GGUF 'GGUF\3\0\0\0' 'a text, not a model, but long enough to hold a header'; do
		printf "$content" >"$bad"
		for name in $commands; do
			refuses 65 "bad.gguf" call "$name"
		done
	done
}

@test "every command: a model that was cut off, wherever" {
	bad=$tmp/bad.gguf
	size=$(stat -c %s "$model")
	for part in 30 100 1000 5000 20000 $((size / 2)) $((size - 1)); do
		head -c "$part" "$model" >"$bad"
		for name in $computing; do
			refuses 65 "bad.gguf" call "$name"
		done
		if [ "$part" -le 1000 ]; then
			refuses 65 "bad.gguf" call tokenize
		fi
	done
}

@test "a model with absurd counts and lengths is refused without trying to hold them" {
	bad=$tmp/bad.gguf
	for at in 8 16 24; do # tensors, metadata, the first key
		cp "$model" "$bad"
		chmod u+w "$bad"
		printf '\377\377\377\377\377\377\377\177' | dd of="$bad" bs=1 seek=$at conv=notrunc status=none
		for name in $commands; do
			refuses 65 "bad.gguf" call "$name"
		done
	done
}

@test "a context that cannot be is a usage error with its reason" {
	for name in $computing; do
		refuses 64 "policy" call "$name" --policy bogus
		refuses 64 "window of 0" call "$name" --window 0
		refuses 64 "window" call "$name" --window -3
		refuses 64 "window" call "$name" --window 99999999999
		refuses 64 "100000 sinks.*trained" call "$name" --sinks 100000
		refuses 64 "only the policy 'sink'" call "$name" --policy window --sinks 4
		refuses 64 "'bogus'" call "$name" --path bogus
		refuses 64 "threads" call "$name" --threads 4000
		refuses 64 "window" call "$name" --window 10x
	done
}

@test "logits: bad lists of tokens" {
	for ids in '' '[' '[1' '[1,]' '[1 2]' '[1,-2]' '[1.5]' '["1"]' '[1]x' '{}' '[99999999999]'; do
		echo "$ids" >"$tmp/ids.json"
		refuses 65 "ids.json: not a JSON array" call logits
	done
	echo '[1,264]' >"$tmp/ids.json"
	refuses 65 "token 264 is outside the vocabulary of 264" call logits
	[ ! -e "$tmp/out" ]
	refuses 66 "/nonexistent/ids" call logits --tokens /nonexistent/ids
	echo '[1]' >"$tmp/ids.json"
	refuses 73 "/nonexistent/out" call logits -o /nonexistent/out
	refuses 74 "/dev/full" call logits -o /dev/full
	[ -c /dev/full ]
	refuses 64 "--output" "$sinkeval" logits --tokens "$tmp/ids.json"
}

@test "logits: little-endian float32, a row of the vocabulary's size for each token" {
	call logits
	[ "$(stat -c %s "$tmp/out")" -eq $((3 * 264 * 4)) ]
	echo '[]' >"$tmp/ids.json"
	call logits
	[ ! -s "$tmp/out" ]
}

@test "ppl: bad operands" {
	refuses 66 "/nonexistent" "$sinkeval" ppl -m "$model" /nonexistent
	refuses 64 "text file is missing" "$sinkeval" ppl -m "$model"
	refuses 65 "only .* tokens" call ppl --tokens 1000000
	refuses 65 "only .* tokens" call ppl --sample 1000000
	refuses 65 "only .* tokens" call ppl --cut 1000000
	refuses 64 "--repeat 0 needs --tokens" call ppl --repeat 0
	refuses 73 "/nonexistent/csv" call ppl --csv /nonexistent/csv
	refuses 74 "/dev/full" call ppl --csv /dev/full
	: >"$text"
	refuses 65 "no tokens" call ppl
}

@test "ppl: a result that cannot be written" {
	run --separate-stderr bash -c '"$0" ppl -m "$1" "$2" >/dev/full' "$sinkeval" "$model" "$text"
	[ "$status" -eq 74 ]
}

@test "ppl: the same bits for every chunk and number of threads, under every policy" {
	for policy in sink window dense recompute; do
		first=$(ppl 'del(.threads, .seconds, .resident)' --policy $policy --window 20 --tokens 70)
		[ "$(jq .n <<<"$first")" -eq 70 ]
		for how in '--chunk 1' '--chunk 7' '--chunk 64 --threads 1' '--threads 1'; do
			[ "$(ppl 'del(.threads, .seconds, .resident)' --policy $policy --window 20 --tokens 70 $how)" = "$first" ]
		done
	done
}

@test "ppl: all policies agree while nothing was evicted, and differ afterwards" {
	# In a stretch of 25 nothing leaves a window of 30.
	filter='.stretches | [.[0], .[-1]]'
	run -0 ppl "$filter" --tokens 100 --per 25 --policy dense
	dense=$output
	for policy in sink window recompute; do
		run -0 ppl "$filter" --tokens 100 --per 25 --policy $policy --window 30
		[ "$(jq '.[0]' <<<"$output")" = "$(jq '.[0]' <<<"$dense")" ]
		[ "$(jq '.[1]' <<<"$output")" != "$(jq '.[1]' <<<"$dense")" ]
	done
}

@test "ppl: stretches and sums fit together" {
	[ "$(ppl '[.n, (.stretches | length), .sampled]' --tokens 100 --per 30)" = '[100,4,false]' ]
	run -0 ppl '((.nll | exp) / .ppl - 1 | fabs) < 1e-5' --tokens 100
	[ "$output" = true ]
	# The mean of the stretches' scores is that of the whole.
	run -0 ppl '((.stretches | map(log) | add / length) - .nll | fabs) < 1e-3' --tokens 100 --per 25
	[ "$output" = true ]
}

@test "ppl: sampling every token is the same as no sampling" {
	for policy in sink recompute; do
		whole=$(ppl .nll --policy $policy --window 24 --tokens 100)
		[ "$(ppl '[.nll, .sampled]' --policy $policy --window 24 --tokens 100 --sample 100)" = "[$whole,true]" ]
	done
}

@test "ppl: several texts, repeated, are one stream" {
	whole=$("$sinkeval" ppl -m "$model" -w 20 "$text" "$text" "$text" "$text" | jq -c '[.n, .nll]')
	[ "$("$sinkeval" ppl -m "$model" -w 20 --repeat 2 "$text" "$text" | jq -c '[.n, .nll]')" = "$whole" ]
	n=$(jq '.[0]' <<<"$whole")
	[ "$("$sinkeval" ppl -m "$model" -w 20 --repeat 0 --tokens "$n" "$text" | jq -c '[.n, .nll]')" = "$whole" ]
}

@test "ppl: a line of CSV for every stretch, and flat memory" {
	ppl .n -w 20 --cut 300 --repeat 0 --tokens 40000 --per 3000 --csv "$tmp/csv"
	[ "$(head -n 1 "$tmp/csv")" = token,text_token,pass,ppl,nll,seconds,cpu_seconds,resident_kib ]
	[ "$(wc -l <"$tmp/csv")" -eq 15 ]
	# From the second on all stretches read the same, so they cost and hold the same.
	awk -F, '
		NR > 1 && ($1 != (NR < 15 ? 3000 * (NR - 1) : 40000) || $3 != int(($1 - 1) / 300) + 1) { exit bad = 1 }
		NR == 3 { ppl = $4; resident = $8 }
		NR > 3 && NR < 15 && ($4 / ppl > 1.0001 || $4 / ppl < 0.9999 || $8 - resident > 1024) { exit bad = 1 }
		END { exit bad || NR != 15 }' "$tmp/csv"
}

@test "ppl: sinks matter, and stream positions do not" {
	here=$(ppl .nll --window 20)
	[ "$(ppl .nll --window 20 --sinks 0)" != "$here" ]
	for start in $(((1 << 31) - 100)) $((1 << 40)); do
		run -0 ppl ". as \$r | (\$r.nll - $here | fabs) < 1e-4" --window 20 --start $start
		[ "$output" = true ]
	done
}

# bench [OPTION...]: a short one.
bench()
{
	call bench --rounds 2 --prompt 20 --generate 3 --window 20 "$@"
}

@test "bench: every measure is there and positive, as JSON and as a table" {
	run -0 bench --json --caches 16,32
	json=$output
	jq -e '.rounds == 2 and (.measures | length) == 8 and (.caches | map(.cache)) == [16, 32]' <<<"$json"
	jq -e '[.measures[] | .lowest > 0 and .lowest <= .median and .median <= .highest] | all' <<<"$json"
	jq -e '[.caches[] | .stream_ms > 0 and .recompute_ms > 0 and (.ratio * .stream_ms / .recompute_ms - 1 | fabs) < 0.01] | all' <<<"$json"
	jq -e '.memory | .resident > 0 and .resident <= .peak and .kv > 0' <<<"$json"
	# All weights of the tiny model but nothing else: no embedding is tied to the output.
	jq -e '.weight_bytes > 200000 and .weight_bytes < 390000' <<<"$json"
	# A token of the 24 that a full window holds has 512 bytes of keys and values, all layers together.
	jq -e '(.generation_limit / .generation_limit_full) / (1 + 24 * 512 / .weight_bytes) - 1 | fabs < 1e-4' <<<"$json"
	run -0 bench --caches none
	for name in $(jq -r '.measures[].name' <<<"$json"); do
		[[ $output == *"$name "* ]]
	done
}

@test "bench: only what is asked for" {
	run -0 bench --json --measure generate-full,read-empty
	jq -e '[.measures[].name] == ["generate-full", "read-empty"] and .caches == [] and (has("generation_limit") | not)' <<<"$output"
	run -0 bench --json --measure none --caches 32
	jq -e '.measures == [] and (.caches | length) == 1' <<<"$output"
	run -0 bench --json --measure first-token --text "$text"
	refuses 64 "no measure 'bogus'" bench --measure bogus
	refuses 64 "caches" bench --caches 4
	refuses 64 "caches" bench --caches 100,x
	refuses 64 "recompute" bench --policy recompute
	refuses 66 "/nonexistent" bench --text /nonexistent
}

@test "bench: another program in turn" {
	peer="echo run >>$tmp/runs; printf 'v1.2 q4_1\\n| tg64 | 1e3 t/s\\nbuild: none\\n'"
	run -0 bench --json --measure generate-full --compare "$peer"
	jq -e '.compare.median == 1000 and (.compare.ratio / .measures[0].median * 1000 - 1 | fabs) < 0.001' <<<"$output"
	[ "$(wc -l <"$tmp/runs")" -eq 2 ]
	run -0 bench --json --measure generate-full --compare "$peer" --compare-pattern 'tg(\d+)'
	[ "$(jq .compare.median <<<"$output")" = 64 ]
	run -0 bench --measure generate-full --compare "$peer"
	[[ $output == *"compared "*" 1000 "*"ratio "* ]]
	refuses 69 "exit status 3" bench --measure generate-full --compare 'exit 3'
	refuses 65 "no number" bench --measure generate-full --compare 'echo q4_1 v1.2.3'
	refuses 64 "compare-pattern" bench --measure generate-full --compare 'echo 1' --compare-pattern '('
	refuses 64 "one name" bench --compare 'echo 1'
	refuses 64 "needs --compare" bench --compare-pattern 1
}

@test "recall: the same questions for every policy, chunk and thread count, others for another seed" {
	run -0 call recall --json --lines 40 --every 1 --distances 1,3,8 --window 150
	first=$output
	jq -e '[.distances[] | [.lines, .asked]] == [[1, 14], [3, 12], [8, 11]]' <<<"$first"
	jq -e '[.distances[] | .tokens] | .[0] < .[1] and .[1] < .[2]' <<<"$first"
	jq -e '[.distances[] | .correct <= .asked and (.accuracy - .correct / .asked | fabs) < 1e-4] | all' <<<"$first"
	run -0 call recall --json --lines 40 --every 1 --distances 1,3,8 --window 150 --chunk 7 --threads 1
	[ "$(jq -c 'del(.threads)' <<<"$output")" = "$(jq -c 'del(.threads)' <<<"$first")" ]
	for policy in window dense recompute; do
		run -0 call recall --json --lines 40 --every 1 --distances 1,3,8 --window 150 --policy $policy
		[ "$(jq -c '[.distances[] | [.asked, .tokens]]' <<<"$output")" = "$(jq -c '[.distances[] | [.asked, .tokens]]' <<<"$first")" ]
	done
	# A dense stream still holds everything; of a window of 150 tokens the line 8 back is gone.
	jq -e '[.distances[] | .reached == .asked] | all' < <(call recall --json --lines 40 --every 1 --distances 1,3,8 --policy dense)
	jq -e '.distances[0].reached == .distances[0].asked and .distances[2].reached == 0' <<<"$first"
}

@test "recall: bad arguments, and a table" {
	refuses 64 "distances" call recall --distances 0
	refuses 64 "distances" call recall --distances 1,x
	refuses 64 "distances" call recall --distances ''
	refuses 64 "lines" call recall --lines 0
	run -0 call recall --lines 6 --distances 2
	[[ $output == *"accuracy"*"       2 "* ]]
}

@test "qa: streamed and one at a time, deterministic" {
	run -0 call qa --json
	first=$output
	jq -e '.stream.asked == 6 and .single.asked == 6 and .stream.tokens > .single.tokens' <<<"$first"
	jq -e '[.stream, .single | .low >= 0 and .low <= .accuracy and .accuracy <= .high and .high <= 1] | all' <<<"$first"
	run -0 call qa --json --chunk 3 --threads 1
	[ "$(jq -c 'del(.threads)' <<<"$output")" = "$(jq -c 'del(.threads)' <<<"$first")" ]
	# The first question has nothing before it, in a stream or alone.
	run -0 call qa --json --questions 1
	jq -e '.stream.correct == .single.correct' <<<"$output"
	run -0 call qa --json --mode stream --own --exact --questions 2
	jq -e '.stream.asked == 2 and (has("single") | not) and .answers == "exact" and .joins == "own"' <<<"$output"
	run -0 call qa --mode single
	[[ $output == *"single "*"6 "*%* ]]
}

@test "qa: recompute agrees with dense while its window holds everything" {
	dense=$(call qa --json --policy dense | jq -c '[.stream, .single]')
	[ "$(call qa --json --policy recompute --window 2000 | jq -c '[.stream, .single]')" = "$dense" ]
}

@test "qa: bad questions are named by line" {
	head -n 2 "$tmp/questions" >"$tmp/good"
	while read -r line; do
		{ cat "$tmp/good"; echo "$line"; } >"$tmp/questions"
		refuses 65 "questions, line 3: " call qa
	done <<-'END'
		nonsense
		[]
		{"query":"x","choices":["a","b"]}
		{"query":"x","choices":["a","b"],"gold":2}
		{"query":"x","choices":["a","b"],"gold":-1}
		{"query":"x","choices":["a","b"],"gold":0.5}
		{"query":"x","choices":["a"],"gold":0}
		{"query":"x","choices":["a",""],"gold":0}
		{"query":"x","choices":["a",1],"gold":0}
		{"query":"","choices":["a","b"],"gold":0}
		{"query":"x\u0000y","choices":["a","b"],"gold":0}
		{"choices":["a","b"],"gold":0}
	END
	: >"$tmp/questions"
	refuses 65 "no questions" call qa
	refuses 66 "/nonexistent" "$sinkeval" qa -m "$model" /nonexistent
	refuses 64 "file of questions is missing" "$sinkeval" qa -m "$model"
	refuses 64 "only one file of questions can be read" "$sinkeval" qa -m "$model" a b
}

@test "chat: answers join the stream, turn by turn" {
	printf '%s\n' '{"question_id":81,"turns":["Hello there","And again"]}' '{"turns":["Third"]}' >"$tmp/prompts"
	run -0 "$sinkeval" chat -m "$model" --json --tokens 12 -w 20 "$tmp/prompts"
	first=$output
	jq -es 'map(.turn) == [1, 2, 3] and map(.question_id) == [81, 81, null]' <<<"$first"
	jq -es 'all(.tokens <= 12 and (.ended or .tokens == 12)) and .[0].stream < .[1].stream and .[1].stream < .[2].stream and
		.[2].evictions == .[2].stream - 24' <<<"$first"
	run -0 "$sinkeval" chat -m "$model" --json --tokens 12 -w 20 --chunk 1 --threads 1 "$tmp/prompts"
	[ "$(jq -c 'del(.seconds)' <<<"$output")" = "$(jq -c 'del(.seconds)' <<<"$first")" ]
	run -0 "$sinkeval" chat -m "$model" --json --tokens 12 -w 20 --prompts 1 "$tmp/prompts"
	[ "$(jq -c .reply <<<"$output")" = "$(head -n 2 <<<"$first" | jq -c .reply)" ]
	# The same turns from a terminal's side, one a line.
	run -0 --separate-stderr "$sinkeval" chat -m "$model" --json --tokens 12 -w 20 <<<$'Hello there\n\nAnd again\nThird'
	[ "$(jq -c .reply <<<"$output")" = "$(jq -c .reply <<<"$first")" ]
}

@test "chat: a seed repeats itself, another differs, and temperature 0 is greedy" {
	say() { "$sinkeval" chat -m "$model" --json --tokens 20 "$@" <<<'Hello' | jq -c .reply; }
	[ "$(say --temperature 2 --seed 5)" = "$(say --temperature 2 --seed 5)" ]
	[ "$(say --temperature 2 --seed 5)" != "$(say --temperature 2 --seed 6)" ]
	[ "$(say --temperature 2 --top-p 0)" = "$(say)" ]
	[ "$(say --temperature 0.0001)" = "$(say)" ]
}

@test "chat: no control character and no broken character leaves" {
	# Random weights at a high temperature say anything that the vocabulary has.
	"$sinkeval" chat -m "$model" --tokens 400 --temperature 50 --top-p 1 <<<'Hello' >"$tmp/said"
	[ "$(wc -c <"$tmp/said")" -gt 300 ]
	run -1 env LC_ALL=C grep -c $'[\001-\010\013-\037\177]' "$tmp/said"
	iconv -f UTF-8 -t UTF-8 "$tmp/said" >/dev/null
}

@test "chat: bad arguments and prompts" {
	refuses 64 "temperature" "$sinkeval" chat -m "$model" --temperature x
	refuses 64 "temperature" "$sinkeval" chat -m "$model" --temperature -1
	refuses 64 "temperature" "$sinkeval" chat -m "$model" --temperature nan
	refuses 64 "top-p" "$sinkeval" chat -m "$model" --top-p 1.5
	refuses 64 "one file of prompts" "$sinkeval" chat -m "$model" a b
	refuses 66 "/nonexistent" "$sinkeval" chat -m "$model" /nonexistent
	for line in nonsense '[]' '{}' '{"turns":"x"}' '{"turns":[1]}' '{"turns":[""]}' '{"turns":["a\u0000b"]}'; do
		echo "$line" >"$tmp/prompts"
		refuses 65 "prompts, line 1: " "$sinkeval" chat -m "$model" "$tmp/prompts"
	done
}

# tokenize [OPTION...] TEXT
tokenize()
{
	"$sinkeval" tokenize --model "$model" "${@:1:$#-1}" <<<"${*: -1}"
}

@test "tokenize: there and back" {
	strings=$(printf '%s\n' '"Hello, world"' '""' '"two\nlines\ttab \" \\"' '"h\u00e9llo \u4e16\u754c \ud83d\ude00"' '"nul \u0000 inside"')
	run -0 tokenize "$strings"
	[ "${#lines[@]}" -eq 5 ]
	[ "$(tokenize --decode "$output" | jq -c .)" = "$(jq -c . <<<"$strings")" ]
}

@test "tokenize: special tokens are text, unless asked for" {
	special=$(tokenize --decode --parse-special '[1]')
	[ "$(jq length <<<"$special")" -gt 1 ]
	[ "$(tokenize --decode '[1]')" = '""' ]
	[ "$(tokenize --parse-special "$special")" = '[1]' ]
	[ "$(tokenize "$special" | jq length)" -gt 1 ]
	[ "$(tokenize --decode "$(tokenize "$special")")" = "$special" ]
}

@test "tokenize: a bad line is named" {
	run --separate-stderr tokenize $'"a"\nnonsense\n"b"'
	[ "$status" -eq 65 ]
	[ "${#lines[@]}" -eq 1 ]
	[[ $stderr == "sinkeval: line 2: not JSON"* ]]
	refuses 65 "line 1: not a JSON string" tokenize '[1]'
	refuses 65 "line 1: not a JSON array" tokenize --decode '"a"'
	refuses 65 "line 1: element 1 is not a token id below 264" tokenize --decode '[1,264]'
	refuses 65 "line 1: element 0 is not a token id" tokenize --decode '[-1]'
	refuses 65 "line 1: element 0 is not a token id" tokenize --decode '["x"]'
}

@test "the default model: perplexity of the policies, recomputed ones sampled" {
	book=$SHARED/data/books/don_quixote_cervantes.txt
	[ -n "${SINKD_TEST_SLOW:-}" ] || skip "SINKD_TEST_SLOW is not set"
	[ -f "$MODEL" ] || skip "the default model is not there"
	[ -f "$book" ] || skip "../shared/data/books is not there"
	model=$MODEL
	head -c 200000 "$book" >"$text"
	run -0 ppl '(.ppl / 24.29 - 1 | fabs) < 0.03' --policy recompute --window 1024 --tokens 12288 --sample 48
	[ "$output" = true ]
	run -0 ppl '(.ppl / 24.43 - 1 | fabs) < 0.03' --tokens 12288 --sample 48
	[ "$output" = true ]
}
