#!/usr/bin/env bash
# Builds every test, runs each once, and names the ten slowest at the end. Usage: tests/run.sh [CARGO'S ARGUMENTS] [-- TEST ARGUMENTS]
# Most tests wait for a broker, a sound server or an agent: more of them run at a time than there are processors, and two of
# their binaries beside each other, the heavy ones one by one. What a binary prints is shown when it has ended.
set -uo pipefail
cd "$(dirname "$0")/.."
cargo_arguments=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  cargo_arguments+=("$1")
  shift
done
[ $# -gt 0 ] && shift
at_a_time=2
[[ " $* " == *" --ignored "* ]] && at_a_time=1
logs=$(mktemp -d) built_list=$(mktemp)
declare -A running=()
trap 'for pid in "${!running[@]}"; do kill "$pid" 2>/dev/null; done; rm -rf "$logs" "$built_list"' EXIT
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 4))}

begun=$SECONDS
cargo test --workspace --release --no-run --message-format=json-render-diagnostics "${cargo_arguments[@]}" >"$built_list" || exit
built=$((SECONDS - begun))
# The one that takes longest is not left to the end.
mapfile -t binaries < <(jq -rs 'map(select(.profile.test? and .executable)) | sort_by(.target.name != "control")[] |
  "\(.target.name) \(.executable)"' "$built_list")

status=0
# Waits until fewer than this many are running, and shows what the others have printed.
wait_for_fewer_than() {
  local ended result
  while [ ${#running[@]} -ge "$1" ]; do
    result=0
    wait -n -p ended "${!running[@]}" || result=$?
    echo "the tests of ${running[$ended]}:"
    cat "$logs/${running[$ended]}"
    [ "$result" = 0 ] || { status=1 && echo "FAILED: the tests of ${running[$ended]}, exit code $result"; }
    unset "running[$ended]"
  done
}
for binary in "${binaries[@]}"; do
  name=${binary%% *}
  [ -e "$logs/$name" ] && name="$name-main"
  wait_for_fewer_than "$at_a_time"
  # libtest's option that prints how long each test took is not stable yet, so it wants to be asked like a nightly one.
  RUSTC_BOOTSTRAP=1 "${binary#* }" -Z unstable-options --report-time "$@" >"$logs/$name" 2>&1 &
  running[$!]=$name
done
wait_for_fewer_than 1
[ ${#binaries[@]} -gt 0 ] || { status=1 && echo "FAILED: no tests were found"; }

echo "built in $built s, tested in $((SECONDS - begun - built)) s; the ten slowest of all tests:"
cat "$logs"/* | sed -nE 's/^test (.*) \.\.\. (ok|FAILED) <([0-9.]+)s>$/\3 \1/p' | sort -rn | head -10 | awk '{ printf "%8.1f s  %s\n", $1, $2 }'
exit "$status"
