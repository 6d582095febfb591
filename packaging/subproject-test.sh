#!/usr/bin/env bash
# Builds and runs a program in projects that contain this one: with CMake's add_subdirectory, and as
# a subproject of meson, where these are installed.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/ringmsg-subproject.XXXXXX")
trap 'rm -rf "$work"' EXIT
cp "$checkout/tests/installed/smoke.c" "$work"
quiet() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; echo "FAILED: $*" >&2; exit 1; }; }
runs() { "$@" >/dev/null || [ $? = 77 ] || { echo "FAILED: $*" >&2; exit 1; }; }

if command -v cmake >/dev/null; then
    cat >"$work/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.16)
project(consumer C)
add_subdirectory($checkout ringmsg)
foreach(library ringmsg static)
  add_executable(smoke_\${library} smoke.c)
  target_link_libraries(smoke_\${library} PRIVATE ringmsg::\${library})
endforeach()
END
    quiet cmake -S "$work" -B "$work/cmake"
    quiet cmake --build "$work/cmake"
    for library in ringmsg static; do runs "$work/cmake/smoke_$library"; done
    readelf -d "$work/cmake/smoke_ringmsg" | grep -q 'NEEDED.*libringmsg.so.0'
    echo "ok: CMake, add_subdirectory"
else
    echo "SKIPPED CMake subproject: no cmake; apt-get install cmake provides it"
fi
if command -v meson >/dev/null; then
    mkdir -p "$work/subprojects"
    ln -s "$checkout" "$work/subprojects/ringmsg"
    cat >"$work/meson.build" <<'END'
project('consumer', 'c')
ringmsg = dependency('ringmsg', fallback: ['ringmsg', 'ringmsg_dep'])
executable('smoke', 'smoke.c', dependencies: ringmsg)
END
    quiet meson setup "$work/meson" "$work"
    quiet meson compile -C "$work/meson"
    runs "$work/meson/smoke"
    echo "ok: meson, subproject"
else
    echo "SKIPPED meson subproject: no meson; apt-get install meson provides it"
fi
