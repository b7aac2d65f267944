#!/usr/bin/env bash
# Installs InfluxDB 1.6 from Debian; its service is not needed and stays off.
set -euo pipefail
command -v influxd >/dev/null && exit 0
echo "installing influxdb"
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
as_root apt-get update -qq
as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends influxdb >/dev/null
