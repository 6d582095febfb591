# The bindings: included by the Makefile.
# make test-python  tests the Python package, in a virtual environment of its own (.venv)
# make bench-python measures it beside socket, asyncio and uvloop
# make test-go      tests the Go package; with quic-go, in a nested module
# make bench-go     measures what a Go Conn costs beside net.UDPConn
# make test-clients runs real clients of the bindings, from their registries, on ours and on the standard library's sockets
# make test-sandboxed  tests both where io_uring is forbidden: on the recvmmsg engine

PYTHON ?= python3
PYTHON_DIR := bindings/python
VENV := .venv
# What a checkout's own programs find the library by.
PKGCONFIG_DIR := $(CURDIR)/target/pkgconfig

.PHONY: test-python bench-python test-sandboxed
# What the bindings promise holds in a container whose seccomp filter forbids io_uring.
test-sandboxed: build/tests/without_io_uring build $(VENV)/.ready $(PKGCONFIG_DIR)/ringmsg.pc
	cd $(PYTHON_DIR) && PYTHONPATH=src $(abspath $<) $(abspath $(VENV))/bin/python -m pytest -q
	PKG_CONFIG_PATH=$(PKGCONFIG_DIR) LD_LIBRARY_PATH=$(PROFILE_DIR) RINGMSG_LIBRARY_DIR=$(PROFILE_DIR) \
	RINGMSG_INCLUDE_DIR=$(CURDIR)/include $(abspath $<) sh bindings/go/test.sh short

build/tests/without_io_uring: tests/sandbox/without_io_uring.c
	@mkdir -p $(@D)
	$(CC) -O2 -Wall -Wextra $< -o $@

test-python: build $(VENV)/.ready
	cd $(PYTHON_DIR) && PYTHONPATH=src $(abspath $(VENV))/bin/python -m pytest -q

bench-python: build $(VENV)/.ready
	PYTHONPATH=$(PYTHON_DIR)/src $(VENV)/bin/python $(PYTHON_DIR)/benchmarks/receive.py

$(VENV)/.ready: $(PYTHON_DIR)/tests/requirements.txt
	$(call need,$(PYTHON),apt-get install python3 python3-venv)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -r $<
	touch $@


$(PKGCONFIG_DIR)/ringmsg.pc: bindings/bindings.mk Cargo.toml
	mkdir -p $(PKGCONFIG_DIR)
	printf '%s\n' 'Name: ringmsg' 'Description: receive messages with io_uring' \
		"Version: $$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)" \
		'Libs: -L$(PROFILE_DIR) -lringmsg' 'Cflags: -I$(CURDIR)/include' > $@

# Go 1.24 or later: the one in the path, or the one from PyPI in the project's .venv.
.PHONY: test-go
test-go: build $(PKGCONFIG_DIR)/ringmsg.pc
	PKG_CONFIG_PATH=$(PKGCONFIG_DIR) LD_LIBRARY_PATH=$(PROFILE_DIR) \
	RINGMSG_LIBRARY_DIR=$(PROFILE_DIR) RINGMSG_INCLUDE_DIR=$(CURDIR)/include sh bindings/go/test.sh

.PHONY: bench-go
bench-go: build $(PKGCONFIG_DIR)/ringmsg.pc
	cd bindings/go && PKG_CONFIG_PATH=$(PKGCONFIG_DIR) LD_LIBRARY_PATH=$(PROFILE_DIR) go run ./bench/conn $(BENCH_GO)

# Not part of `make test`: it downloads the clients.
.PHONY: test-clients test-clients-go
test-clients: test-clients-go
test-clients-go: build $(PKGCONFIG_DIR)/ringmsg.pc
	PKG_CONFIG_PATH=$(PKGCONFIG_DIR) LD_LIBRARY_PATH=$(PROFILE_DIR) sh tests/clients/go.sh
