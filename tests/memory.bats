#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# How much memory the daemon takes: what it needs, from the first event on, and
# no more than a control group allows.

load sinkd.bash

teardown()
{
	end_processes
	if [ -n "${group-}" ]; then
		for ((i = 0; i < 100; i++)); do
			rmdir "$group" 2>/dev/null && break
			sleep 0.1
		done
	fi
}

@test "without a GPU neither the CUDA module nor cuBLAS stays in memory" {
	need "$BUILD/sinkd-cuda.so"
	[ ! -e /dev/nvidia0 ] || skip "there is a GPU"
	daemon --socket sock
	no grep -qE 'sinkd-cuda|cublas' "/proc/$pid/maps"
	stop
	run "$sinkd" "${tiny[@]}" --device cuda </dev/null
	[ "$status" -eq 69 ]
	[[ $output == *"driver"* ]]
}

# grown FROM TO: send plain events up to number TO, and wait for them.
grown()
{
	seq "$1" "$2" >&8
	until_true has_lines out "$2"
}

@test "resident memory at event 1, 5,000 and 50,000 is the same within 1 MiB" {
	need_true_memory
	mkfifo in
	"$sinkd" "${tiny[@]}" --quiet --device cpu --format plain <in >out 2>err 3>&- &
	pid=$!
	pids+=("$pid")
	exec 8>in
	grown 1 1
	first=$(rss "$pid")
	grown 2 5000
	second=$(rss "$pid")
	grown 5001 50000
	third=$(rss "$pid")
	exec 8>&-
	echo "$first $second $third KiB"
	[ "$second" -le $((first + 1024)) ]
	[ "$third" -le $((first + 1024)) ]
}

# limited BYTES COMMAND...: run it in a control group that may have so much memory; skip where none can be made.
limited()
{
	local bytes=$1
	[ "$(id -u)" -eq 0 ] || skip "only the superuser can make control groups"
	group=/sys/fs/cgroup/memory/sinkd-test-$$
	mkdir "$group" 2>/dev/null || { group=; skip "there is no memory controller that can be used"; }
	echo "$bytes" >"$group/memory.limit_in_bytes" || skip "a group's memory cannot be limited"
	shift
	# shellcheck disable=SC2016 # for the inner shell
	sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' sh "$group" "$@"
}

@test "the default model runs in 300 MB, and on the CPU in 256 MB" {
	need_true_memory
	default=${XDG_DATA_HOME:-$HOME/.local/share}/sinkd/SmolLM2-135M-Instruct.Q4_1.gguf
	need "$default"
	"$sinkd" --model "$default" "$samples/rhel91_boot.jsonl" 2>/dev/null | head -n 30 >want
	head -n 30 "$samples/rhel91_boot.jsonl" >events
	for args in "300000000" "256000000 --device cpu"; do
		# shellcheck disable=SC2086 # words
		set -- $args
		limited "$1" "$sinkd" --quiet --model "$default" "${@:2}" events >out
		cmp want out
		rmdir "$group"
		group=
	done
}

@test "keys and values that a group has no memory for: a sentence, and no kill" {
	need_true_memory
	run limited 60000000 "$sinkd" "${tiny[@]}" --device cpu --window 1000000 </dev/null
	group=/sys/fs/cgroup/memory/sinkd-test-$$
	[ "$status" -ne 0 ] || [ -n "$output" ] || skip "no group can be made"
	echo "$output"
	[ "$status" -eq 71 ]
	[[ $output == *"this process may use"* ]]
}
