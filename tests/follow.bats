#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# A followed file whatever happens to its name: links, rotation, files written
# anew, system calls that fail; every line is read once, in order.

load sinkd.bash

# follow FILE [ARG...]: a daemon reads it from its start, with a state.
follow()
{
	daemon --follow "$1" --from start --state state --output out "${@:2}"
}

# has_texts TEXT...: out is, or becomes, that.
has_texts()
{
	until_true has_lines out $#
	[ "$(texts out)" = "$* " ]
}

# is_watched FILE: the daemon has inotify tell it of changes to the file.
is_watched()
{
	grep -qs "^inotify.* ino:$(printf %x "$(stat -L -c %i "$1")") " "/proc/$pid/fdinfo/"*
}

# is_open NAME: the daemon has a file of that name open.
is_open()
{
	[ -n "$(find "/proc/$pid/fd" -lname "*/$1")" ]
}

# paused COMMAND...: the daemon sees nothing of it until all is done.
paused()
{
	kill -STOP "$pid"
	"$@"
	kill -CONT "$pid"
}

# said N TEXT: err has so many lines with it.
said()
{
	[ "$(grep -c -- "$2" err)" -eq "$1" ]
}

# ---- links

# link_chain: log leads to pods/0.log and that to real/0.log, each by a name that is relative to its own folder.
link_chain()
{
	mkdir pods real
	ln -s ../real/0.log pods/0.log
	ln -s pods/0.log log
}

@test "a link: what is rotated beside its target is read, also when nobody was there" {
	link_chain
	event a >real/0.log
	follow log
	has_texts a
	stop
	event b >>real/0.log
	mv real/0.log real/0.log.20261201-100000
	event c >real/0.log
	mv real/0.log real/0.log.20261201-110000
	event d >real/0.log
	follow log
	has_texts a b c d
	paused eval 'event e >>real/0.log; mv real/0.log real/0.log.20261201-120000
		event f >real/0.log; mv real/0.log real/0.log.20261201-130000; event g >real/0.log'
	has_texts a b c d e f g
	[ ! -s err ]
}

@test "a link: its target is watched, and need not be there yet" {
	link_chain
	follow log
	until_true said 1 'log is not there'
	event a >real/0.log
	has_texts a
	until_true is_watched real/0.log
	is_watched pods
	is_watched .
	mv real/0.log real/0.log.1
	: >real/0.log
	until_true is_watched real/0.log
	said 1 'log is there'
	rm -r real
	mkdir real
	event b >real/0.log
	has_texts a b
}

@test "a link that is made anew: the old target is finished, then the new one is read" {
	mkdir one two three
	event a >one/log
	event x >two/log
	ln -s one/log log
	follow log
	has_texts a
	paused eval 'event b >>one/log; ln -sfn two/log log; event y >>two/log'
	has_texts a b x y
	# The writer is late, and the new target is not there.
	ln -sfn three/log log
	event z >>two/log
	has_texts a b x y z
	event p >three/log
	has_texts a b x y z p
	stop
	# Nobody is there when the old target is rotated, the link made anew, and the new target rotated.
	event q >>three/log
	mv three/log three/log.1
	event r >three/log
	event s >one/log
	ln -sfn one/log log
	mv one/log one/log.1
	event t >>one/log.1
	event u >one/log
	follow log
	has_texts a b x y z p q r s t u
	[ ! -s err ]
}

@test "a link to a folder on the way that is made anew: the new folder is read, but not what it had of old" {
	mkdir v1 v2
	event old >v2/log.1
	ln -s v1 current
	event a >v1/log
	event b >v2/log
	follow current/log
	has_texts a
	is_watched .
	ln -sfn v2 current
	has_texts a b
	event c >>v2/log
	has_texts a b c
	[ ! -s err ]
}

# ---- rotation

@test "a new file is watched as soon as it has the name, and read in order even if it is gone at once" {
	event a >log
	follow log
	has_texts a
	mv log log.1
	: >log
	until_true is_watched log
	event b >>log.1
	has_texts a b
	paused eval 'event c >>log; rm log; event d >log'
	has_texts a b c d
	mv log log.1
	: >log
	until_true is_watched log
	paused eval 'event e >>log.1; event f >>log; mv log.1 log.2; mv log log.1; event g >log; rm log.2'
	has_texts a b c d e f g
	[ ! -s err ]
}

@test "copied and cut while it is behind: what was not read is read from the copy" {
	event a >log
	follow log
	has_texts a
	paused eval 'event b c >>log; cp log log.1; event d >log'
	has_texts a b c d
	# Half a line goes on in the copy, too.
	printf '{"text":' >>log
	paused eval 'printf "\"e\"}\n" >>log; mv log.1 log.2; cp log log.1; : >log; event f >>log'
	has_texts a b c d e f
	[ ! -s err ]
}

@test "an older file that cannot be opened: that is said, and the others are read" {
	[ "$(id -u)" -eq 0 ] || skip "only the superuser can be somebody else"
	chmod 711 .
	mkdir logs
	event a >logs/log
	follow logs/log
	has_texts a
	stop
	mv logs/log logs/log.2
	event b >logs/log.1
	event c >logs/log
	chmod 000 logs/log.1
	chmod 755 logs
	chown -R 65534:65534 state out
	setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all \
		"$sinkd" "${tiny[@]}" --follow logs/log --from start --state state --output out </dev/null 2>>err 3>&- &
	pid=$!
	pids+=("$pid")
	has_texts a c
	until_true said 1 'is lost'
}

# ---- one file, written anew

# rewritten FIRST SECOND: log is written twice, the second time with other lines, longer or as long, behind the same
# first 3,000 bytes.
rewritten()
{
	printf '{"text":"%03000d"}\n' 0 >banner
	{ cat banner; event "${@:1:3}"; } >first
	{ cat banner; event "${@:4}"; } >second
}

@test "a file that begins as before is known by the bytes before the place: written anew while nobody was there" {
	for second in "d e f" "d e f g h"; do
		rm -rf state out
		# shellcheck disable=SC2086 # words
		rewritten a b c $second
		cp first log
		follow log
		until_true has_lines out 4
		stop
		cat second >log
		follow log
		until_true has_lines out "$(cat first second | wc -l)"
		cmp <(jq -r .text out) <(cat first second | jq -r .text)
		stop
	done
}

@test "a file that begins as before is known by the bytes before the place: written anew while it is read" {
	for second in "d e f" "d e f g h"; do
		rm -rf state out
		# shellcheck disable=SC2086 # words
		rewritten a b c $second
		cp first log
		follow log
		until_true has_lines out 4
		paused eval 'cat second >log'
		until_true has_lines out "$(cat first second | wc -l)"
		cmp <(jq -r .text out) <(cat first second | jq -r .text)
		stop
	done
}

# failing: while there is a file failing, one of $FAIL_EVERY calls, at random, that open, measure or look for a file log*
# fails, as does reading a little of it to compare that with what was read before. Reading what comes next does not.
failing()
{
	export FAIL_CALLS=fstat,fstatat,lseek,lstat,open,openat,pread,stat FAIL_HOW=EIO FAIL_PATH=/log FAIL_LARGEST=4096 \
		FAIL_WHILE=failing
}

@test "system calls that fail now and then: no line is lost, none is read twice" {
	need_true_memory
	failing
	for FAIL_EVERY in 1 20; do
		export FAIL_EVERY
		rm -rf state out log* failing
		event 0 >log
		LD_PRELOAD=$BUILD/tests/fail_calls.so follow log
		has_texts 0
		touch failing
		for ((i = 1; i <= 60; i++)); do
			[ $((i % 10)) -ne 0 ] || mv log "log.$((9 - i / 10))"
			event "$i" >>log
			sleep 0.01
		done
		# Where nothing works at all, nothing is taken for something else.
		[ "$FAIL_EVERY" -ne 1 ] || rm failing
		until_true has_lines out 61
		cmp <(jq -r .text out) <(seq 0 60)
		stop
	done
}

@test "a start that cannot look at the file is refused" {
	need_true_memory
	event a >log
	touch failing
	failing
	export FAIL_EVERY=1
	follow log
	has_texts a
	stop
	LD_PRELOAD=$BUILD/tests/fail_calls.so \
		run "$sinkd" "${tiny[@]}" --follow log --from start --state state --output out
	[ "$status" -eq 66 ]
	[[ $output == *"cannot follow log: Input/output error"* ]]
}

# ---- starts that are killed before the first checkpoint

# killed_early ARG...: a start is killed while it syncs its first checkpoint.
killed_early()
{
	LD_PRELOAD=$BUILD/tests/fail_calls.so SLOW_SYNC_MS=60000 SLOW_SYNC_NAME=checkpoint \
		launch --state state --output out "$@"
	until_true [ -s state/checkpoint.tmp ]
	stop KILL
	rm state/checkpoint.tmp
}

@test "a start that is killed before its first checkpoint loses nothing: the file is rotated, then copied and cut" {
	need_true_memory
	event a >log
	killed_early --follow log --from start
	[ ! -e out ] || [ ! -s out ]
	event b >>log
	mv log log.1
	event c >log
	mv log.1 log.2
	mv log log.1
	event d >log
	killed_early --follow log --from start
	follow log
	has_texts a b c d
	[ ! -e state/beginning ]
	stop
	rm -r state out log.?
	: >log
	killed_early --follow log --from start
	event e >>log
	cp log log.1
	event f >log
	follow log
	has_texts e f
	[ ! -s err ]
}

@test "a start that is killed before its first checkpoint: the end of then counts, and a file need not be there" {
	need_true_memory
	event old >log
	killed_early --follow log
	event a >>log
	mv log log.1
	event b >log
	daemon --follow log --state state --output out
	has_texts a b
	stop
	rm -r state out log*
	killed_early --follow log
	event c >log
	mv log log.1
	event d >log
	daemon --follow log --state state --output out
	has_texts c d
}

@test "a start that is killed before its first checkpoint does not bind a later one with other inputs" {
	need_true_memory
	event old >log
	killed_early --follow log
	event a >>log
	follow log
	has_texts old a
	stop
	rm -r state out
	killed_early --follow log
	event b >other
	follow other
	has_texts b
}

@test "a copy of a file that is not cut yet is not read beside the file" {
	event a >log
	follow log
	has_texts a
	stop
	mv log log.1
	event b >log
	cp log log.2
	follow log
	has_texts a b
	event c >>log
	has_texts a b c
	: >log
	event d >>log
	has_texts a b c d
	stop
	# This one is cut before anybody looks, and begins with the same lines again.
	mv log log.3
	event e >log
	cp log log.4
	sleep 0.02
	: >log
	event e >>log
	event f >>log
	follow log
	has_texts a b c d e e f
	[ ! -s err ]
}

# ---- what the user is told

@test "a file that is not there is told once, and once that it is there" {
	daemon --follow log --output out
	until_true said 1 'log is not there: waiting for it'
	event a >log
	has_texts a
	until_true said 1 'log is there'
	mv log away
	until_true said 2 'log is not there: waiting for it'
	event b >>away
	has_texts a b
	mv away log
	until_true said 2 'log is there'
	rm log
	mkdir log
	until_true said 1 'log is not a regular file'
	rmdir log
	event c >log
	has_texts a b c
	until_true said 3 'log is there'
	[ "$(wc -l <err)" -le 7 ]
}

# ---- all of it at random moments

# write_some: a few more events at the end of all, and of the file that has the name now.
write_some()
{
	local i n=$((RANDOM % 12 + 1))
	for ((i = 0; i < n; i++)); do
		written=$((written + 1))
		event "event $written" | tee -a all >>"$folder/log"
	done
}

# rename_it, copy_it: the file is rotated by a name that sorts behind those before.
rename_it()
{
	mv "$folder/log" "$folder/log.$((++rotated))"
	[ $((RANDOM % 2)) -eq 0 ] || : >"$folder/log"
}

copy_it()
{
	cp "$folder/log" "$folder/log.$((++rotated))"
	: >"$folder/log"
}

# link_anew: log leads to another folder from now on.
link_anew()
{
	folder=folder.$((++rotated))
	mkdir "$folder"
	ln -sfn "$folder/log" log
	sleep 0.02
}

# do_something: to the followed file.
do_something()
{
	local i what
	for ((i = RANDOM % 4; i >= 0; i--)); do
		write_some
		what=$((RANDOM % 4))
		[ "$what" -ne 0 ] || rename_it
		[ "$what" -ne 1 ] || copy_it
	done
	write_some
}

@test "killed at random moments while the file is renamed, copied and cut, and its link made anew: the same output" {
	need_true_memory
	written=0 rotated=2026000000
	link_anew
	: >"$folder/log"
	follow log
	stop KILL
	for ((round = 1; round <= 18; round++)); do
		launch --follow log --from start --state state --output out --control ctl
		if [ $((round % 6)) -eq 0 ]; then
			# Of a link that is made anew twice nobody can know what it led to in between.
			until_true sinkctl checkpoint 2>/dev/null
			until_true has_lines out "$written"
			until_true sinkctl checkpoint 2>/dev/null
			link_anew
		fi
		do_something
		[ $((RANDOM % 3)) -ne 0 ] || until_true sinkctl checkpoint 2>/dev/null
		do_something
		sleep "0.$((RANDOM % 3))"
		stop KILL
		[ $((RANDOM % 2)) -eq 0 ] || do_something
	done
	follow log
	until_true has_lines out "$written"
	stop
	"$sinkd" "${tiny[@]}" all >whole
	cmp out whole
	no grep -vE 'log is (not there: waiting for it|there: reading it)$' err
}
