#!/bin/sh
# Called by meson.build: builds the libraries and copies the static one to where meson wants it.
#   meson-build.sh MAKE SOURCE_DIRECTORY OUTPUT TARGET_DIRECTORY
set -eu
output=$(realpath -m "$3")
env -u MAKEFLAGS "$1" -s -C "$2" CARGO_TARGET_DIR="$(realpath -m "$4")" finish
cp "$4/release/finished/libringmsg.a" "$output"
