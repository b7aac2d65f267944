#!/usr/bin/env bash
# Runs every test once, and names the ten slowest at the end. Usage: tests/run.sh [CARGO'S ARGUMENTS] [-- TEST ARGUMENTS]
# Most tests wait for a broker, a sound server or an agent: more of them run at a time than there are processors.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${host}_RUNNER=$PWD/tests/timed.sh"
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 4))}
begun=$SECONDS
cargo test --release --no-fail-fast "$@" 2>&1 | tee "$log"
status=$?
echo "the ten slowest of all tests, which took $((SECONDS - begun)) s together with what had to be built:"
sed -nE 's/^test (.*) \.\.\. (ok|FAILED) <([0-9.]+)s>$/\3 \1/p' "$log" | sort -rn | head -10 | awk '{ printf "%8.1f s  %s\n", $1, $2 }'
exit "$status"
