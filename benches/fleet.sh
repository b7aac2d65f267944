#!/usr/bin/env bash
# How long a retune of a fleet takes: AGENTS agents (50) on one mosquitto, half of them with the tag that is meant; the time
# from `auscult ctl` sending the command to the last reply. Prints a table row for docs/figures.md.
# Usage: benches/fleet.sh [ROUNDS]   with a release build of auscult in target/release
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
agents=${AGENTS:-50}
auscult=${AUSCULT:-target/release/auscult}
dir=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$dir"
}
trap finish EXIT

port=$((20000 + RANDOM % 20000))
printf 'listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n' "$port" >"$dir/mosquitto.conf"
PATH=$PATH:/usr/sbin mosquitto -c "$dir/mosquitto.conf" >/dev/null 2>&1 &
pids+=($!)
broker=mqtt://127.0.0.1:$port
for number in $(seq "$agents"); do
  mkdir "$dir/$number"
  cat >"$dir/$number/agent.toml" <<TOML
[agent]
id = "pi-$number"
tags = ["$([ $((number % 2)) = 0 ] && echo north || echo south)"]
state_dir = "$dir/$number/state"
[mqtt]
url = "$broker"
[bundle]
path = "$dir/none"
[[machine]]
id = "fan-1"
threshold = 0.25
source = { synth = "fan" }
TOML
  "$auscult" run --config "$dir/$number/agent.toml" 2>"$dir/$number/log" &
  pids+=($!)
done
for _ in $(seq 100); do
  online=$("$auscult" ctl --broker "$broker" --fleet --json ping 2>/dev/null | wc -l) || true
  [ "$online" = "$agents" ] && break
  sleep 1
done
echo "$online of $agents agents are online"
for round in $(seq "$rounds"); do
  "$auscult" ctl --broker "$broker" --fleet --tag north --json threshold.set --machine '*' --threshold "0.3$round" \
    >"$dir/replies" 2>"$dir/said"
  others=$(grep -cvE "$(printf '"agent":"pi-[0-9]*[02468]"')" "$dir/replies") || true
  echo "round $round: $(wc -l <"$dir/replies") replies, $others of them from others; $(cat "$dir/said")"
done
