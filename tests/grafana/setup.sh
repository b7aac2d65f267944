#!/usr/bin/env bash
# Installs InfluxDB 1.6 from Debian; its service is not needed and stays off.
set -euo pipefail
command -v influxd >/dev/null && exit 0
. "$(dirname "$0")/../apt.sh"
apt_install influxdb
