# Proofs. The Makefile includes this file, and docs/reliability.md says what each proof shows.
#
# make test-c T=waiting [MODE=defer] [ONLY=no_wake_is_lost]
#                         runs one program of tests/c: every test in every mode, one mode, one test
# make soak SECONDS=60 SEED=1 [MODE=defer]
#                         sends millions of datagrams, injects faults, accounts for every datagram
# make flood              measures what a flood of empty datagrams costs
# make linger-table       simulates the linger AUTO on random machines: the table of
#                         docs/lingering.md
# make cost               measures what a datagram, a train and an answer cost a loaded processor
# make arming             measures how a mode affects the thread that armed a request
# make scaling            measures as make cost does, and rewrites the tables of docs/scaling.md
# make fuzz SECONDS=30    replays fuzz/corpus, then runs the four fuzzers
# make fuzz-replay        replays fuzz/corpus
# make fuzz-coverage      measures the lines of src that fuzz/corpus reaches, and rewrites the table
#                         in docs/reliability.md
# make fuzz-minimise      drops inputs that reach nothing which others do not; adds those found by
#                         `make test` and by FOUND=folder/of/each/fuzzer
# make check-memory       runs the C tests under valgrind, AddressSanitizer and
#                         UndefinedBehaviorSanitizer
# make abi                rewrites tests/abi/baseline.abi after a deliberate change
# make check-abi          compares the C interface with tests/abi/baseline.abi
# make check-deny         checks licences, versions and sources of dependencies against deny.toml
# make check-instructions compares instructions per record, and per message sent, with the
#                         committed figures (5 %) and limits, and per call beside 10 and beside
#                         8,000 sockets
# make instructions       counts instructions and rewrites figures.txt and sending.txt in
#                         benches/instructions
# make test-kernels [SERIES="6.1 6.12"] [ONLY=basic,gro]
#                         runs the C tests on Debian's kernels under qemu, and rewrites the table in
#                         docs/compatibility.md; takes minutes per kernel with KVM, ten without
# make test-kernels ARCH=arm64 [SERIES=6.1] [ONLY=basic,gro]
#                         the same on an emulated aarch64, with a table of its own
# make test-sysctl        tests kernel.io_uring_disabled on this machine, and restores it (root)
# make netns              runs soak and flood between two network namespaces, MTU 1500 (root)

SECONDS ?= 60
SEED ?= 1
MODE ?= all
PROOF_DIR := target/proof
PROOF_CC = $(CC) -std=c11 -O2 -g -Wall -Wextra -Wpedantic -Werror -Iinclude
PROOF_LINK = -L$(PROFILE_DIR) -lringmsg -lpthread
WITH_LIBRARY = LD_LIBRARY_PATH=$(PROFILE_DIR)

$(PROOF_DIR):
	mkdir -p $@

# One program of tests/c, compiled and run.
C_TESTS := $(sort $(notdir $(basename $(wildcard tests/c/*.c))))
.PHONY: test-c
test-c: build | $(PROOF_DIR)
	@[ -n "$(filter $(T),$(C_TESTS))" ] || { \
	  echo "usage: make test-c T=program [MODE=mode] [ONLY=test]; the programs are:" >&2; \
	  echo "$(C_TESTS)" | fold -s >&2; exit 2; }
	$(PROOF_CC) tests/c/$(T).c -o $(PROOF_DIR)/test-$(T) $(PROOF_LINK)
	$(WITH_LIBRARY) $(PROOF_DIR)/test-$(T) $(MODE) $(ONLY)

.PHONY: soak
soak: build | $(PROOF_DIR)
	$(PROOF_CC) tests/soak/*.c -o $(PROOF_DIR)/soak $(PROOF_LINK)
	$(WITH_LIBRARY) $(PROOF_DIR)/soak $(SECONDS) $(SEED) $(MODE)

.PHONY: flood
flood: build | $(PROOF_DIR)
	$(PROOF_CC) tests/flood/flood.c -o $(PROOF_DIR)/flood $(PROOF_LINK)
	$(WITH_LIBRARY) $(PROOF_DIR)/flood 3

.PHONY: cost arming scaling
cost arming: build | $(PROOF_DIR)
	$(PROOF_CC) tests/cost/$@.c -o $(PROOF_DIR)/$@ $(PROOF_LINK)
	$(WITH_LIBRARY) $(PROOF_DIR)/$@

# Part of `make proof`: checks that both programs build, and runs the first one.
.PHONY: test-cost
test-cost: build | $(PROOF_DIR)
	for program in cost arming; do \
	  $(PROOF_CC) tests/cost/$$program.c -o $(PROOF_DIR)/$$program $(PROOF_LINK) || exit 1; \
	  echo "ok: $$program builds"; \
	done
	$(WITH_LIBRARY) $(PROOF_DIR)/cost 1
	@echo "ok: cost runs"

scaling: build | $(PROOF_DIR)
	$(PROOF_CC) tests/cost/cost.c -o $(PROOF_DIR)/cost $(PROOF_LINK)
	$(WITH_LIBRARY) $(PROOF_DIR)/cost 15 > $(PROOF_DIR)/costs
	awk -f docs/scaling.awk -v costs=$(PROOF_DIR)/costs -v machine="$$(sh tests/cost/machine.sh)" \
	  docs/scaling.md > docs/scaling.md.new
	mv docs/scaling.md.new docs/scaling.md

.PHONY: netns
netns: build | $(PROOF_DIR)
	$(PROOF_CC) tests/soak/*.c -o $(PROOF_DIR)/soak $(PROOF_LINK)
	$(PROOF_CC) tests/flood/flood.c -o $(PROOF_DIR)/flood $(PROOF_LINK)
	$(PROOF_CC) tests/flood/trains.c -o $(PROOF_DIR)/trains $(PROOF_LINK)
	tests/netns.sh $(PROOF_DIR) $(PROFILE_DIR) $(SECONDS) $(SEED)

# Lets a stable compiler accept the nightly flags of cargo-fuzz and of the sanitizers.
UNSTABLE = RUSTC_BOOTSTRAP=1
FUZZERS = record control calls send

# If cargo-fuzz is not installed, it is built into target/tools.
CARGO_FUZZ := $(or $(shell command -v cargo-fuzz),target/tools/bin/cargo-fuzz)
target/tools/bin/cargo-fuzz:
	@echo "will download: cargo-fuzz, from crates.io, and build it into target/tools (minutes)"
	$(CARGO) install cargo-fuzz --locked --root target/tools
FUZZ = $(UNSTABLE) PATH="$(abspath target/tools/bin):$$PATH" $(CARGO) fuzz run

.PHONY: fuzz fuzz-replay fuzz-coverage fuzz-minimise
fuzz: tools $(CARGO_FUZZ)
	for fuzzer in $(FUZZERS); do \
	  $(FUZZ) $$fuzzer -- -max_total_time=$(SECONDS) -max_len=400 -timeout=20 || exit 1; \
	done

fuzz-replay: tools $(CARGO_FUZZ)
	for fuzzer in $(FUZZERS); do $(FUZZ) $$fuzzer -- -runs=0 || exit 1; done

fuzz-coverage: tools
	fuzz/coverage.sh

FOUND ?= $(PROOF_DIR)/corpus
fuzz-minimise: tools $(CARGO_FUZZ)
	for fuzzer in $(FUZZERS); do \
	  rm -rf $(PROOF_DIR)/minimal && mkdir -p $(PROOF_DIR)/minimal $(FOUND)/$$fuzzer && \
	  $(FUZZ) $$fuzzer $(PROOF_DIR)/minimal fuzz/corpus/$$fuzzer $(FOUND)/$$fuzzer -- -merge=1 -max_len=400 && \
	  rm -rf fuzz/corpus/$$fuzzer && mv $(PROOF_DIR)/minimal fuzz/corpus/$$fuzzer || exit 1; \
	done

# Parts of `make proof`. New inputs that the fuzzers find go to a folder of their own.
.PHONY: test-soak test-fuzz
test-soak: build | $(PROOF_DIR)
	$(PROOF_CC) tests/soak/*.c -o $(PROOF_DIR)/soak $(PROOF_LINK)
	@status=0; $(WITH_LIBRARY) $(PROOF_DIR)/soak 60 1 || status=$$?; \
	  if [ $$status = 77 ]; then echo "SKIPPED soak: io_uring is unavailable"; exit 0; fi; \
	  [ $$status = 0 ] && echo "ok: every datagram is accounted for"

test-fuzz: tools $(CARGO_FUZZ)
	for fuzzer in $(FUZZERS); do \
	  mkdir -p $(PROOF_DIR)/corpus/$$fuzzer && \
	  $(FUZZ) $$fuzzer $(PROOF_DIR)/corpus/$$fuzzer fuzz/corpus/$$fuzzer -- \
	    -max_total_time=30 -max_len=400 -timeout=20 2>$(PROOF_DIR)/$$fuzzer.log || \
	    { tail -n 60 $(PROOF_DIR)/$$fuzzer.log >&2; exit 1; }; \
	  grep -E 'INITED|DONE' $(PROOF_DIR)/$$fuzzer.log && echo "ok: $$fuzzer"; \
	done

.PHONY: check-memory check-valgrind check-sanitizers check-rust-sanitizer
check-memory: check-valgrind check-sanitizers check-rust-sanitizer

check-valgrind: build
	$(call need,valgrind,apt-get install valgrind)
	LIBRARY_DIR=$(PROFILE_DIR) tests/memory.sh valgrind

check-sanitizers: build
	LIBRARY_DIR=$(PROFILE_DIR) tests/memory.sh sanitizers

# Runs the library's own tests, and then the C tests, with an instrumented library. (The code that
# rustc instruments uses gcc's sanitizer runtime, which has the same interface.)
check-rust-sanitizer: HOST = $$(rustc -vV | sed -n 's/^host: //p')
check-rust-sanitizer: ASAN = $(UNSTABLE) RUSTFLAGS="-Zsanitizer=address"
check-rust-sanitizer: tools
	$(ASAN) $(CARGO) test --locked --lib --test allocation --target $(HOST) --target-dir target/asan
	$(ASAN) $(CARGO) build --locked --release --lib --target $(HOST) --target-dir target/asan
	ln -sf libringmsg.so target/asan/$(HOST)/release/libringmsg.so.0
	LIBRARY_DIR=target/asan/$(HOST)/release tests/memory.sh instrumented

# libabigail cannot read the types in a Rust library. So it compares a C library with the same
# functions, generated from the header: the interface that C programs are compiled against. The
# recipe also checks that the real library exports the same symbols.
ABI_BASELINE := tests/abi/baseline.abi
ABI_STUB := $(PROOF_DIR)/libringmsg-abi.so

$(ABI_STUB): include/ringmsg.h | $(PROOF_DIR)
	{ echo '#include <ringmsg.h>'; \
	  $(CC) -E -P -Iinclude include/ringmsg.h | tr '\n' ' ' | sed 's/;/;\n/g' | \
	    grep -E '^ *[a-z][a-z0-9_ *]*\bringmsg_[a-z0-9_]+\(' | sed 's/;$$/ { __builtin_trap(); }/'; \
	} > $(PROOF_DIR)/abi.c
	$(CC) -std=c11 -g -O0 -fPIC -shared -w -Iinclude -Wl,-soname,libringmsg.so.0 $(PROOF_DIR)/abi.c -o $@
	@nm -D --defined-only $@ | sed -n 's/.* T \(ringmsg_.*\)/\1/p' | sort > $(PROOF_DIR)/abi.header
	@nm -D --defined-only $(PROFILE_DIR)/libringmsg.so | sed -n 's/.* T \(ringmsg_.*\)/\1/p' | sort | \
	  diff $(PROOF_DIR)/abi.header - || { echo "the library does not export what the header declares" >&2; rm -f $@; exit 1; }

.PHONY: linger-table
linger-table: tools
	$(CARGO) test --locked --test linger -- --ignored --nocapture table

.PHONY: abi check-abi
abi: build $(ABI_STUB)
	$(call need,abidw,apt-get install abigail-tools)
	mkdir -p $(dir $(ABI_BASELINE))
	abidw --no-corpus-path --no-comp-dir-path --no-show-locs --out-file $(ABI_BASELINE) $(ABI_STUB)

check-abi: build $(ABI_STUB)
	$(call need,abidiff,apt-get install abigail-tools)
	@abidiff $(ABI_BASELINE) $(ABI_STUB) || \
	  { echo "the C interface has changed; if that is intended: make abi, and commit $(ABI_BASELINE)" >&2; exit 1; }
	@echo "ok: the C interface is that of $(ABI_BASELINE)"

# Part of `make test` where the tool is installed.
.PHONY: test-abi
test-abi: build
	@if command -v abidiff >/dev/null; then $(MAKE) --no-print-directory check-abi; \
	 else echo "SKIPPED check-abi: no abidiff; apt-get install abigail-tools provides it"; fi

# Checks the licences, duplicate versions and sources of the dependencies against deny.toml, without
# a network. If cargo-deny is not installed, it is built into target/tools, which takes minutes, so
# `make test` runs the check only if cargo-deny exists. Advisories need a database from the network:
# `cargo deny check advisories`.
CARGO_DENY := $(or $(shell command -v cargo-deny),target/tools/bin/cargo-deny)
target/tools/bin/cargo-deny:
	@echo "will download: cargo-deny, from crates.io, and build it into target/tools (minutes)"
	$(CARGO) install cargo-deny --locked --root target/tools

.PHONY: check-deny test-deny
check-deny: tools $(CARGO_DENY)
	$(CARGO_DENY) --offline check licenses bans sources
	@echo "ok: deny.toml"

test-deny: tools
	@if [ -x "$(CARGO_DENY)" ]; then $(MAKE) --no-print-directory check-deny; \
	 else echo "SKIPPED check-deny: no cargo-deny; make check-deny builds it"; fi

# Part of `make proof` if valgrind and liburing are installed.
INSTRUCTIONS := benches/instructions/count.sh $(PROFILE_DIR) $(PROOF_DIR)/instructions
SENDING_INSTRUCTIONS := benches/instructions/sending.sh $(PROFILE_DIR) $(PROOF_DIR)/instructions
.PHONY: instructions check-instructions
check-instructions: build
	@CC="$(CC)" $(INSTRUCTIONS) check
	@CC="$(CC)" $(SENDING_INSTRUCTIONS) check
	@CC="$(CC)" benches/instructions/growth.sh $(PROFILE_DIR) $(PROOF_DIR)/instructions

instructions: build
	@CC="$(CC)" $(INSTRUCTIONS) update
	@CC="$(CC)" $(SENDING_INSTRUCTIONS) update

# Not part of `make test`: downloads kernels, and takes an hour for all of them without KVM.
.PHONY: test-kernels test-sysctl library-arm64
ifeq ($(ARCH),arm64)
test-kernels: library-arm64
	ARCH=arm64 ONLY="$(ONLY)" tests/kernels/run.sh target/arm64/$(ARM64)/release $(or $(SERIES),6.1)
else
test-kernels: build
	ONLY="$(ONLY)" tests/kernels/run.sh $(PROFILE_DIR) $(SERIES)
endif

# The library for aarch64: by rustup's target where there is one, otherwise by Debian's rustc, whose
# standard library for arm64 is a package of that architecture.
ARM64 := aarch64-unknown-linux-gnu
ARM64_RUSTC = $(if $(shell ls -d $$(rustc --print sysroot)/lib/rustlib/$(ARM64) 2>/dev/null),,/usr/bin/rustc)
library-arm64: tools
	$(call need,aarch64-linux-gnu-gcc,apt-get install gcc-aarch64-linux-gnu)
	@[ -z "$(ARM64_RUSTC)" ] || ls -d /usr/lib/rustlib/$(ARM64) >/dev/null || { \
	  echo "no Rust library for arm64: rustup target add $(ARM64), or, as root," \
	    "dpkg --add-architecture arm64 && apt-get update &&" \
	    "apt-get install rustc-web libstd-rust-web-dev libstd-rust-web-dev:arm64" >&2; exit 1; }
	$(if $(ARM64_RUSTC),RUSTC=$(ARM64_RUSTC)) CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	  $(CARGO) $(LIBRARIES) --target $(ARM64) --target-dir target/arm64

# Not part of `make test`: while it runs, no other process on this machine can make a ring.
test-sysctl: build | $(PROOF_DIR)
	$(PROOF_CC) -Itests/c tests/kernels/sysctl.c -o $(PROOF_DIR)/sysctl $(PROOF_LINK)
	$(WITH_LIBRARY) $(PROOF_DIR)/sysctl
