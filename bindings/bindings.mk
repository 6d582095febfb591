# The bindings. The Makefile includes this file.
#
# make test-python        tests the Python package, in a virtual environment (.venv)
# make bench-python       measures the Python package beside socket, asyncio and uvloop
# make test-go            tests the Go package, also with quic-go in a nested module
# make test-sandboxed     tests both packages where a seccomp filter forbids io_uring, on recvmmsg

PYTHON ?= python3
PYTHON_DIR := bindings/python
VENV := .venv
# The pkg-config file for programs of this checkout.
PKGCONFIG_DIR := $(CURDIR)/target/pkgconfig

.PHONY: test-python bench-python test-sandboxed
# The tests of the bindings pass in a container whose seccomp filter forbids io_uring.
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

# Needs Go 1.24 or later, in the path or from PyPI in the project's .venv.
.PHONY: test-go
test-go: build $(PKGCONFIG_DIR)/ringmsg.pc
	PKG_CONFIG_PATH=$(PKGCONFIG_DIR) LD_LIBRARY_PATH=$(PROFILE_DIR) \
	RINGMSG_LIBRARY_DIR=$(PROFILE_DIR) RINGMSG_INCLUDE_DIR=$(CURDIR)/include sh bindings/go/test.sh
