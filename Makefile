# What each target needs it makes itself; none installs, starts or registers anything on this machine.
#   make            the binary with debug information
#   make release    one static binary, target/onetag
#   make demo       a five-platform image built, pushed, pulled and run, from nothing
#   make test       everything that is tested; ONETAG_REQUIRE=all makes each skip a failure
#   make soak       the long versions of the tests that come in a short one too
#   make bench      times beside other programs that are installed, as ratios
#   make fuzz       every fuzz target for FUZZ_SECONDS (nightly and cargo-fuzz)

CARGO ?= cargo
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
BINARY := $(TARGET_DIR)/onetag

.PHONY: all release demo test soak bench fuzz fixtures check clean

all:
	$(CARGO) build --locked -p onetag-cli

# Static linking needs an explicit target: without one the flags would also reach procedural macros.
release:
	RUSTFLAGS="$(RUSTFLAGS) -C target-feature=+crt-static" \
		$(CARGO) build --locked --release --target $(HOST) -p onetag-cli
	cp $(TARGET_DIR)/$(HOST)/release/onetag $(BINARY).new
	mv $(BINARY).new $(BINARY)

fixtures:
	scripts/fetch-fixtures

demo: release fixtures
	ONETAG=$(abspath $(BINARY)) scripts/demo

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --offline check bans licenses sources; fi

# What is held of the release binary is tested where every test is required, and wherever it has been built.
test: fixtures check $(if $(filter all,$(ONETAG_REQUIRE)),release)
	ONETAG_RELEASE=$(abspath $(BINARY)) $(CARGO) test --locked --workspace --no-fail-fast

soak: fixtures
	ONETAG_SOAK=200 ONETAG_TEST_EXHAUSTIVE=1 ONETAG_STORE_TEST_SECONDS=60 \
		$(CARGO) test --locked -p onetag-sandbox -p onetag-store --no-fail-fast
	ONETAG_SOAK=100 $(CARGO) test --locked -p onetag-engine --test it editing
	ONETAG_SOAK=60 $(CARGO) test --locked -p onetag-cli --test it sharing::a_builder_killed_midway
	ONETAG_SOAK=500 $(CARGO) test --locked -p onetag-cli --test it killed::killed

bench: release fixtures
	RUSTFLAGS="$(RUSTFLAGS) -C target-feature=+crt-static" \
		$(CARGO) build --locked --release --target $(HOST) -p onetag-registry --example load
	cp $(TARGET_DIR)/$(HOST)/release/examples/load $(TARGET_DIR)/load
	ONETAG=$(abspath $(BINARY)) scripts/bench

FUZZ_SECONDS ?= 600
fuzz:
	cd fuzz && for target in $$($(CARGO) +nightly fuzz list); do \
		$(CARGO) +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 || exit 1; \
	done

clean:
	$(CARGO) clean
