# make            builds the library (target/release)
# make test       runs every test; does its own set-up
# make demo       runs a receiver against a sender, and checks that nothing is lost unseen
# make examples   builds examples-c/ (into build/examples)
# make test-python  tests the Python package, in a virtual environment of its own (.venv)
# make header     rewrites include/ringmsg.h from src/
# make help       lists the rest

CARGO ?= cargo
CC ?= cc
CARGO_TARGET_DIR ?= target
PROFILE_DIR := $(abspath $(CARGO_TARGET_DIR))/release
EXAMPLES := $(patsubst examples-c/%.c,build/examples/%,$(wildcard examples-c/*.c))
CFLAGS ?= -O2 -g
export CARGO_TERM_COLOR ?= auto

.PHONY: all build examples demo test test-rust lint header help clean
all: build

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

need = @command -v $(1) >/dev/null || { echo "missing: $(1); install it with: $(2)" >&2; exit 1; }

.PHONY: tools test-tools
tools:
	$(call need,$(CARGO),apt-get install cargo (or rustup; Rust 1.85 or later))
	$(call need,$(firstword $(CC)),apt-get install gcc libc6-dev)

test-tools: tools
	$(call need,c++,apt-get install g++)
	$(call need,cargo-fmt,rustup component add rustfmt)
	$(call need,cargo-clippy,rustup component add clippy)

build: tools
	$(CARGO) build --release --locked
	ln -sf libringmsg.so $(PROFILE_DIR)/libringmsg.so.0

examples: build $(EXAMPLES)

build/examples/%: examples-c/%.c $(wildcard examples-c/*.h) include/ringmsg.h
	@mkdir -p $(@D)
	$(CC) -std=c11 -Wall -Wextra -Wpedantic $(CFLAGS) -Iinclude $< -o $@ \
		-L$(PROFILE_DIR) -lringmsg -lpthread -Wl,-rpath,$(PROFILE_DIR)

demo: examples
	@sh examples-c/demo.sh build/examples

lint: test-tools
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

test-rust: test-tools
	$(CARGO) build --locked
	$(CARGO) test --locked

test: lint test-rust test-python

# --- Python ---

PYTHON ?= python3
PYTHON_DIR := bindings/python
VENV := .venv

.PHONY: test-python bench-python
test-python: build $(VENV)/.ready
	cd $(PYTHON_DIR) && PYTHONPATH=src $(abspath $(VENV))/bin/python -m pytest -q

bench-python: build $(VENV)/.ready
	PYTHONPATH=$(PYTHON_DIR)/src $(VENV)/bin/python $(PYTHON_DIR)/benchmarks/receive.py

$(VENV)/.ready: $(PYTHON_DIR)/tests/requirements.txt
	$(call need,$(PYTHON),apt-get install python3 python3-venv)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -r $<
	touch $@

header:
	RINGMSG_UPDATE_HEADER=1 $(CARGO) test --locked --test header the_committed_header_is_what_src_says

clean:
	$(CARGO) clean
