# The commands that one really uses; CONTRIBUTING.md explains them. Each installs by itself what it lacks.

.PHONY: build run demo train test test-heavy test-all lint setup figures home-assistant-check deb deb-check pi-check deb-arm64

CARGO = cargo

build: setup               ## target/release/auscult; also what `make` alone does
	$(CARGO) build --release

setup:
	tests/setup.sh build

run: setup                 ## the agent on config/agent.toml
	$(CARGO) run --release -- run --config config/agent.toml

demo: setup                ## the whole thing in the terminal, with nothing to configure
	$(CARGO) run --release -- demo

train:                     ## models/demo anew: some minutes; goes on where it was interrupted
	tests/setup.sh build
	tests/setup.sh train
	$(CARGO) build --release
	models/train/demo.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --release --all-targets -- -D warnings
	$(CARGO) check --release --no-default-features
	$(CARGO) check --release --no-default-features --features web
	$(CARGO) check --release --no-default-features --features demo

test:                      ## every test but the heavy ones
	tests/setup.sh
	tests/run.sh

test-heavy:                ## the heavy ones: Node-RED in a browser, InfluxDB, training, packages, long outages, clusters of brokers
	tests/setup.sh heavy
	tests/run.sh -- --ignored

test-all: test test-heavy  ## every test

figures: setup             ## what the README's figures come from; fetches the original's libraries once
	benches/figures.py

home-assistant-check: setup ## an agent in a real Home Assistant, in a Debian 13 root that is made once; as root
	$(CARGO) build --release
	tests/home-assistant/check.sh

deb: setup                 ## the Debian package
	deploy/deb/build.sh

deb-check: deb             ## installs, upgrades and removes it in a clean root; as root
	tests/deb/check.sh "$$(ls -t target/debian/auscult_*_$$(dpkg --print-architecture).deb | head -1)"

pi-check: deb              ## provisions a Debian with systemd in a container, and looks how the service fares; as root
	tests/deb/pi.sh "$$(ls -t target/debian/auscult_*_$$(dpkg --print-architecture).deb | head -1)"

deb-arm64:                 ## cross-built for the Pi, its golden tests under qemu
	deploy/deb/arm64.sh
