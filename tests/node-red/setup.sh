#!/usr/bin/env bash
# Installs Node-RED, its dashboard and what drives a browser into target/node-red, and Chromium from Debian.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/browser.sh

# What is installed is known by a copy of the list that is made last.
if ! cmp -s tests/node-red/package.json target/node-red/installed.json; then
  echo "installing Node-RED"
  mkdir -p target/node-red
  cp tests/node-red/package.json target/node-red/
  npm install --prefix target/node-red --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error
  cp tests/node-red/package.json target/node-red/installed.json
fi
