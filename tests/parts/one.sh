#!/bin/sh
# Runs one behaviour: `make test T=NAME [MODE=mode]`. NAME is, in the order in which it is looked
# for, a program of tests/c, a test in one of them, a test of the Python package, a test of the Go
# package, or a test of cargo.
#   one.sh NAME MODE
set -eu
name=$1 mode=$2
make=${MAKE:-make}

if [ -e "tests/c/$name.c" ]; then
    exec $make -s test-c T="$name" MODE="$mode"
fi
program=$(grep -lE "TEST(_SQPOLL_TOO)?\($name\)" tests/c/*.c | head -n 1)
if [ -n "$program" ]; then
    exec $make -s test-c T="$(basename "$program" .c)" MODE="$mode" ONLY="$name"
fi
if [ "$mode" != all ]; then
    echo "MODE=$mode selects among the tests of tests/c, which have none named $name" >&2
    exit 2
fi
if grep -qE "def (test_)?$name\(" bindings/python/tests/test_*.py; then
    exec $make -s test-python PYTEST_ARGUMENTS="-k $name"
fi
if grep -qE "^func $name\(" bindings/go/*_test.go bindings/go/uring/*_test.go; then
    exec $make -s test-go-one T="$name"
fi
if ! cargo test --locked -- --list 2>/dev/null | grep -qE "(^|::)$name: test$"; then
    echo "no test is named $name: neither in tests/c, in bindings, nor in cargo test -- --list" >&2
    exit 2
fi
exec cargo test --locked -- "$name"
