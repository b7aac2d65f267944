#!/usr/bin/env bash
# Makes models/demo: simulates the recordings, trains on them, writes the bundle and its report. `make train` calls it.
# Interrupted, it goes on where it was. Usage: models/train/demo.sh [OUT] [WORK]
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-models/demo} work=${2:-target/train}
python=target/train-venv/bin/python
auscult=${AUSCULT:-target/release/auscult}
# The machines of the bundle, and others that only teach the encoder what machines can sound like.
machines=(fan-a fan-b fan-c blower-a blower-b blower-c pump-a pump-b pump-c)
teachers=(fan-1 fan-2 fan-3 blower-1 blower-2 blower-3 pump-1 pump-2 pump-3)
"$python" models/train/simulate.py --auscult "$auscult" --out "$work/data" --machines "${machines[@]}" --normal 200 --abnormal 4
"$python" models/train/simulate.py --auscult "$auscult" --out "$work/data" --machines "${teachers[@]}" --normal 100 --abnormal 0
"$python" models/train/train.py --auscult "$auscult" --data "$work/data" --work "$work" --out "$out" \
  --ship "${machines[@]}" --epochs 1 --seed 1 --name demo --bundle-version 1 \
  --description "Simulated fans, blowers and pumps; made by models/train/demo.sh"
