# make            builds the library (target/release)
# make test       runs every test; does its own set-up
# make demo       runs a receiver against a sender, and checks that nothing is lost unseen
# make examples   builds examples-c/ (into build/examples)
# make header     rewrites include/ringmsg.h from src/, and docs/man from that
# make help       lists the rest

CARGO ?= cargo
CC ?= cc
CARGO_TARGET_DIR ?= target
PROFILE_DIR := $(abspath $(CARGO_TARGET_DIR))/release
EXAMPLES := $(patsubst examples-c/%.c,build/examples/%,$(wildcard examples-c/*.c))
CPP_EXAMPLES := $(patsubst examples-c/%.cpp,build/examples/%_cpp,$(wildcard examples-c/*.cpp))
CFLAGS ?= -O2 -g
export CARGO_TERM_COLOR ?= auto

.PHONY: all build examples demo test test-rust lint header help clean
all: build

include packaging/install.mk
include tests/proof.mk
include bindings/bindings.mk
include benches/bench.mk

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(MAKEFILE_LIST)

need = @command -v $(1) >/dev/null || { echo "missing: $(1); install it with: $(2)" >&2; exit 1; }

.PHONY: tools test-tools
tools:
	$(call need,$(CARGO),apt-get install cargo (or rustup; Rust 1.85 or later))
	$(call need,$(firstword $(CC)),apt-get install gcc libc6-dev)

test-tools: tools
	$(call need,c++,apt-get install g++)
	$(call need,cargo-fmt,rustup component add rustfmt)
	$(call need,cargo-clippy,rustup component add clippy)

# What C links with, and only that: where an rlib is asked for too, cargo builds without LTO.
LIBRARIES := rustc --release --locked --lib --crate-type cdylib,staticlib

build: tools
	$(CARGO) $(LIBRARIES)
	ln -sf libringmsg.so $(PROFILE_DIR)/libringmsg.so.0

examples: build $(EXAMPLES) $(CPP_EXAMPLES)

build/examples/%: examples-c/%.c $(wildcard examples-c/*.h) include/ringmsg.h
	@mkdir -p $(@D)
	$(CC) -std=c11 -Wall -Wextra -Wpedantic $(CFLAGS) -Iinclude $< -o $@ \
		-L$(PROFILE_DIR) -lringmsg -lpthread -Wl,-rpath,$(PROFILE_DIR)

build/examples/%_cpp: examples-c/%.cpp include/ringmsg.h include/ringmsg.hpp
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -Wall -Wextra -Wpedantic $(CFLAGS) -Iinclude $< -o $@ \
		-L$(PROFILE_DIR) -lringmsg -lpthread -Wl,-rpath,$(PROFILE_DIR)

# No C++ compiler needed.
demo: build $(EXAMPLES)
	@sh examples-c/demo.sh build/examples

lint: test-tools
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

# What could not be tried here is counted, with the reasons.
SKIPPED := $(abspath $(CARGO_TARGET_DIR))/tmp/skipped
test-rust: test-tools
	rm -rf $(SKIPPED)
	$(CARGO) test --locked
	@if [ -d $(SKIPPED) ]; then cd $(SKIPPED) && grep -H . *; echo "$$(ls | wc -l) skipped"; else echo "0 skipped"; fi

# Everything that CI checks. The slow proofs (make soak, fuzz, check-memory) have short forms here.
test: lint test-rust test-python test-go test-sandboxed

header:
	RINGMSG_UPDATE_HEADER=1 $(CARGO) test --locked --test header the_committed_header_is_generated_from_src
	$(MAKE) man

clean:
	$(CARGO) clean
	rm -rf build
