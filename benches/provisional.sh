#!/usr/bin/env bash
# How a baseline of the first 40 windows does in the hours after: false alarms on healthy simulated machines, and faults that
# begin after 20 minutes. Needs some hundred MB below TMPDIR.   provisional.sh [AUSCULT]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
auscult=${1:-$root/target/release/auscult}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
replay() { # minutes learned, name, file, more
    local learn=$1 name=$2 file=$3
    shift 3
    "$auscult" replay --bundle "$root/models/demo" --machine "$name" --learn "$learn" --alarm slow_windows=0 "$@" "$file" 2>/dev/null
}
echo "healthy, 2 h each: minutes learned, anomalous windows of those judged, alarms"
for kind in fan blower pump; do
    for number in 1 2; do
        name=$kind-h$number file=$dir/healthy.wav
        "$auscult" synth "$kind" --id "$name" --minutes 120 -o "$file" >/dev/null
        for learn in 3.35 60; do
            replay "$learn" "$name" "$file" |
                awk -v who="$name" -v learn="$learn" '/^anomalous/ {share=$4 " " $5} /^alarms/ {alarms=$2} END {print who, learn " min:", share ",", alarms+0, "alarms"}'
        done
        rm "$file"
    done
done
echo "a fault of strength 0.6 after 20 min: minutes learned, how late it was found"
for pair in "fan rub" "fan bursts" "blower bearing" "blower loose" "pump cavitation" "pump blocked"; do
    read -r kind fault <<<"$pair"
    name=$kind-f file=$dir/ill.wav
    "$auscult" synth "$kind" --id "$name" --minutes 40 --fault "$fault" --strength 0.6 --fault-after 1200 -o "$file" >/dev/null
    for learn in 3.35 15; do
        found=$(replay "$learn" "$name" "$file" --fault-at 1200 | grep "^fault found" || true)
        echo "$name $fault, $learn min: ${found:-not found}"
    done
    rm "$file"
done
