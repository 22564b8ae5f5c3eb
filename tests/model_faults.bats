#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Faults of the model's file: numbers in it that are not finite, and a file that
# others write to, end the program with a sentence, and no state is written of them.

load sinkd.bash

setup()
{
	cd "$BATS_TEST_TMPDIR"
	whole=$model
}

# spoil TENSOR ROW COLUMN nan|inf: the model is one with such a number.
spoil()
{
	"$BUILD/tests/spoil_model" "$whole" spoilt.gguf "$@"
	model=spoilt.gguf
	tiny=(--model "$model" --threads 1 --device cpu)
}

# tokens TEXT: its ids, as an array.
tokens()
{
	jq -n --arg text "$1" '$text' | "$BUILD/sinkeval" tokenize --model "$whole"
}

# spoil_tilde: the token of ~ has an embedding that is not finite; its id is in $id.
spoil_tilde()
{
	id=$(tokens '~' | jq '.[-1]')
	spoil token_embd.weight "$id" 0 inf
}

# failed: what daemon started ends; its exit status is in $status.
failed()
{
	until_true no kill -0 "$pid" 2>/dev/null
	status=0
	wait "$pid" || status=$?
}

# says STATUS TEXT: what run did.
says()
{
	[ "$status" -eq "$1" ]
	[[ $output == *"$2"* ]]
}

events()
{
	printf '{"text":"%s"}\n' "$@"
}

@test "a weight that is no number ends sinkd, and names token, layer and tensor" {
	spoil blk.1.ffn_down.weight 3 5 nan
	run "$sinkd" "${tiny[@]}" <<<'{"text":"hello"}'
	says 65 "spoilt.gguf: layer 1 gives a number that is not finite at token 0"
	says 65 "of the stream, because tensor blk.1.ffn_down.weight holds one; fetch or convert the file again"
	[[ $output != *'"scored":0'* ]]
}

@test "so does one of every other kind, with every code path and cache" {
	jq -r .MESSAGE "$samples/rhel91_boot.jsonl" | head -n 5 >text
	for fault in 'blk.0.attn_k.weight 1 2' 'blk.1.attn_v.weight 1 2' 'blk.1.attn_norm.weight 0 7' \
	    'blk.0.ffn_norm.weight 0 7' 'blk.0.ffn_gate.weight 8 1' 'blk.1.attn_output.weight 9 1'; do
		for number in nan inf; do
			# shellcheck disable=SC2086 # words
			spoil $fault $number
			layer=${fault#blk.}
			for how in '--kv f32' '--kv f16' '--kv q8_0' '--kv bf16' '--path plain' '--path generic' '--chunk 7'; do
				# shellcheck disable=SC2086 # words
				run "$BUILD/sinkeval" ppl --model "$model" --device cpu $how --window 30 text
				says 65 "layer ${layer%%.*} gives a number that is not finite at token "
				says 65 "tensor ${fault%% *} holds one"
			done
		done
	done
}

@test "the last norm and the output matrix are named" {
	spoil output_norm.weight 0 4 nan
	run "$sinkd" "${tiny[@]}" <<<'{"text":"hello"}'
	says 65 "the output norm gives a number that is not finite at token 0"
	says 65 "tensor output_norm.weight holds one"
	spoil output.weight 7 4 nan
	run "$sinkd" "${tiny[@]}" <<<'{"text":"hello"}'
	says 65 "the output matrix gives a number that is not finite at token 0"
	says 65 "tensor output.weight holds one"
}

@test "only the token whose embedding is infinite ends it" {
	spoil_tilde
	events a b hello >in
	"$sinkd" "${tiny[@]}" <in >out
	[ "$(jq -s 'map(select(.sinkd.type == "event")) | length' out)" -eq 3 ]
	# Nor does what was read with it hide the fault, whichever comes first of the end of the input and that of the engine.
	events a b 'hel~lo' hello >in
	for _ in {1..20}; do
		run "$sinkd" "${tiny[@]}" <in
		[ "$status" -eq 65 ]
	done
	says 65 "the embedding gives a number that is not finite at token "
	says 65 "('~') of the stream, because tensor token_embd.weight holds one"
}

@test "the first token at fault is named, wherever it lies among those computed at once" {
	spoil_tilde
	text=$(printf '%0.sx' {1..100})~$(printf '%0.sy' {1..50})~z
	run "$sinkd" "${tiny[@]}" <<<"{\"text\":\"$text\"}"
	says 65 "at token $(($(tokens "$text" | jq "index($id)") + 1)) ('~')" # behind the BOS
}

@test "the checkpoint before it stays, and none is written after it" {
	spoil_tilde
	events a b c >log
	daemon --follow log --from start --state state --output out --control ctl
	until_true has_lines out 3
	sinkctl checkpoint
	cp state/checkpoint before
	events 'd~' e >>log
	failed
	[ "$status" -eq 65 ]
	grep -q "the embedding gives a number that is not finite" err
	cmp state/checkpoint before
	[ ! -e state/checkpoint.tmp ] || no cmp state/checkpoint.tmp state/checkpoint
}

@test "a question that meets it ends sinkd too" {
	spoil_tilde
	events a b c >log
	daemon --follow log --from start --output out --control ctl
	until_true has_lines out 3
	run sinkctl ask 'what ~'
	[ "$status" -ne 0 ]
	[[ $output == *"the embedding gives a number that is not finite"* ]]
	failed
	[ "$status" -eq 65 ]
}

@test "sinkeval says it too" {
	spoil blk.1.ffn_down.weight 3 5 nan
	cp "$samples/rhel91_boot.jsonl" text
	for policy in sink dense window recompute; do
		run "$BUILD/sinkeval" ppl --model "$model" --device cpu --policy "$policy" --tokens 50 text
		says 65 "layer 1 gives a number that is not finite at token 0"
	done
	run "$BUILD/sinkeval" bench --model "$model" --device cpu
	says 65 "layer 1 gives a number that is not finite at token 0"
	run "$BUILD/sinkeval" logits --model "$model" --device cpu --tokens "$SRC/tests/golden/llama-gqa/tokens.json" --output l
	says 65 "layer 1 gives a number that is not finite at token 0"
	spoil output.weight 7 4 nan
	for policy in sink dense window recompute; do
		run "$BUILD/sinkeval" ppl --model "$model" --device cpu --policy "$policy" --tokens 50 text
		says 65 "the output matrix gives a number that is not finite at token 0"
	done
	run "$BUILD/sinkeval" logits --model "$model" --device cpu --tokens "$SRC/tests/golden/llama-gqa/tokens.json" --output l
	says 65 "the output matrix gives a number that is not finite at token 0"
}

# running: a daemon has read three events of a copy of the model, and its last checkpoint is in `before`.
running()
{
	cp "$whole" copy.gguf
	touch -d '1 hour ago' copy.gguf
	tiny=(--model copy.gguf --threads 1 --device cpu)
	events a b c >log
	daemon --follow log --from start --state state --output out --control ctl
	until_true has_lines out 3
	sinkctl checkpoint
	cp state/checkpoint before
}

@test "a model that is written to while it is in use ends sinkd, and the checkpoint before it stays" {
	running
	dd if=/dev/zero of=copy.gguf bs=1 seek=200000 count=1000 conv=notrunc status=none
	events d e >>log
	failed
	[ "$status" -eq 74 ]
	grep -q "copy.gguf was written to while it was in use: start again" err
	cmp state/checkpoint before
	no grep -q '"nll"' <(tail -n +4 out)
}

@test "a checkpoint notices it too" {
	running
	dd if=/dev/zero of=copy.gguf bs=1 seek=200000 count=1000 conv=notrunc status=none
	run sinkctl checkpoint
	[ "$status" -ne 0 ]
	failed
	[ "$status" -eq 74 ]
	cmp state/checkpoint before
}

@test "a model that is cut short while it is in use ends sinkd with a sentence, not with a signal" {
	running
	truncate -s 4096 copy.gguf
	events d e >>log
	failed
	[ "$status" -eq 74 ]
	grep -q "^sinkd: copy.gguf \(cannot be read any more\|was written to\)" err
	cmp state/checkpoint before
}

@test "a model that was replaced by another name, or got other permissions, does no harm" {
	running
	cp "$SRC/tests/golden/llama-tied/model.gguf" new
	mv new copy.gguf
	events d e >>log
	until_true has_lines out 5
	sinkctl checkpoint
	stop
	[ "$status" -eq 0 ]
	[ ! -s err ]
	cp "$whole" copy.gguf
	daemon --follow log --from start --state state --output out
	chmod 400 copy.gguf
	events f >>log
	until_true has_lines out 6
	stop
	[ "$status" -eq 0 ]
}
