# The checks of tests/layers. Reads doc/architecture.md and then the sources, all named relative to the top folder, and
# prints a line for each fault: CHECK FILE:LINE: SENTENCE.

function fault(check, line, text)
{
	print check " " FILENAME ":" line ": " text
}

# The folder of a path, and a path without its suffix: the module that a source and its header make.
function folder(path)
{
	return path ~ /\// ? substr(path, 1, match(path, /\/[^\/]*$/) - 1) : "."
}

function module(path)
{
	sub(/\.[a-z]+$/, "", path)
	return path
}

# The table of doc/architecture.md: | `FOLDER` | `NAME`, `NAME` |, where a name is a folder or one header.
function read_row(cell, names, n, i)
{
	if (!/^\|/) {
		in_table = 0
		return
	}
	if (/^\| folder \| may include \|/)
		in_table = 1
	if (!in_table)
		return
	split($0, cell, "|")
	if (!match(cell[2], /`[^`]+`/))
		return
	owner = substr(cell[2], RSTART + 1, RLENGTH - 2)
	n = split(cell[3], names, "`")
	for (i = 2; i <= n; i += 2)
		allowed[owner, names[i]] = 1
}

# Code alone: comments go, and strings become "".
function strip(s, out, at)
{
	out = ""
	while (s != "") {
		if (in_comment) {
			if (!(at = index(s, "*/")))
				return out
			s = substr(s, at + 2)
			in_comment = 0
		}
		if (!match(s, /\/\*|\/\/|"([^"\\]|\\.)*"|'([^'\\]|\\.)+'/))
			return out s
		out = out substr(s, 1, RSTART - 1)
		at = substr(s, RSTART, 2)
		s = substr(s, RSTART + (at == "/*" ? 2 : RLENGTH))
		if (at == "//")
			return out
		if (at == "/*")
			in_comment = 1
		else
			out = out "\"\""
	}
	return out
}

function check_include(path, dir, to)
{
	dir = folder(FILENAME)
	if (dir !~ /^(src|cuda)/ || path !~ /^(base|engine|stream|daemon|tools)\//)
		return
	path = "src/" path
	to = folder(path)
	if (to == dir || (dir, to) in allowed || (dir, path) in allowed)
		return
	fault("includes", FNR, "the table of doc/architecture.md does not let " dir " include " path)
}

# Columns with tabs of 8; a character of several bytes is one column.
function columns(s, n, i, part)
{
	gsub(/[\200-\277]/, "", s)
	n = split(s, part, "\t")
	s = length(part[1])
	for (i = 2; i <= n; i++)
		s = (int(s / 8) + 1) * 8 + length(part[i])
	return s
}

function check_braces()
{
	if (code ~ /^[a-z_].*[a-z0-9_]\(.*\)[ \t]*\{$/ && code !~ /^(extern|enum|struct|union|switch)/)
		fault("braces", FNR, "a function's opening brace stands on a line of its own")
	if (code ~ /^[ \t]*(\} *else |if|for|while|switch).*\)\{$/ || code ~ /(^|[^a-z0-9_])(else|do)\{/)
		fault("braces", FNR, "a space goes before an opening brace")
	if (code ~ /^[ \t]+\{[ \t]*$/ && before ~ (FILENAME ~ /\.[ch]$/ ? "[)a-z]$" : "^[ \t]*(if|for|while|switch|else|do) .*[)a-z]$"))
		fault("braces", FNR, "the opening brace goes at the end of the line before")
	if (code ~ /^[ \t]*else/ && before ~ /^[ \t]*\}[ \t]*$/)
		fault("braces", FNR, "else goes on the line of the closing brace")
}

# A function: its name begins a line, its braces stand alone.
function check_function()
{
	if (code ~ /^[A-Za-z_][A-Za-z0-9_]*\(/ && before ~ /[a-z0-9_*)>]$/) {
		name = substr(code, 1, index(code, "(") - 1)
		private = before ~ /static/ && (FILENAME ~ /\.cu?$/ || before !~ /inline/)
	} else if (code == "{" && name != "") {
		began = FNR
		define(name)
	} else if (code ~ /;[ \t]*$/ && !began)
		name = ""
	else if (code ~ /^\}/ && began) {
		if (FNR - began - 1 > 60 && FILENAME !~ /kernels_|^cuda\//)
			fault("length", began, name " has " FNR - began - 1 " lines")
		began = 0
		name = ""
	}
}

# Names are shared where programs are: all of src and cuda; each test program is one of its own.
function define(name)
{
	if (FILENAME ~ /^(src|cuda)\//) {
		if (!(name in home))
			home[name] = FILENAME
		else if (home[name] != FILENAME && !excused(name))
			fault("names", FNR, name " is in " home[name] " as well")
	}
	if (!private)
		public[name] = module(FILENAME)
}

# main is every program's. The kernels of the CPU are the same functions, compiled once for each kind of processor.
function excused(name)
{
	return name == "main" || (FILENAME ~ /\/kernels_/ && home[name] ~ /\/kernels_/)
}

# Every name that may be a function's; which ones are is known at the end. A member of a struct is none.
function note_uses(s, name)
{
	gsub(/(->|\.)[A-Za-z_0-9]+/, "", s)
	while (match(s, /[A-Za-z_][A-Za-z0-9_]*/)) {
		name = substr(s, RSTART, RLENGTH)
		if (!((FILENAME, name) in used))
			used[FILENAME, name] = FNR
		s = substr(s, RSTART + RLENGTH)
	}
}

FNR == 1 { in_comment = began = 0; name = before = "" }
FILENAME ~ /\.md$/ {
	read_row()
	next
}
{
	if (columns($0) > 120)
		fault("columns", FNR, columns($0) " columns")
}
/^#[ \t]*include "/ {
	split($0, quoted, "\"")
	check_include(quoted[2])
	next
}
{
	code = strip($0)
	check_braces()
	check_function()
	if (FILENAME ~ /^src\/engine\//)
		note_uses(code)
	if (code ~ /[^ \t]/)
		before = code
}
END {
	for (key in used) {
		split(key, pair, SUBSEP)
		if (pair[2] in public && public[pair[2]] != module(pair[1]))
			needs[module(pair[1]), public[pair[2]]] = pair[1] ":" used[key] ": uses " pair[2] " of " public[pair[2]]
	}
	for (key in needs) {
		split(key, pair, SUBSEP)
		if (pair[1] < pair[2] && (pair[2], pair[1]) in needs) {
			print "circles " needs[key]
			print "circles " needs[pair[2], pair[1]]
		}
	}
}
