#!/usr/bin/env bash
# Installs into a temporary prefix, then builds and runs every example from the installed files
# only: with pkg-config and with CMake, with the shared and the static library, in C99, C17, C++17
# and C++20. Then uninstalls.
#
#   run.sh [FOLDER OF libringmsg.so AND .a]     default: target/release
#
# With RINGMSG_TEST_ALLOW_SKIP=1 it only builds where io_uring is unavailable.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/../.." && pwd)
built=$(realpath "${1:-$checkout/target/release}")
work=$(mktemp -d "${TMPDIR:-/tmp}/ringmsg-installed.XXXXXX")
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
# Debian's multiarch folder, if the compiler has one.
libdir=$prefix/lib/$(${CC:-cc} -print-multiarch 2>/dev/null || true)
libdir=${libdir%/}

say() { printf '%s\n' "$*"; }
die() { say "FAILED: $*" >&2; exit 1; }
quiet() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "$*"; }; }
install() { quiet make -C "$checkout" BUILT="$built" PREFIX="$prefix" LIBDIR="$libdir" "$@"; }

command -v pkg-config >/dev/null || die "missing: pkg-config; install it with: apt-get install pkg-config"

# --- install ---------------------------------------------------------------------------------
install install
cp -r "$checkout/examples-c" "$work/examples"
cp "$checkout"/tests/installed/{smoke.c,CMakeLists.txt} "$work"
cd "$work"
export PKG_CONFIG_LIBDIR=$libdir/pkgconfig
unset LIBRARY_PATH CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH LD_LIBRARY_PATH CMAKE_PREFIX_PATH

if grep -rIl -e "$checkout" "$prefix"; then die "an installed file names the checkout"; fi
for file in libringmsg.so libringmsg.so.0 libringmsg.a pkgconfig/ringmsg.pc; do
    [ -e "$libdir/$file" ] || die "$file is not installed"
done
for file in bin/ringmsg share/man/man1/ringmsg.1 include/ringmsg.h include/ringmsg.hpp share/doc/ringmsg/LICENSE-MIT \
    share/man/man7/ringmsg.7 share/man/man3/ringmsg_next.3; do
    [ -e "$prefix/$file" ] || die "$file is not installed"
done
version=$(pkg-config --modversion ringmsg)
[ "$(readlink -f "$libdir/libringmsg.so")" = "$libdir/libringmsg.so.$version" ] || die "the links do not lead to .so.$version"
readelf -d "$libdir/libringmsg.so" | grep -q 'soname: \[libringmsg.so.0\]' || die "the soname is wrong"
for file in "$libdir/libringmsg.so" "$prefix/bin/ringmsg"; do
    if readelf -S "$file" | grep '\.debug_info' >/dev/null; then die "$file is not stripped"; fi
done
readelf -d "$libdir/libringmsg.so" | grep -q NODELETE || die "dlclose(3) would unload the library"
versioned=$(nm -D --defined-only "$libdir/libringmsg.so" | awk '$2 == "T" {print $3}')
if grep -v '@@RINGMSG_0$' <<<"$versioned"; then die "a symbol has no version, or another one"; fi
exported=$(nm -D --defined-only "$libdir/libringmsg.so" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}')
if grep -v '^ringmsg_' <<<"$exported"; then die "a foreign symbol is exported"; fi
if nm -g --defined-only "$libdir/libringmsg.a" | awk 'NF == 3 {print $3}' | grep -v '^ringmsg_'; then
    die "the archive has foreign global symbols"
fi
declared=$(grep -oE '^[a-z_].*\bringmsg_[a-z_]+\(' "$prefix/include/ringmsg.h" | grep -oE 'ringmsg_[a-z_]+\($' | tr -d '(' | sort)
[ "$declared" = "$(sort <<<"$exported")" ] || die "header and library differ: $(diff <(echo "$declared") <(sort <<<"$exported"))"
listed=$(sed -n 's/^ \(ringmsg_.*\)@.*/\1/p' "$checkout/packaging/libringmsg0.symbols" | sort)
[ "$declared" = "$listed" ] || die "packaging/libringmsg0.symbols differs: $(diff <(echo "$declared") <(echo "$listed"))"
[ "$(pkg-config --define-variable=prefix=/elsewhere --variable=includedir ringmsg)" = /elsewhere/include ] || die "ringmsg.pc cannot be moved"

for name in $exported; do
    grep -q "^\.SS $name()" "$prefix/share/man/man3/$name.3" || die "there is no man page for $name"
done

# --- run ------------------------------------------------------------------------------------- run
# NAME PROGRAM SENDER: runs an example as its opening comment shows.
run() {
    local name=$1 program=$2 sender=${3:-}
    [ $run_all = yes ] || return 0
    case $name in
    udp_receive.c) set -- 127.0.0.1 0 "$sender" -t 20 ;;
    udp_receive.cpp) set -- 127.0.0.1 0 0 ;;
    udp_send.c) return 0 ;; # udp_receive starts it
    udp_echo.c | udp_echo.cpp | udp_sharded.c | dns_responder.c) set -- 127.0.0.1 0 ;;
    udp_relay.c) set -- 127.0.0.1 0 127.0.0.1 9 ;;
    modes.c) set -- 1000 100 1 ;;
    *) set -- ;;
    esac
    case $name in
    udp_echo.* | udp_sharded.c | dns_responder.c | udp_relay.c) # serve until Ctrl-C
        # Without --foreground timeout(1) sends the signal twice, and the second one may come when
        # the program has put the default action back.
        timeout --foreground --preserve-status -s INT 1 "$program" "$@" >log 2>&1 || { cat log >&2; die "$program"; } ;;
    *) quiet timeout 60 "$program" "$@" ;;
    esac
}

# Whether the program needs the shared library. udp_send does not, if the linker drops unneeded
# libraries.
uses_library() { [ "$1" = udp_send.c ] || needed "$2" libringmsg.so.0; }
needed() { readelf -d "$1" 2>/dev/null | grep -q "NEEDED.*$2"; }
flags="-O1 -Wall -Wextra -Werror"
cflags=$(pkg-config --cflags ringmsg)
private=$(pkg-config --static --libs-only-l ringmsg | sed 's/-lringmsg//')

# build STANDARD SOURCE PROGRAM LIBRARIES...
build() {
    local standard=$1 source=$2 program=$3 compiler=${CC:-cc} language=c
    shift 3
    case $standard in c++*) compiler=${CXX:-c++} language=c++ ;; esac
    # shellcheck disable=SC2086
    quiet $compiler -std=$standard $flags $cflags -x $language "$source" -x none -o "$program" "$@" -lpthread
}

dynamic=$(pkg-config --libs ringmsg)
archive="-L$libdir -l:libringmsg.a $private"
# variants STANDARD SOURCE: builds and runs it with the shared library, with the archive, and
# statically.
variants() {
    local standard=$1 source=$2 name
    name=$(basename "$source")
    # shellcheck disable=SC2086
    {
        build "$standard" "$source" "dynamic_$name" $dynamic -Wl,-rpath,"$libdir"
        build "$standard" "$source" "archive_$name" $archive
        build "$standard" "$source" "static_$name" -static $archive
    }
    uses_library "$name" "dynamic_$name" || die "dynamic_$name does not use the shared library"
    needed "archive_$name" libringmsg && die "archive_$name needs the shared library"
    needed "static_$name" . && die "static_$name is not static"
    local how
    for how in dynamic archive static; do
        run "$name" "./${how}_$name" "./${how}_udp_send.c"
    done
    say "ok: $name, $standard: dynamic, -l:libringmsg.a, -static"
}

run_all=yes
# shellcheck disable=SC2086
build c99 smoke.c probe $dynamic -Wl,-rpath,"$libdir"
./probe || {
    [ $? = 77 ] || die "the first program"
    [ -n "${RINGMSG_TEST_ALLOW_SKIP:-}" ] || die "there is no io_uring here (RINGMSG_TEST_ALLOW_SKIP=1 builds only)"
    run_all=no
    say "SKIPPED: the programs are built only: there is no io_uring here"
}

# The installed program, which finds the library as any program does.
[ "$(LD_LIBRARY_PATH=$libdir "$prefix/bin/ringmsg" --version)" = "ringmsg $version" ] || die "ringmsg --version"
if readelf -d "$prefix/bin/ringmsg" | grep -qE 'R(UN)?PATH'; then die "ringmsg has a run path"; fi
say "ok: the program ringmsg"

for standard in c99 c17 c++17 c++20; do variants $standard smoke.c; done
variants gnu99 examples/udp_send.c # other examples start it
for source in examples/*.c; do variants gnu17 "$source"; done
for source in examples/*.cpp; do variants c++20 "$source"; done

# --- CMake -----------------------------------------------------------------------------------
if command -v cmake >/dev/null; then
    quiet cmake -S . -B cmake -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Debug
    quiet cmake --build cmake -j2
    for source in examples/*.c examples/*.cpp smoke.c; do
        name=$(basename "$source")
        for library in ringmsg static; do
            program=cmake/${name/./_}_$library
            run "$name" "$program" "cmake/udp_send_c_$library"
        done
        uses_library "$name" "cmake/${name/./_}_ringmsg" || die "CMake: $name does not use the shared library"
        needed "cmake/${name/./_}_static" libringmsg && die "CMake: $name needs the shared library"
    done
    say "ok: CMake, ringmsg::ringmsg and ringmsg::static"
else
    say "NOT CHECKED: CMake (apt-get install cmake)"
fi

# --- debug information -----------------------------------------------------------------------
install install-debug
if command -v gdb >/dev/null; then
    gdb -batch -ex 'info line ringmsg_reap' "$libdir/libringmsg.so" 2>&1 | grep -q 'reap\.rs' || die "gdb finds no debug information"
fi

# --- uninstall -------------------------------------------------------------------------------
install uninstall
left=$(find "$prefix" ! -type d)
[ -z "$left" ] || die "uninstall left $left"
say "ok: uninstall"
