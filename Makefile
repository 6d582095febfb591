# make                    builds the library (target/release)
# make test               runs the tests that CI runs first: lint, unit tests, every behaviour in every
#                         mode, both bindings; sets up what they need
# make test T=NAME [MODE=defer]
#                         runs one behaviour: a program or a test of tests/c, of a binding, of cargo
# make proof              runs what takes longer: soak, fuzzers, instruction counts, race detector
# make demo               runs a receiver against a sender, and accounts for every datagram
# make examples           builds the examples and the program ringmsg into build/examples
# make figures            copies measured cells from a page of docs/performance into README.md
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

.PHONY: all build examples demo lint header help clean
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

# The paths of this checkout and of cargo's cache are not in the libraries, so that two builds in
# different folders are equal: make check-reproducible.
CARGO_HOME ?= $(HOME)/.cargo
REPRODUCIBLE = RUSTFLAGS="$(RUSTFLAGS) --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(CARGO_HOME)=/cargo"

build: tools
	$(REPRODUCIBLE) $(CARGO) $(LIBRARIES)
	ln -sf libringmsg.so $(PROFILE_DIR)/libringmsg.so.0

examples: build $(EXAMPLES) $(CPP_EXAMPLES) build/examples/ringmsg

build/examples/%: examples-c/%.c $(wildcard examples-c/*.h) include/ringmsg.h
	@mkdir -p $(@D)
	$(CC) -std=c11 -Wall -Wextra -Wpedantic $(CFLAGS) -Iinclude $< -o $@ \
		-L$(PROFILE_DIR) -lringmsg -lpthread -Wl,-rpath,$(PROFILE_DIR)

build/examples/%_cpp: examples-c/%.cpp include/ringmsg.h include/ringmsg.hpp
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -Wall -Wextra -Wpedantic $(CFLAGS) -Iinclude $< -o $@ \
		-L$(PROFILE_DIR) -lringmsg -lpthread -Wl,-rpath,$(PROFILE_DIR)

# Needs no C++ compiler.
demo: build $(EXAMPLES) build/examples/ringmsg
	@sh examples-c/demo.sh build/examples

lint: test-tools
	$(CARGO) fmt --check
	@echo "ok: formatting"
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@echo "ok: clippy"
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	@echo "ok: rustdoc"

# What CI checks. tests/parts/run.sh counts what passed, failed and was skipped in all parts.
.PHONY: test proof
test: test-tools
ifeq ($(origin T),command line)
	@MAKE="$(MAKE)" tests/parts/one.sh "$(T)" "$(MODE)"
else
	@tests/parts/run.sh "make test" tests/parts/test.list
endif

proof: test-tools
	@tests/parts/run.sh "make proof" tests/parts/proof.list

# Parts of `make test`. A test that is skipped leaves its reason in a file.
SKIPPED := $(abspath $(CARGO_TARGET_DIR))/tmp/skipped
CARGO_TEST := $(CARGO) test --locked --no-fail-fast
STRUCTURE := architecture header abi man docs
EXAMPLE_TESTS := examples ringmsg_program
PROGRAMS := snippets cpp_programs allocation system_calls seccomp answering
.PHONY: test-structure test-c-programs test-rust-programs test-examples
test-structure:
	$(CARGO_TEST) $(addprefix --test ,$(STRUCTURE))

test-c-programs:
	$(CARGO_TEST) --test c_programs -- --nocapture

test-rust-programs test-examples:
	rm -rf $(SKIPPED)
	$(CARGO_TEST) $(addprefix --test ,$(if $(filter test-examples,$@),$(EXAMPLE_TESTS),$(PROGRAMS)))
	@[ ! -d $(SKIPPED) ] || { cd $(SKIPPED) && for name in *; do echo "SKIPPED $$name: $$(cat $$name)"; done; }

.PHONY: figures
figures:
	awk -f docs/figures.awk docs/performance/amd-epyc-2.md README.md > README.md.new
	mv README.md.new README.md

header:
	RINGMSG_UPDATE_HEADER=1 $(CARGO) test --locked --test header the_committed_header_is_generated_from_src
	$(MAKE) man

clean:
	$(CARGO) clean
	rm -rf build
