#!/usr/bin/env bash
# Installs Node-RED, its dashboard and what drives a browser into target/node-red, and Chromium from Debian.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=()
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
command -v npm >/dev/null || missing+=(nodejs npm)
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# What is installed is known by a copy of the list that is made last.
if ! cmp -s tests/node-red/package.json target/node-red/installed.json; then
  echo "installing Node-RED"
  mkdir -p target/node-red
  cp tests/node-red/package.json target/node-red/
  npm install --prefix target/node-red --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error
  cp tests/node-red/package.json target/node-red/installed.json
fi
