#!/usr/bin/env bash
# What one mosquitto carries on this computer: the table of docs/figures.md. Broker and fleet share its cores.
# Usage: benches/simulate.sh [SECONDS of each run, 60]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
auscult=${AUSCULT:-target/release/auscult}
dir=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listener %s 127.0.0.1\nallow_anonymous true\nlog_type error\n' "$port" >"$dir/mosquitto.conf"
ulimit -n 8192 2>/dev/null || true
PATH=$PATH:/usr/sbin mosquitto -c "$dir/mosquitto.conf" & broker=$!
trap 'kill $broker; rm -rf "$dir"' EXIT
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.1; done
for fleet in "50 4 1" "1000 4 1" "1000 4 5" "1000 8 10"; do
  read -r agents machines rate <<<"$fleet"
  echo "--agents $agents --machines $machines --rate $rate"
  "$auscult" simulate --broker "mqtt://127.0.0.1:$port" --agents "$agents" --machines "$machines" --rate "$rate" \
    --seconds "$seconds" || true
  ticks=$(awk '{print $14 + $15}' "/proc/$broker/stat")
  echo "mosquitto    $(awk '/VmHWM/ {printf "%.1f MB at most", $2 / 1024}' "/proc/$broker/status"), $(awk -v t="$ticks" -v b="${before:-0}" -v s="$seconds" 'BEGIN {printf "%.0f %% of a core", t - b < 0 ? 0 : (t - b) / s}')"
  before=$ticks
  echo
done
