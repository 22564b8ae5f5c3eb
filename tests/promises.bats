#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# doc/testing.md names tests that exist.

load sinkd.bash

# rows: the cells of the last column, "FILE: CASE; CASE; `FILE`: CASE".
rows()
{
	sed '/^## What looks/,$d' "$SRC/doc/testing.md" | sed -n 's/^|.*| \([^|]*\) |$/\1/p' | grep -vE '^(shown by|---)'
}

# has_case FILE CASE: FILE holds a case whose name begins so.
has_case()
{
	case $1 in
	*.bats) grep -qF "@test \"$2" "$SRC/tests/$1" ;;
	*) grep -qF "$2(" "$SRC/tests/$1" ;;
	esac
}

# check CELL: every case of a cell of the table exists.
check()
{
	local piece file=
	while IFS= read -r piece; do
		piece=${piece# }
		if [[ $piece =~ ^\`([^\`]+)\`(: (.*))?$ ]]; then
			file=${BASH_REMATCH[1]}
			piece=${BASH_REMATCH[3]}
			[ -f "$SRC/tests/$file" ] || { echo "$file is not there"; return 1; }
			[ -n "$piece" ] || continue
		fi
		[[ $piece != "the fuzz targets in "* ]] || continue
		[ -n "$file" ] || { echo "no file before: $piece"; return 1; }
		has_case "$file" "$piece" || { echo "$file has no case: $piece"; return 1; }
	done < <(tr ';' '\n' <<<"$1")
}

@test "every test that doc/testing.md names is there" {
	rows >"$BATS_TEST_TMPDIR/rows"
	[ "$(wc -l <"$BATS_TEST_TMPDIR/rows")" -ge 30 ]
	while IFS= read -r row; do
		check "$row"
	done <"$BATS_TEST_TMPDIR/rows"
}

@test "a test that is not there is noticed" {
	run check '`filter.bats`: no such case'
	[ "$status" -eq 1 ]
	run check '`nothing.bats`: a case'
	[ "$status" -eq 1 ]
	run check '`filter.bats`: every journal sample; every chat sample'
	[ "$status" -eq 0 ]
}
