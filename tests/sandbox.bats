#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# --sandbox: what is forbidden is refused, on every thread. That all else goes on working is shown by the other suites,
# which tests/run sandbox runs with this option.

load sinkd.bash

# Without privileges, or as the system is set up, the kernel refuses these with EPERM, whether there is a sandbox or not.
privileged='bpf|io_uring_setup|kexec_load|perf_event_open|pivot_root|reboot|setgroups|sethostname|socket-17|swapon|syslog'
privileged+='|userfaultfd'

setup()
{
	cd "$BATS_TEST_TMPDIR"
	need_sandbox
}

# tries OPTION...: a daemon that tries all that is forbidden, at its end; what came of it is in the file tried.
tries()
{
	rm -f tried "${ready-printed}"
	LD_PRELOAD=$BUILD/tests/try_calls.so TRY_FILE=tried "$sinkd" "${tiny[@]}" --threads 3 "$@" </dev/null >printed 2>err \
		3>&- &
	pid=$!
	pids+=("$pid")
	until_true [ -s "${ready-printed}" ]
	kill -USR1 "$pid"
	until_true grep -q '^done' tried
}

@test "every call that is not needed is refused, on all threads; without the sandbox it is not" {
	echo '{"text":"x"}' >log
	export TRY_WRITING=yes
	tries --sandbox --follow log --from start
	awk '$2 != 1' tried >refused
	[ "$(cat refused)" = 'done 0' ] || { cat refused; false; }
	[ "$(wc -l <tried)" -ge 90 ]
	awk '/^Seccomp:/ { print $2 }' /proc/"$pid"/task/*/status >modes
	[ "$(wc -l <modes)" -ge 4 ]
	no grep -vx 2 modes
	# It lives, and goes on.
	echo '{"text":"y"}' >>log
	until_true lines printed 2
	stop
	[ "$status" -eq 0 ]
	[ ! -s err ]

	# A container may have a filter of its own, which says nothing about ours.
	no grep -q '^Seccomp:.*2' /proc/self/status || return 0
	tries --sandbox=no --follow log --from start
	no grep -vE "^($privileged) " <(awk '$2 == 1' tried)
}

@test "a daemon that writes and listens may do that, and nothing else" {
	ready=out
	echo '{"text":"x"}' >log
	tries --sandbox --follow log --from start --output out --state state --control ctl --metrics ./m
	[ "$(awk '$2 != 1' tried)" = 'done 0' ]
	export TRY_WRITING=yes
	stop
	tries --sandbox --follow log --from start --output out --control ctl --metrics ./m
	awk '$2 != 1 { print $1 }' tried | LC_ALL=C sort >allowed
	diff allowed - <<-END
		accept4
		done
		open-to-create
		open-to-cut
		open-to-write
		renameat
		unlinkat
	END
}

@test "scores are the same to the bit, and a file is read on where it was" {
	head -n 400 "$samples/rhel91_boot.jsonl" >in.jsonl
	"$sinkd" "${tiny[@]}" in.jsonl >plain
	"$sinkd" "${tiny[@]}" --sandbox --state state --output out in.jsonl
	cmp out plain
	"$sinkd" "${tiny[@]}" --sandbox --state state --output out in.jsonl
	cmp out plain
}
