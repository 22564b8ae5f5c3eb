# shellcheck shell=sh disable=SC2034
# What examples/quickstart and tests/run share (sourced by both, POSIX sh):
# installing packages, building out of tree, fetching the default model. Each
# step does nothing where its result is there already, and then needs no network.
# The caller is in the top folder of the project.

# What building sinkd takes on Debian 12.
build_packages='autoconf autoconf-archive automake gcc libc6-dev libevent-dev libjansson-dev libpcre2-dev
	libseccomp-dev libsystemd-dev libxxhash-dev make pkg-config'
# What sinkd-fetch-model takes.
model_packages='ca-certificates python3 python3-pip'

# install_packages PACKAGE...: with apt-get, those that are missing.
install_packages()
{
	command -v dpkg-query >/dev/null 2>&1 || {
		echo "not a Debian system: expecting to find what these packages hold: $*" >&2
		return 0
	}
	missing=
	for package in "$@"; do
		case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
		installed) ;;
		*) missing="$missing $package" ;;
		esac
	done
	[ -n "$missing" ] || return 0
	as_root=
	[ "$(id -u)" -eq 0 ] || as_root=sudo
	echo "installing$missing" >&2
	# shellcheck disable=SC2086 # a list of words
	$as_root apt-get update -qq &&
	    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing \
	    </dev/null >&2
}

# build_in FOLDER [CONFIGURE-ARGUMENT...]: configure, if that was not done with
# these arguments, and make. For a target other than all, set $make_target.
build_in()
{
	folder=$1
	shift
	[ -x configure ] || ./autogen.sh || return
	mkdir -p "$folder" || return
	if [ ! -f "$folder/Makefile" ] || [ "$(cat "$folder/.arguments" 2>/dev/null)" != "$*" ]; then
		rm -f "$folder/.arguments"
		# shellcheck disable=SC1007 # CDPATH is empty for this cd
		top=$(pwd) && (CDPATH= cd "$folder" && "$top/configure" "$@") || return
		echo "$*" >"$folder/.arguments"
	fi
	# shellcheck disable=SC2086 # nothing or words
	make -C "$folder" -j"$(nproc)" ${make_target-}
}

# build_for_examples FOLDER: build sinkd there and set $built to it. Where the source itself was configured, by hand,
# another folder cannot be; then that build is used.
build_for_examples()
{
	built=.
	[ ! -f config.status ] || {
		make -j"$(nproc)"
		return
	}
	built=$1
	build_in "$1"
}
