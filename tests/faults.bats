#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Calls that fail, one after the other, at points of a scene (tests/scenes.c): sinkd goes on, or ends with a message
# and a code of sysexits.h, and a run without faults then leaves what an undisturbed run leaves.

load sinkd.bash

# What THINNED means is said in tests/faults.c; 0 tries every point.
thinned=${THINNED-1}

setup()
{
	need_true_memory
	mkdir "$BATS_TEST_TMPDIR/scene"
	cd "$BATS_TEST_TMPDIR/scene"
}

# Each table is shown by bats where a case fails, and stays in $FAULT_TABLES, a folder, if that is given.
faults()
{
	"$BUILD/tests/faults" "$sinkd" "$model" "$BUILD/tests/fail_calls.so" "$thinned" "$@" >"$BATS_TEST_TMPDIR/table" 3>&- ||
		{ cat "$BATS_TEST_TMPDIR/table"; return 1; }
	[ -z "${FAULT_TABLES-}" ] || cp "$BATS_TEST_TMPDIR/table" "$FAULT_TABLES/$BATS_TEST_NUMBER"
}

@test "memory that is not there" {
	faults malloc calloc realloc aligned_alloc mmap
}

@test "files that cannot be opened or looked at" {
	faults open openat fopen fdopen opendir mkdir fstat stat lstat fcntl dup dup3
}

@test "files that cannot be read or written" {
	faults read pread write pwrite fwrite fclose fsync fdatasync ftruncate rename renameat link unlink unlinkat
}

@test "sockets and connections" {
	faults socket socketpair pipe2 bind listen accept4 recv send
}

@test "what the loop and the threads are made of" {
	faults poll epoll_create1 epoll_ctl epoll_wait eventfd inotify_init1 inotify_add_watch pthread_create
}
