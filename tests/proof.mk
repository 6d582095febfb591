# Proofs: included by the Makefile. docs/reliability.md says what each shows.
# make soak SECONDS=60 SEED=1 [MODE=defer]   datagrams by the million, faults at random, all accounted for
# make fuzz SECONDS=30                       the three fuzzers; replays fuzz/corpus first
# make check-memory                          valgrind, AddressSanitizer, UndefinedBehaviorSanitizer
# make abi                                   rewrites tests/abi/baseline.abi after a deliberate change
# make check-abi                             compares with it
# make netns                                 two network namespaces, MTU 1500 (needs root)

SECONDS ?= 60
SEED ?= 1
MODE ?= all
PROOF_DIR := target/proof
PROOF_CC = $(CC) -std=c11 -O2 -g -Wall -Wextra -Wpedantic -Werror -Iinclude
PROOF_LINK = -L$(PROFILE_DIR) -lringmsg -lpthread
WITH_LIBRARY = LD_LIBRARY_PATH=$(PROFILE_DIR)

$(PROOF_DIR):
	mkdir -p $@

.PHONY: soak
soak: build | $(PROOF_DIR)
	$(PROOF_CC) tests/soak/*.c -o $(PROOF_DIR)/soak $(PROOF_LINK)
	$(WITH_LIBRARY) $(PROOF_DIR)/soak $(SECONDS) $(SEED) $(MODE)

# The nightly flags of cargo-fuzz and of the sanitizers work on a stable compiler with this.
UNSTABLE = RUSTC_BOOTSTRAP=1
FUZZERS = record control calls

.PHONY: fuzz
fuzz: tools
	@command -v cargo-fuzz >/dev/null || { echo "missing: cargo-fuzz; install it with: cargo install cargo-fuzz --locked" >&2; exit 1; }
	for fuzzer in $(FUZZERS); do \
	  $(UNSTABLE) cargo fuzz run $$fuzzer -- -max_total_time=$(SECONDS) -max_len=400 -timeout=20 || exit 1; \
	done

.PHONY: check-memory check-valgrind check-sanitizers check-rust-sanitizer
check-memory: check-valgrind check-sanitizers check-rust-sanitizer

# A release build without link-time optimisation, so that reports name functions.
check-valgrind: build
	$(call need,valgrind,apt-get install valgrind)
	tests/memory.sh valgrind

check-sanitizers: build
	tests/memory.sh sanitizers

check-rust-sanitizer: tools
	$(UNSTABLE) RUSTFLAGS="-Zsanitizer=address" $(CARGO) test --locked --lib \
	  --target $$(rustc -vV | sed -n 's/^host: //p') --target-dir target/asan

ABI_BASELINE := tests/abi/baseline.abi

.PHONY: abi check-abi
abi: build
	$(call need,abidw,apt-get install abigail-tools)
	mkdir -p $(dir $(ABI_BASELINE))
	abidw --headers-dir include --no-corpus-path --no-comp-dir-path --drop-private-types \
	  --out-file $(ABI_BASELINE) $(PROFILE_DIR)/libringmsg.so

check-abi: build
	$(call need,abidiff,apt-get install abigail-tools)
	abidiff --headers-dir2 include --drop-private-types $(ABI_BASELINE) $(PROFILE_DIR)/libringmsg.so
