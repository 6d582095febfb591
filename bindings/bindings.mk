# The bindings. The Makefile includes this file.
#
# make test-python        tests the Python package, in a virtual environment (.venv)
# make bench-python       measures the Python package beside socket, asyncio and uvloop
# make bench-quic         measures aioquic's bulk transfer on our asyncio endpoint and the loop's
# make wheels             builds wheels for glibc 2.17, x86-64 and aarch64 [RUSTC=/usr/bin/rustc]
# make test-wheel-arm64   runs the aarch64 wheel that `make wheels` built, by qemu-user
# make test-go            tests the Go package, also with quic-go in a nested module
# make bench-go           measures a Go Conn beside net.UDPConn [BENCH_GO='-rounds 5 -only churn']
# make test-clients       runs real programs on both packages: PyPI and Go modules, about 15 minutes
# make test-sandboxed     tests both packages where a seccomp filter forbids io_uring, on recvmmsg

PYTHON ?= python3
PYTHON_DIR := bindings/python
VENV := .venv
# The pkg-config file for programs of this checkout.
PKGCONFIG_DIR := $(CURDIR)/target/pkgconfig

.PHONY: test-python bench-python test-sandboxed
# The tests of the bindings pass in a container whose seccomp filter forbids io_uring.
test-sandboxed: build/tests/without_io_uring build $(VENV)/.ready $(PKGCONFIG_DIR)/ringmsg.pc
	cd $(PYTHON_DIR) && PYTHONPATH=src $(abspath $<) $(abspath $(VENV))/bin/python -m pytest -q -rs
	PKG_CONFIG_PATH=$(PKGCONFIG_DIR) LD_LIBRARY_PATH=$(PROFILE_DIR) RINGMSG_LIBRARY_DIR=$(PROFILE_DIR) \
	RINGMSG_INCLUDE_DIR=$(CURDIR)/include GOFLAGS=-v $(abspath $<) sh bindings/go/test.sh short

build/tests/without_io_uring: tests/sandbox/without_io_uring.c
	@mkdir -p $(@D)
	$(CC) -O2 -Wall -Wextra $< -o $@

# Needs Python 3.10 or later with its module venv.
test-python: build $(VENV)/.ready
	cd $(PYTHON_DIR) && PYTHONPATH=src $(abspath $(VENV))/bin/python -m pytest -q -rs $(PYTEST_ARGUMENTS)

bench-python: build $(VENV)/.ready
	for program in receive endpoints objects sending; do \
	  PYTHONPATH=$(PYTHON_DIR)/src $(VENV)/bin/python $(PYTHON_DIR)/benchmarks/$$program.py || exit 1; done

.PHONY: bench-quic
bench-quic: build
	tests/clients/python.sh bench $(BENCH_QUIC)

# Not part of `make test`: they download their clients. `make test-clients-go` runs one of them alone.
.PHONY: test-clients test-clients-python test-clients-go
test-clients: test-clients-python test-clients-go
test-clients-python: build
	tests/clients/python.sh
test-clients-go: build $(PKGCONFIG_DIR)/ringmsg.pc
	PKG_CONFIG_PATH=$(PKGCONFIG_DIR) LD_LIBRARY_PATH=$(PROFILE_DIR) sh tests/clients/go.sh

WHEEL_TARGETS := x86_64-unknown-linux-gnu.2.17 aarch64-unknown-linux-gnu.2.17
.PHONY: wheels
wheels: tools
	$(call need,$(PYTHON),apt-get install python3 python3-venv)
	sh $(PYTHON_DIR)/wheels.sh $(PYTHON) $(WHEEL_TARGETS)

.PHONY: test-wheel-arm64
test-wheel-arm64:
	@ls build/wheels/*aarch64.whl >/dev/null || { echo "no aarch64 wheel: make wheels" >&2; exit 1; }
	$(PYTHON_DIR)/tests/emulated.sh build/wheels/*aarch64.whl build/emulated

$(VENV)/.ready: $(PYTHON_DIR)/tests/requirements.txt
	$(call need,$(PYTHON),apt-get install python3 python3-venv)
	@echo "will download: the packages of $<, from PyPI into $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -r $<
	touch $@


$(PKGCONFIG_DIR)/ringmsg.pc: bindings/bindings.mk Cargo.toml
	mkdir -p $(PKGCONFIG_DIR)
	printf '%s\n' 'Name: ringmsg' 'Description: receive messages with io_uring' \
		"Version: $$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)" \
		'Libs: -L$(PROFILE_DIR) -lringmsg' 'Cflags: -I$(CURDIR)/include' > $@

# Needs Go 1.24 or later, in the path or from PyPI in the project's .venv. GOFLAGS=-v: every test is
# printed, so that tests/parts/run.sh can count them.
GO_TESTS = PKG_CONFIG_PATH=$(PKGCONFIG_DIR) LD_LIBRARY_PATH=$(PROFILE_DIR) \
	RINGMSG_LIBRARY_DIR=$(PROFILE_DIR) RINGMSG_INCLUDE_DIR=$(CURDIR)/include GOFLAGS=-v
.PHONY: test-go test-go-short test-go-one
test-go: build $(PKGCONFIG_DIR)/ringmsg.pc
	$(GO_TESTS) sh bindings/go/test.sh

# Part of `make test`: without the race detector, the static programs and quic-go.
test-go-short: build $(PKGCONFIG_DIR)/ringmsg.pc
	$(GO_TESTS) sh bindings/go/test.sh short

test-go-one: build $(PKGCONFIG_DIR)/ringmsg.pc
	cd bindings/go && $(GO_TESTS) go test -count=1 -run '^$(T)$$' . ./uring

.PHONY: bench-go
bench-go: build $(PKGCONFIG_DIR)/ringmsg.pc
	cd bindings/go && PKG_CONFIG_PATH=$(PKGCONFIG_DIR) LD_LIBRARY_PATH=$(PROFILE_DIR) go run ./bench/conn $(BENCH_GO)
