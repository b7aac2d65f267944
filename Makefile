# The commands that one really uses; CONTRIBUTING.md explains them. Each installs by itself what it lacks.

.PHONY: run test test-all lint setup

CARGO = cargo

setup:
	tests/setup.sh build

run: setup                 ## the agent on config/agent.toml
	$(CARGO) run --release -- run --config config/agent.toml

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings

test:                      ## every test but the heavy ones
	tests/setup.sh
	$(CARGO) test --release

test-all: test             ## the heavy ones too
	$(CARGO) test --release -- --ignored
