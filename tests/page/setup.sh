#!/usr/bin/env bash
# Installs what drives a browser and checks types into target/page, and Chromium from Debian.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/browser.sh
npm_packages tests/page/package.json target/page
