# The benchmark. The Makefile includes this file, and docs/performance.md says what it measures.
#
# make bench [ROUNDS=5] [CELLS='paced-50k/ringmsg-auto ping'] [SECONDS=0.5]
#                         measures all receivers and servers side by side, writes this machine's
#                         file in benches/results, and rewrites docs/performance.md
# make bench-list         lists the cells
# make bench-report       rewrites docs/performance.md, docs/performance/ and their plots from
#                         benches/results
# make bench-linger [ROUNDS=9] [SECONDS=2] [CELLS='linger-one linger-two/bursts']
#                         measures the linger AUTO beside fixed lingers, on one processor and on two
# make bench-dns [ROUNDS=5] [SECONDS=2] [CELLS='dns-10k-two /dns-nsd']
#                         measures examples-c/dns_responder beside the same responder on the socket
#                         calls, nsd and knot, under load of dnsperf; needs root
# make bench-relay [ROUNDS=5] [SECONDS=0.5]
#                         measures the loop of examples-c/udp_relay with 200 flows of 1200 bytes
# make bench-sending [ROUNDS=300]
#                         measures sending alone, and an echo without its wake-ups, against loops
#                         written by hand: the tables of docs/sending.md

BENCH_DIR := build/bench
BENCH_CC = $(CC) -std=gnu11 -O2 -g -Wall -Wextra -Iinclude
BENCH_COMMON := benches/harness.c benches/sender.c
BENCH_HEADERS := benches/harness.h benches/sender.h
BENCH_PROGRAMS := $(foreach family,receive answer,$(addprefix $(BENCH_DIR)/$(family)_,sockets uring ringmsg quinn))
ANSWERING := benches/answering/harness.c benches/answering/clients.c
QUINN := $(BENCH_DIR)/quinn/release/libquinn_receiver.a

$(BENCH_DIR)/receive_%: benches/receive_%.c $(BENCH_COMMON) $(BENCH_HEADERS)
	@mkdir -p $(@D)
	$(BENCH_CC) $(BENCH_COMMON) $< -o $@ $(BENCH_LINK)

$(BENCH_DIR)/answer_%: benches/answering/by_%.c $(ANSWERING) $(wildcard benches/answering/*.h) benches/by_hand.h
	@mkdir -p $(@D)
	$(BENCH_CC) $(ANSWERING) $< -o $@ $(BENCH_LINK)

$(BENCH_DIR)/dns_%: benches/dns/by_%.c benches/dns/responder.h examples-c/dns.h
	@mkdir -p $(@D)
	$(BENCH_CC) $< -o $@

$(BENCH_DIR)/%_uring: BENCH_LINK = -luring
$(BENCH_DIR)/%_ringmsg: BENCH_LINK = -L$(PROFILE_DIR) -lringmsg -Wl,-rpath,$(PROFILE_DIR)
$(BENCH_DIR)/receive_ringmsg $(BENCH_DIR)/answer_ringmsg: include/ringmsg.h | build
$(BENCH_DIR)/%_quinn: BENCH_LINK = $(QUINN) -lpthread -ldl -lm
$(BENCH_DIR)/receive_quinn $(BENCH_DIR)/answer_quinn: $(QUINN)

$(QUINN): benches/quinn/Cargo.toml benches/quinn/Cargo.lock benches/quinn/src/lib.rs
	cd benches/quinn && $(CARGO) build --release --locked --target-dir $(abspath $(BENCH_DIR))/quinn

.PHONY: bench-tools bench-programs
bench-tools: tools
	@echo '#include <liburing.h>' | $(CC) -E -x c - >/dev/null 2>&1 || \
	  { echo "missing: liburing.h; install it with: apt-get install liburing-dev" >&2; exit 1; }
bench-programs: bench-tools $(BENCH_PROGRAMS)

$(BENCH_DIR)/speed: $(wildcard bindings/go/*.go bindings/go/uring/* bindings/go/bench/speed/*.go) $(PKGCONFIG_DIR)/ringmsg.pc | build
	@mkdir -p $(@D)
	@if command -v go >/dev/null; then cd bindings/go && PKG_CONFIG_PATH=$(PKGCONFIG_DIR) \
	  CGO_LDFLAGS=-Wl,-rpath,$(PROFILE_DIR) go build -buildvcs=false -o $(abspath $@) ./bench/speed; \
	 else echo "no Go: its rows are not measured" >&2; fi

ROUNDS ?= 5
CELLS ?=
# Not the default of SECONDS, which is that of the proofs.
BENCH_SECONDS = $(if $(filter file default undefined,$(origin SECONDS)),0.5,$(SECONDS))
BENCH_RUN = $(VENV)/bin/python benches/run.py

.PHONY: bench bench-list bench-report bench-linger
bench: bench-programs $(BENCH_DIR)/speed $(VENV)/.ready
	$(BENCH_RUN) --rounds $(ROUNDS) --seconds $(BENCH_SECONDS) $(CELLS)
	@$(MAKE) --no-print-directory figures

bench-list: $(VENV)/.ready
	@$(BENCH_RUN) --list

bench-linger: $(BENCH_DIR)/receive_ringmsg $(VENV)/.ready
	$(BENCH_RUN) --rounds $(if $(filter file,$(origin ROUNDS)),9,$(ROUNDS)) \
	  --seconds $(if $(filter file default undefined,$(origin SECONDS)),2,$(SECONDS)) $(or $(CELLS),linger-two linger-one)

# The applications: an example of this project beside programs that others use.
DNS_RESPONDERS := $(BENCH_DIR)/dns_recvfrom $(BENCH_DIR)/dns_recvmmsg build/examples/dns_responder
build/examples/dns_responder: | build

.PHONY: bench-dns bench-dns-tools bench-relay
bench-dns-tools: tools
	$(call need,dnsperf,apt-get install dnsperf)
	$(call need,nsd,apt-get install nsd)
	$(call need,knotd,apt-get install knot)
	$(call need,ip,apt-get install iproute2)
	$(call need,taskset,apt-get install util-linux)

bench-dns: DNS_SECONDS = $(if $(filter file default undefined,$(origin SECONDS)),2,$(SECONDS))
bench-dns: bench-dns-tools $(DNS_RESPONDERS) $(VENV)/.ready
	$(BENCH_RUN) --rounds $(ROUNDS) --seconds $(DNS_SECONDS) $(or $(CELLS),dns)

bench-relay: bench-tools $(filter $(BENCH_DIR)/answer_%,$(BENCH_PROGRAMS)) $(VENV)/.ready
	$(BENCH_RUN) --rounds $(ROUNDS) --seconds $(BENCH_SECONDS) $(or $(CELLS),relay-1200 relay-trains)

bench-report: $(VENV)/.ready
	@$(BENCH_RUN) --report-only
	@$(MAKE) --no-print-directory figures

# Part of `make proof`: checks that the harness works and accounts for every datagram. Measures no
# speed.
.PHONY: test-bench
test-bench: tools $(filter-out %_uring,$(BENCH_PROGRAMS)) $(DNS_RESPONDERS) $(VENV)/.ready
	@if echo '#include <liburing.h>' | $(CC) -E -x c - >/dev/null 2>&1; then \
	  $(MAKE) --no-print-directory $(BENCH_DIR)/receive_uring $(BENCH_DIR)/answer_uring; \
	 else echo "SKIPPED the rows of liburing: no liburing.h; apt-get install liburing-dev provides it"; fi
	cd benches && $(abspath $(VENV))/bin/python -m mypy --strict *.py && $(abspath $(VENV))/bin/python -m pytest -q -rs

# Sending: two programs that compare CPU time within one thread.
SENDING := $(addprefix $(BENCH_DIR)/,send_alone echo_alone)
$(SENDING): $(BENCH_DIR)/%: benches/%.c benches/by_hand.h include/ringmsg.h | build
	@mkdir -p $(@D)
	$(BENCH_CC) -Wpedantic $< -o $@ -L$(PROFILE_DIR) -lringmsg -Wl,-rpath,$(PROFILE_DIR)

.PHONY: bench-sending test-bench-sending
bench-sending: SENDING_ROUNDS = $(if $(filter file,$(origin ROUNDS)),300,$(ROUNDS))
bench-sending: $(SENDING)
	@for program in $(SENDING); do $$program $(SENDING_ROUNDS) || exit 1; done

# Part of `make proof`: that they run and every datagram arrives.
test-bench-sending: $(SENDING)
	@for program in $(SENDING); do $$program 3 >/dev/null && echo "ok: $$program" || exit 1; done
