# make            builds the library (target/release)
# make test       runs every test; does its own set-up
# make demo       runs a receiver against a sender, and checks that nothing is lost unseen
# make header     rewrites include/ringmsg.h from src/
# make help       lists the rest

CARGO ?= cargo
CC ?= cc
PROFILE_DIR := target/release
export CARGO_TERM_COLOR ?= auto

.PHONY: all build test test-rust lint header help clean
all: build

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

need = @command -v $(1) >/dev/null || { echo "missing: $(1); install it with: $(2)" >&2; exit 1; }

.PHONY: tools
tools:
	$(call need,$(CARGO),apt-get install cargo (or rustup; Rust 1.85 or later))
	$(call need,$(CC),apt-get install gcc)
	$(call need,c++,apt-get install g++)

build: tools
	$(CARGO) build --release --locked
	ln -sf libringmsg.so $(PROFILE_DIR)/libringmsg.so.0

lint: tools
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

test-rust: tools
	$(CARGO) build --locked
	$(CARGO) test --locked

test: lint test-rust

header:
	RINGMSG_UPDATE_HEADER=1 $(CARGO) test --locked --test header the_committed_header_is_what_src_says

clean:
	$(CARGO) clean

include tests/proof.mk
