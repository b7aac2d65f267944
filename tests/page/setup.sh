#!/usr/bin/env bash
# Installs what drives a browser and checks types into target/page, and Chromium from Debian.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/browser.sh

# What is installed is known by a copy of the list that is made last.
if ! cmp -s tests/page/package.json target/page/installed.json; then
  echo "installing Playwright, axe and TypeScript"
  mkdir -p target/page
  cp tests/page/package.json target/page/
  npm install --prefix target/page --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error
  cp tests/page/package.json target/page/installed.json
fi
