# What each target needs it makes itself; none installs, starts or registers anything on this machine.
#   make            the binary with debug information
#   make release    one static binary, target/onetag
#   make demo       a five-platform image built, pushed, pulled and run, from nothing
#   make test       everything that is tested; ONETAG_REQUIRE=all makes each skip a failure

CARGO ?= cargo
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
BINARY := $(TARGET_DIR)/onetag

.PHONY: all release demo test fixtures check clean

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

clean:
	$(CARGO) clean
