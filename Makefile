# make                    builds the library (target/release)
# make test               runs every test, and sets up what the tests need
# make demo               runs a receiver against a sender, and accounts for every datagram
# make examples           builds examples-c/ into build/examples
# make header             generates include/ringmsg.h from src/, and docs/man from the header
# make lint               checks formatting, clippy and rustdoc
# make clean              removes everything that was built
# make help               lists these targets

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

# Prints the lines of the makefiles that begin with `# make`, and their continuation lines, which
# are indented by ten blanks or more.
help:
	@sed -n -e 's/^# \(make .*\)/\1/p' -e 's/^# \(          .*\)/\1/p' $(MAKEFILE_LIST)

need = @command -v $(1) >/dev/null || { echo "missing: $(1); install it with: $(2)" >&2; exit 1; }

.PHONY: tools test-tools
tools:
	$(call need,$(CARGO),apt-get install cargo (or rustup; Rust 1.85 or later))
	$(call need,$(firstword $(CC)),apt-get install gcc libc6-dev)

test-tools: tools
	$(call need,c++,apt-get install g++)
	$(call need,cargo-fmt,rustup component add rustfmt)
	$(call need,cargo-clippy,rustup component add clippy)

# The libraries that C programs link with. No rlib: with one, cargo builds without LTO.
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

# Needs no C++ compiler.
demo: build $(EXAMPLES)
	@sh examples-c/demo.sh build/examples

lint: test-tools
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

# Skipped tests are counted, and listed with the reason.
SKIPPED := $(abspath $(CARGO_TARGET_DIR))/tmp/skipped
test-rust: test-tools
	rm -rf $(SKIPPED)
	$(CARGO) test --locked
	@if [ -d $(SKIPPED) ]; then cd $(SKIPPED) && grep -H . *; echo "$$(ls | wc -l) skipped"; else echo "0 skipped"; fi

# Everything that CI checks. The included files add prerequisites, among them short forms of the
# slow proofs (make soak, fuzz).
test: lint test-rust test-python test-go test-sandboxed

header:
	RINGMSG_UPDATE_HEADER=1 $(CARGO) test --locked --test header the_committed_header_is_generated_from_src
	$(MAKE) man

clean:
	$(CARGO) clean
	rm -rf build
