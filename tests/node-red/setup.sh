#!/usr/bin/env bash
# Installs Node-RED, its dashboard and what drives a browser into target/node-red, and Chromium from Debian.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/browser.sh
npm_packages tests/node-red/package.json target/node-red
